"""`python -m evaluation references`: photos from a source, checked, as a folder of references with a manifest."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.decode import Undecodable, decode, sniff
from common.hashing import sha256_of_bytes
from common.progress import say
from evaluation.builders.candidates import Candidate, Candidates
from evaluation.builders.from_folder import from_folder
from evaluation.builders.from_multiid import from_multiid
from evaluation.builders.from_shards import from_shards
from evaluation.builders.from_urls import Kept, from_urls, read_list
from evaluation.builders.leakage import REASONS, Trained, read_trained
from evaluation.manifest import Leakage, LeftOut, Manifest, Row, read_manifest
from evaluation.out import refused_leaves_nothing
from evaluation.sets import SUFFIXES, TARGETS, SetError
from generation.names import folded, name_for_files

PART, PHOTOS = ".part", "photos"  # where a set is made before it takes its place
SOURCES: dict[str, Callable[[str, Path], Candidates]] = {  # of a source, and the folder that is built
    "shards": lambda source, out: from_shards(source),
    "urls": lambda source, out: from_urls(read_list(Path(source)), Kept(out, out / PART / "urls")),
    "multiid": lambda source, out: from_multiid(Path(source)),
    "folder": lambda source, out: from_folder(Path(source)),
}
ENDINGS = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}


@dataclass(frozen=True)
class ReferencesOptions:
    """`kind`: of SOURCES; `count`: how many at most; `trained_on`: a run or shards that no reference may be of; `licence`:
    of the photos whose source does not say."""

    kind: str
    source: str
    out: str
    count: int | None = None
    trained_on: str | None = None
    licence: str = ""


def references_command(options: ReferencesOptions) -> Manifest:
    """Build the folder `out`, and say what is in it. Begun again it is the same.

    Raises:
        SetError: a source that cannot be read, too few photos, or another set in `out`.
    """
    trained = read_trained(options.trained_on) if options.trained_on else None
    manifest = build(SOURCES[options.kind](options.source, Path(options.out)), options, trained)
    say("references", f"{len(manifest.references):,} references of {options.source}: {options.out}")
    for reason, number in Counter(row.reason for row in manifest.left_out).most_common(10):
        say("references", f"{number:,} left out: {reason}")
    say("references", manifest.leakage.sentence())
    return manifest


def build(candidates: Candidates, options: ReferencesOptions, trained: Trained | None = None) -> Manifest:
    """Photos of `candidates` as a folder with a manifest, up to `options.count`, none of them of `trained`.

    Raises:
        SetError: none, fewer than asked for, or another set in the folder.
    """
    out, part = Path(options.out), Path(options.out) / PART
    begun = Manifest(kind=options.kind, source=options.source, count=options.count, leakage=_asked(trained))
    before = _before(out, begun)
    with refused_leaves_nothing(out), refused_leaves_nothing(part):
        for folder in (part / PHOTOS, part / PHOTOS / TARGETS):
            folder.mkdir(parents=True, exist_ok=True)
        done = _collected(candidates, options, trained, begun, part / PHOTOS)
    begun.write(out)  # a kill from here on leaves a set that is said not to be finished
    (out / TARGETS).mkdir(exist_ok=True)
    for row in done.references:
        for name in filter(None, (row.file, row.target, row.words and f"{row.name}.txt")):
            (part / PHOTOS / name).replace(out / name)
    _remove_old(out, before, done)
    done.write(out)
    shutil.rmtree(part)
    return done


def _collected(
    candidates: Candidates, options: ReferencesOptions, trained: Trained | None, begun: Manifest, folder: Path
) -> Manifest:
    """The finished manifest of the photos, which are then in `folder`.

    Raises:
        SetError: none, or fewer than asked for.
    """
    count = options.count
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    leaks: Counter[str] = Counter()
    seen: dict[str, str] = {}
    for item in candidates:
        if count is not None and len(rows) == count:
            break
        if isinstance(item, LeftOut):
            left_out.append(item)
            continue
        reason = _write(item, folder, options, trained, rows, seen, leaks)
        if reason:
            left_out.append(LeftOut(name=item.url or item.key, reason=reason))
    if not rows or count is not None and len(rows) < count:
        gone = "; ".join(f"{n:,} {why}" for why, n in Counter(item.reason for item in left_out).most_common(3))
        wanted = f"fewer than the {count:,} asked for" if count is not None else "none to be a reference"
        raise SetError(
            f"{options.source}: holds {len(rows):,} photos, {wanted}" + (f" (left out: {gone})" if gone else "")
        )
    leakage = begun.leakage.model_copy(update=dict(leaks))
    return begun.model_copy(update={"references": rows, "left_out": left_out, "leakage": leakage, "complete": True})


def _asked(trained: Trained | None) -> Leakage:
    return Leakage(against=trained.place, samples=len(trained.ids)) if trained else Leakage()


def _before(out: Path, begun: Manifest) -> Manifest | None:
    """The same set as it was built before; None in a new folder.

    Raises:
        SetError: the folder holds another set, or photos of none.
    """
    if out.exists() and not out.is_dir():
        raise SetError(f"{out}: is no folder: take another --out")
    before = read_manifest(out)
    photos = sorted(file.name for file in (out.iterdir() if out.is_dir() else ()) if file.suffix.lower() in SUFFIXES)
    if before is None and photos:
        raise SetError(f"{out}: holds photos of no manifest ({photos[0]}): take another folder")
    if before is None or not (before.complete or photos):
        return None
    if other := _difference(before, begun):
        raise SetError(f"{out}: holds another set ({other}): take another folder")
    return before


def _difference(before: Manifest, now: Manifest) -> str:
    """In what the commands differ that made two sets; "" where they are one."""

    def told(manifest: Manifest) -> dict[str, str]:
        count = "all" if manifest.count is None else str(manifest.count)
        of = {"source": f"{manifest.kind} {manifest.source}", "count": count}
        return of | {"trained on": manifest.leakage.against or "(not said)"}

    there, here = told(before), told(now)
    return "; ".join(f"{what} {there[what]}, now {here[what]}" for what in there if there[what] != here[what])


def _write(
    item: Candidate, folder: Path, options: ReferencesOptions, trained: Trained | None, rows: list[Row],
    seen: dict[str, str], leaks: Counter[str],
) -> str:  # fmt: skip
    """Write a photo and its row; or why it is left out."""
    try:
        photos = [(data, decode(data)) for data in (item.data, item.target) if data is not None]
    except Undecodable as error:
        return f"cannot be read: {error}"
    sha256, name = sha256_of_bytes(item.data), name_for_files(item.key, only=True)
    if sha256 in seen:
        return f"the same bytes as {seen[sha256]}"
    if folded(name) in {folded(row.name) for row in rows}:
        return f"its name is taken: {item.key}"
    for data, picture in photos if trained is not None else ():
        if leak := trained.leak(item.id, sha256_of_bytes(data), picture.phash()):
            leaks[leak] += 1
            return REASONS[leak]
    seen[sha256] = name
    row = Row(
        name=name, file=name + ENDINGS[str(sniff(item.data))], sha256=sha256, words=item.words, person=item.person,
        id=item.id, url=item.url, licence=item.licence or options.licence,
    )  # fmt: skip
    (folder / row.file).write_bytes(item.data)
    if item.words:
        (folder / f"{name}.txt").write_text(item.words, "utf-8")
    if item.target is not None:
        target = f"{TARGETS}/{name}{ENDINGS[str(sniff(item.target))]}"
        (folder / target).write_bytes(item.target)
        row = row.model_copy(update={"target": target, "target_sha256": sha256_of_bytes(item.target)})
    rows.append(row)
    return ""


def _remove_old(out: Path, before: Manifest | None, done: Manifest) -> None:
    """What this set had before and has no more, e.g. where a URL now shows another photo."""
    mine = {name for row in done.references for name in (row.file, row.target)}
    for row in before.references if before else ():
        for name in {row.file, row.target} - mine - {""}:
            (out / name).unlink(missing_ok=True)
        if row.words and row.name not in {now.name for now in done.references if now.words}:
            (out / f"{row.name}.txt").unlink(missing_ok=True)
