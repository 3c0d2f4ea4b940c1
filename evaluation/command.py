"""`python -m evaluation score`: folders in, a table, a row a picture, and what could not be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from common.progress import say
from common.storage import Storage
from evaluation import asked
from evaluation.features import Copied
from evaluation.head import head_of, strange
from evaluation.method_facts import read_facts
from evaluation.metrics.base import Metric, NotMeasured, Protocol, Sources, Unavailable
from evaluation.metrics.hub_models import find_model, is_hub_name
from evaluation.metrics.registry import METRICS, ROLES
from evaluation.out import Comparison, claim
from evaluation.report.latex import latex
from evaluation.report.page import render
from evaluation.report.text import comma_separated, markdown
from evaluation.score import KEY, OF_REFERENCE, score
from evaluation.sets import Method, Reference, SetError, open_method, open_references
from evaluation.table import Column, by_category, column_of, not_measured, with_absent
from evaluation.votes import VotesFile, compared_of, open_votes, require_compared, votes_column

TOLD = 20  # pictures that are named one by one on the console


@dataclass(frozen=True)
class ScoreOptions:
    """`pictures`: NAME=FOLDER of each method; `weights`: a folder of model files, looked in first."""

    references: str
    pictures: list[str]
    out: str
    weights: str | None = None
    models: list[str] = field(default_factory=list)  # ROLE=FOLDER, ROLE=FILE or ROLE=NAME
    prompts: str | None = None
    seed: int = 0
    votes: list[str] = field(default_factory=list)  # files that the page exported
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    device: str = "auto"
    workers: int | None = None  # actors of Ray; None: as many as are worth it
    copied: Copied | None = None  # where nodes read pictures that are copies of a bucket's


def score_command(options: ScoreOptions) -> int:
    """Score all methods, and write table.md, table.tex, table.csv, report.html, scores/*.parquet to `out`; as `score_methods`.

    All that a person named is looked at before anything is written.

    Raises:
        SetError: references or pictures that cannot be compared, or `out` holds another table.
    """
    require_sources(options.weights, options.models, options.device)
    votes = open_votes(options.votes)
    references = open_references(Path(options.references))
    prompts = asked.read_prompts(Path(options.prompts)) if options.prompts else ()
    out = Storage(options.out)
    kept = asked.frozen(out)
    words = {prompt.name: prompt.words for prompt in prompts or (kept.prompts if kept else ())}
    methods = [open_method(*_named(text), references, words) for text in options.pictures]
    require_comparable(methods)
    if options.prompts:
        _require_used(options.prompts, words, methods)
    require_compared(votes, compared_of(methods))
    _require_apart(out, [Path(options.references), *(method.folder for method in methods if method.folder)])
    claim(out, Comparison.of(options.references, references, methods))
    return score_methods(references, methods, options, prompts, votes)


def _require_used(file: str, words: Mapping[str, str], methods: Sequence[Method]) -> None:
    """Raises SetError: a file of prompts of which no picture is filed under any."""
    filed = sorted({item.prompt for method in methods for item in method.drawn if item.prompt})
    if filed and not set(filed) & {*words, *words.values()}:
        raise SetError(
            f"--prompts {file}: names none of the prompts that pictures are filed under: {', '.join(filed[:3])}"
        )


def _require_apart(out: Storage, folders: Sequence[Path]) -> None:
    """Raises SetError: the table would be among the photos or the pictures, and be read as one of them the next time."""
    for folder in folders if out.is_local else ():
        if Path(out.path("")).resolve().is_relative_to(folder.resolve()):
            raise SetError(f"--out {out.root}: is in {folder}, which it is of: take another --out")


def require_comparable(methods: Sequence[Method], others: Sequence[str] = ()) -> None:
    """Looks at what a person named of these methods. `others`: names of rows that are yet to be drawn.

    Raises:
        SetError: two methods have one name, or what one says of itself cannot be read.
    """
    names = Counter([*(method.name for method in methods), *others])
    if twice := [name for name, number in names.items() if number > 1]:
        raise SetError(
            f"two methods are called {twice[0]}: give each its own name, NAME=FOLDER, or a program's file another `title`"
        )
    for method in methods:
        if method.folder:
            read_facts(method.folder)


def require_sources(weights: str | None, models: Sequence[str], device: str) -> None:
    """Looks at what a person named of the machine and the models of metrics.

    Raises:
        SetError: no such folder, model or device.
    """
    if weights and not Path(weights).expanduser().is_dir():
        raise SetError(f"--weights {weights}: no such folder")
    for role, place in named_models(models).items():
        if Path(place).expanduser().exists():
            continue
        if ROLES[role] == "FILE" or not is_hub_name(place):
            raise SetError(f"{role}={place}: no such {ROLES[role].lower()}")
        try:
            find_model(role, place, Sources())
        except Unavailable as error:
            raise SetError(f"{role}={place}: neither a folder here nor one of the hub's: {error}") from error
    if device != "auto":
        _require_device(device)


def _require_device(name: str) -> None:
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:200]
        raise SetError(f"--device {name}: torch has no such device here ({why}): give auto or cpu") from error


def freeze_command(prompts: str, seeds: Sequence[str], out: str) -> None:
    """Freeze prompts and seeds, before anything is drawn.

    Raises:
        SetError: prompts that cannot be read, or others are frozen there.
    """
    asked.require_seeds(seeds)
    wanted = asked.Asked(asked.read_prompts(Path(prompts)), tuple(seeds))
    asked.freeze(wanted, Storage(out))
    say("freeze", f"prompts and seeds {wanted}: {Storage(out).url(asked.NAME)}")


def score_methods(
    references: list[Reference], methods: list[Method], options: ScoreOptions, prompts: Sequence[asked.Prompt] = (),
    votes: Sequence[VotesFile] = (), since: Collection[str] = (),
) -> int:  # fmt: skip
    """The same, of methods that are open already; 0, or 1 where nothing at all could be scored.

    `prompts`: that the table is made with, where they are given; `since`: methods that are known to have drawn after
    prompts were frozen in `out`.
    """
    sources = Sources(options.weights, named_models(options.models), options.device)
    there = [method for method in methods if not method.absent]
    for method in there:
        _tell(method)
    out = Storage(options.out)
    kept = asked.frozen(out)
    told = asked.facts(methods, kept, prompts, since)
    for line in told:
        say("score", line)
    head = head_of(references, methods, Path(options.references), told)
    categories = asked.categories_of(prompts or (kept.prompts if kept else ()))
    parts: list[Column] = []  # of the categories
    columns: list[Column] = [votes_column(votes, there, options.seed)] if votes else []
    all_scores = pd.DataFrame(_pictures_of(there), columns=[*KEY, "error"])
    opened = {title: _open(title, sources) for title in options.metrics}
    for why, titles in _by_reason(opened).items():
        say("score", f"{', '.join(titles)}: {why}")
    usable = {title: item for title, item in opened.items() if isinstance(item, Metric)}
    scores = score(usable, there, out, sources, options.workers, options.copied)
    for title, metric in opened.items():
        if isinstance(metric, str):
            protocols: tuple[Protocol, ...] = ("sound", "reconstructed")
            columns += [not_measured(NotMeasured(title, protocol, metric), there) for protocol in protocols]
            continue
        scored = next(scores)
        out.write_table(f"scores/{metric.name}.parquet", pa.Table.from_pandas(scored.rows, preserve_index=False))
        columns += [column_of(figure, scored, there, options.seed) for figure in metric.figures()]
        parts += by_category(metric.figures(), scored, there, categories, options.seed)
        all_scores = _beside(all_scores, metric.name, scored.rows)
    columns, parts = ([with_absent(column, methods) for column in some] for some in (columns, parts))
    errors = all_scores[all_scores["error"] != ""]
    for row in errors.head(TOLD).itertuples():
        say("score", f"{row.method}: {row.file or row.reference}: {row.error}")
    if len(errors) > TOLD:
        say("score", f"and {len(errors) - TOLD:,} more that could not be scored or have a remark: scores/, report.html")
    if errors["error"].str.startswith(OF_REFERENCE).any():
        say("score", "a reference that cannot be used is left out of every method's numbers")
    text = markdown(columns, methods, head.lines(methods), errors, parts)
    out.write_bytes("table.md", text.encode())
    out.write_bytes("table.tex", latex(columns, methods, head).encode())
    out.write_bytes("table.csv", comma_separated([*columns, *parts], methods).encode())
    out.write_bytes("report.html", render(references, methods, columns, all_scores, head, parts))
    print(text)
    say("score", f"the table: {out.url('table.md')}; a row a picture: {out.url('scores')}")
    say("score", f"the pictures: {out.url('report.html')}")
    if any_number(all_scores):
        return 0
    say("score", "nothing could be scored: the table says why", style="yellow")
    return 1


def any_number(scores: pd.DataFrame) -> bool:
    """Whether any picture has a number by any metric."""
    numbers = scores.drop(columns=[*KEY, "error"]).select_dtypes("number")
    return bool(numbers.notna().any(axis=None))


def _open(title: str, sources: Sources) -> Metric | str:
    """The metric, or why it cannot be had here."""
    try:
        return METRICS[title](sources)
    except Unavailable as error:
        return " ".join(str(error).split())


def _by_reason(opened: Mapping[str, Metric | str]) -> dict[str, list[str]]:
    """The metrics that cannot be had, by why: several may lack the same file."""
    reasons: dict[str, list[str]] = {}
    for title, metric in opened.items():
        if isinstance(metric, str):
            reasons.setdefault(metric, []).append(title)
    return reasons


def _pictures_of(methods: Sequence[Method]) -> list[tuple[str, ...]]:
    return [
        (method.name, item.reference.name, item.prompt, item.seed, str(item.file or ""), "")
        for method in methods
        for item in method.drawn
    ]


def _beside(known: pd.DataFrame, metric: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Another metric's numbers beside those of the metrics before, under its name; an error of either stands."""
    named = rows.rename(columns=lambda column: column if column in KEY else f"{metric}: {column}")
    joined = known.merge(named, on=KEY)
    joined["error"] = joined["error"].where(joined["error"] != "", joined.pop(f"{metric}: error"))
    return joined


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals:
        name, folder = Path(text).absolute().name, text
    if not name or not folder:
        raise SetError(f"{text}: write NAME=FOLDER of a method's pictures, or the folder alone")
    return name, Path(folder).expanduser()


def named_models(texts: Sequence[str]) -> dict[str, str]:
    """The folder, file or name of each text ROLE=PLACE, by role.

    Raises:
        SetError: none of the roles.
    """
    named = {}
    for text in texts:
        role, equals, place = text.partition("=")
        if not equals or role not in ROLES:
            raise SetError(f"{text}: names no model: write {' or '.join(map('='.join, ROLES.items()))}")
        named[role] = place
    return named


def _tell(method: Method) -> None:
    found = len(method.drawn) - method.missing
    say("score", f"{method.name}: {found:,} pictures; {method.missing:,} that others have are missing{strange(method)}")
