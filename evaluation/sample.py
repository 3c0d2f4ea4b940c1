"""`make evaluate`: every method's pictures of the same references, prompts and seeds, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.progress import say
from common.storage import Storage
from evaluation import asked
from evaluation.builders.build import ReferencesOptions, references_command
from evaluation.command import ScoreOptions, named_models, score_methods
from evaluation.methods import registry
from evaluation.methods.sources import MethodSources
from evaluation.sets import open_references

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
    """Draw what is not drawn yet, score it, and write the table; 0.

    Raises:
        UserError: no shards, a method or a place that is not there, or a folder of another evaluation.
    """
    out = Path(options.out)
    named_models(options.models)
    prompts = asked.read_prompts(Path(options.prompts))
    named = dict(_pair(text) for text in options.parts)
    sources = MethodSources(options.weights, named, options.changes, options.device, options.dtype)
    rows = registry.rows_of(options.methods, sources)
    folder = out / "references"
    references_command(ReferencesOptions("shards", options.shards, str(folder), options.count, options.trained_on))
    references = open_references(folder)
    if options.twins:
        rows += registry.twin_rows(options.methods, sources, out / "twins")
    wanted = asked.Asked(prompts, tuple(str(SEED + index) for index in range(options.images)))
    asked.freeze(wanted, Storage(out))
    say("evaluate", f"{len(references):,} references x {len(prompts)} prompts x {options.images} seeds")
    methods = [row(references, wanted, out / "pictures") for row in rows]
    score_methods(
        references,
        methods,
        ScoreOptions(
            str(folder), [], str(out), options.weights, options.models, votes=options.votes, device=options.device
        ),
        prompts,
    )
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or "." not in name:
        raise UserError(f"--part {text}: write METHOD.ROLE=PLACE")
    return name, place
