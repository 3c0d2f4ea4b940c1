"""`make evaluate`: every method's pictures of the same references, prompts and seeds, and the table of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cluster.environment import inside_job
from common.errors import UserError
from common.local_files import make_folder
from common.progress import say
from evaluation import asked
from evaluation.builders.build import ReferencesOptions, references_command
from evaluation.cluster.mirror import Mirror, mirrored
from evaluation.cluster.options import EvaluateOptions
from evaluation.command import ScoreOptions, require_comparable, require_sources, score_methods
from evaluation.methods import registry
from evaluation.methods.drawing import Hands
from evaluation.methods.sources import MethodSources
from evaluation.out import EVALUATE, Comparison, at_work_alone, claim, refused_leaves_nothing, require_free
from evaluation.sets import Drawn, Method, Reference, open_references
from evaluation.votes import compared_of, open_votes, require_compared

SEED = 42  # of the published figures


def evaluate_command(options: EvaluateOptions) -> int:
    """Draw what is not drawn yet, score it, and write the table; 0, or 1 where nothing could be scored.

    On the Ray of a job or of RAY_ADDRESS, with `actors`, or where this machine has several GPUs, methods and metrics are groups
    of its actors; else all is done in this process. All that a person named is looked at before anything is drawn; what is
    refused leaves nothing behind.

    Raises:
        UserError: no shards, a method or a place that is not there, or a folder of another evaluation.
    """
    if not _wants_ray(options):
        with mirrored(options.out) as mirror:
            return _evaluate(options, mirror, Hands(kept=mirror.kept, price=options.price))
    from common.cluster.nodes import require_alike
    from common.cluster.runtime import connected
    from evaluation.methods.on_ray import Crew, paid_units

    with mirrored(options.out) as mirror, connected(options.actors):
        require_alike(lambda: None)
        hands = Hands(Crew(options.actors), mirror.kept, options.price * paid_units())
        return _evaluate(options, mirror, hands)


def _wants_ray(options: EvaluateOptions) -> bool:
    if options.actors is not None or inside_job() or os.environ.get("RAY_ADDRESS"):
        return True
    if options.device != "auto":
        return False
    import torch

    return torch.cuda.device_count() > 1


def _evaluate(options: EvaluateOptions, mirror: Mirror, hands: Hands) -> int:
    out, folder, storage = mirror.folder, mirror.folder / "references", mirror.storage
    # on a cluster the nodes' devices count, not this machine's
    require_sources(options.weights, options.models, "auto" if hands.crew else options.device)
    votes = open_votes(options.votes)
    wanted = asked.Asked(
        asked.read_prompts(Path(options.prompts)), tuple(str(SEED + index) for index in range(options.images))
    )
    named = dict(_pair(text) for text in options.parts)
    sources = MethodSources(options.weights, named, options.changes, options.device, options.dtype)
    rows = registry.rows_of(options.methods, sources)
    asked.require_same(wanted, storage)
    require_free(storage, Comparison(EVALUATE))
    with refused_leaves_nothing(out), refused_leaves_nothing(folder), refused_leaves_nothing(out / "twins"):
        make_folder(out)
        references_command(ReferencesOptions("shards", options.shards, str(folder), options.count, options.trained_on))
        references = open_references(folder)
        there = {row: row(references, wanted, out / "pictures") for row in rows if not row.draws}
        if options.twins:
            rows += registry.twin_rows(options.methods, sources, out / "twins")
        require_comparable(list(there.values()), [row.title for row in rows if row.draws])
        require_compared(votes, compared_of([*there.values(), *_to_be_drawn(rows, references, wanted)]))
    with at_work_alone(storage):
        claim(storage, Comparison(EVALUATE))
        asked.freeze(wanted, storage)
        mirror.send()
        say("evaluate", f"{len(references):,} references x {len(wanted.prompts)} prompts x {options.images} seeds")
        methods = []
        for row in rows:
            methods.append(there.get(row) or row(references, wanted, out / "pictures", hands))
            mirror.send()
        of_metrics = ScoreOptions(
            str(folder), [], options.out, options.weights, options.models, device=options.device, workers=options.actors,
            copied=mirror.copied,
        )  # fmt: skip
        return score_methods(
            references, methods, of_metrics, wanted.prompts, votes, {row.title for row in rows if row.draws}
        )


def _to_be_drawn(
    rows: Sequence[registry.Row], references: Sequence[Reference], wanted: asked.Asked
) -> Iterator[Method]:
    """What the rows that draw will have, without a picture yet."""
    drawn = [
        Drawn(reference, prompt.name, seed, None, prompt.words)
        for reference in references for prompt in wanted.prompts for seed in wanted.seeds
    ]  # fmt: skip
    yield from (Method(row.title, tuple(drawn), ()) for row in rows if row.draws)


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or "." not in name:
        raise UserError(f"--part {text}: write METHOD.ROLE=PLACE")
    return name, place
