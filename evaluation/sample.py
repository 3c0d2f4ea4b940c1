"""`make evaluate`: every method's pictures of the same references, prompts and seeds, and the table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.progress import say
from common.storage import Storage
from evaluation import asked
from evaluation.builders.build import ReferencesOptions, references_command
from evaluation.command import ScoreOptions, require_comparable, require_sources, score_methods
from evaluation.methods import registry
from evaluation.methods.sources import MethodSources
from evaluation.out import EVALUATE, Comparison, claim, refused_leaves_nothing, require_free
from evaluation.sets import Drawn, Method, Reference, open_references
from evaluation.votes import compared_of, open_votes, require_compared

PROMPTS = Path(__file__).parent / "prompts" / "own.yaml"
SEED = 42  # of the published figures


@dataclass(frozen=True)
class EvaluateOptions:
    """`shards`: where references are taken from; `methods`: names of the registry, NAME=FOLDER or NAME=FILE.yaml; `images`:
    pictures a reference and prompt; `parts`: METHOD.ROLE=PLACE; `changes`: METHOD.SETTING=VALUE; `models`: ROLE=PLACE, of metrics."""

    shards: str
    out: str
    count: int
    images: int
    methods: Sequence[str] = registry.DEFAULT
    parts: Sequence[str] = ()
    changes: Sequence[str] = ()
    prompts: str = str(PROMPTS)
    models: list[str] = field(default_factory=list)
    weights: str | None = None
    trained_on: str | None = None
    votes: list[str] = field(default_factory=list)
    device: str = "auto"
    dtype: str = "auto"
    twins: bool = False  # also a tiny random twin of each method that has one


def evaluate_command(options: EvaluateOptions) -> int:
    """Draw what is not drawn yet, score it, and write the table; 0, or 1 where nothing could be scored.

    All that a person named is looked at before anything is drawn; what is refused leaves nothing behind.

    Raises:
        UserError: no shards, a method or a place that is not there, or a folder of another evaluation.
    """
    out, folder, storage = Path(options.out), Path(options.out) / "references", Storage(options.out)
    require_sources(options.weights, options.models, options.device)
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
        references_command(ReferencesOptions("shards", options.shards, str(folder), options.count, options.trained_on))
        references = open_references(folder)
        there = {row: row(references, wanted, out / "pictures") for row in rows if not row.draws}
        if options.twins:
            rows += registry.twin_rows(options.methods, sources, out / "twins")
        require_comparable(list(there.values()), [row.title for row in rows if row.draws])
        require_compared(votes, compared_of([*there.values(), *_to_be_drawn(rows, references, wanted)]))
    claim(storage, Comparison(EVALUATE))
    asked.freeze(wanted, storage)
    say("evaluate", f"{len(references):,} references x {len(wanted.prompts)} prompts x {options.images} seeds")
    methods = [there.get(row) or row(references, wanted, out / "pictures") for row in rows]
    of_metrics = ScoreOptions(str(folder), [], str(out), options.weights, options.models, device=options.device)
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
