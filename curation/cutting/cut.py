"""Scores x thresholds -> verdicts. Never runs a model, never reads an image.

A cut has a name and belongs to one content recipe: thresholds, fingerprints, snapshot and what is packed. Another
recipe needs another name. Images whose verdict hangs on a score that is not there are `undecided`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from common.cluster.work import map_with_tasks
from common.hashing import canonical_json, sha256_of_bytes
from common.progress import ProgressBar, say
from common.settings import RecipeError, flattened
from common.storage import json_bytes
from curation.cutting.audit import audit_limit, audited
from curation.cutting.judge import judge, verdict_schema, verdict_table
from curation.filters.base import Filter
from curation.filters.registry import check_names
from curation.recipe.recipe import Recipe
from curation.run_directory.candidates import id_texts, with_numbers
from curation.run_directory.many_units import read_many
from curation.run_directory.run import Run
from curation.run_directory.units import Unit, units_of

GROUP = 100_000  # verdicts in a file


def content_file(name: str) -> str:
    """Path of the content recipe to which a cut's name is bound."""
    return f"cuts/{name}/content.json"


def read_content(run: Run, name: str) -> dict[str, Any]:
    """What `claim_name` wrote: `content`, `hash` and `recipe`."""
    return run.read_json(content_file(name), ("content", "hash", "recipe"))


def claim_name(run: Run, name: str, content: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Bind a cut's name to its content recipe, once; `recipe`: the whole one, so that the cut can be gone on with.

    Returns:
        The content recipe's hash, 16 hex digits.

    Raises:
        RecipeError: the name belongs to another content recipe; says what differs and what to do.
    """
    content_hash = sha256_of_bytes(canonical_json(content).encode())[:16]
    path = content_file(name)
    claimed = {"content": content, "hash": content_hash, "recipe": recipe}
    if not run.exists(path) and run.write_new(path, json_bytes(claimed)):
        run.write_bytes(f"cuts/{name}/thresholds.yaml", yaml.safe_dump(recipe["thresholds"], sort_keys=True).encode())
        return content_hash
    before = read_content(run, name)
    if before["hash"] != content_hash:
        old, new = flattened(before["content"]), flattened(content)
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        differences = ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed)
        raise RecipeError(
            f"the cut {name!r} of {run.root} was made with another recipe ({differences or 'an older code version'})."
            " Give the new one another name: NAME=... (or --name), so that both can be compared"
        )
    return content_hash


def cut(
    run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter], epoch: int = 0
) -> dict[str, Any]:
    """Write the verdicts `cuts/NAME/verdicts/PASS/*.parquet` and last the funnel's counts; returns these.

    Needs a running Ray. A pass is a function of the scores that there are; where it was made of these before, it is not
    made again. `epoch`: the driver's number, with which its passes begin: those of a driver that was overtaken and still
    writes cannot mix with them, and do not count.
    """
    audit = audit_limit(snapshot, recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed)
    units = units_of(run, snapshot)
    scores = sha256_of_bytes(canonical_json([audit, [unit.scores for unit in units]]).encode())
    before = read_funnel(run, name)
    if before and before["scores"] == scores:
        _say_funnel(name, before, "made before of the same scores")
        return before
    passes = run.glob(f"cuts/{name}/verdicts/{epoch:06d}-*/*")
    folder = f"cuts/{name}/verdicts/{epoch:06d}-{len({path.split('/')[3] for path in passes}):03d}"

    def judge_group(group: tuple[int, list[Unit]]) -> Counter[tuple[str, ...]]:
        number, units = group
        known = read_many(run, units, filters)
        judged = judge(known.evidence, filters, recipe.thresholds, known.boxes)
        audit_lane = audited(known.ids, recipe.seed, audit)
        table = verdict_table(id_texts(known.ids), known.units, known.status, judged, audit_lane)
        order = np.argsort(known.ids, kind="stable")
        table = table if (np.diff(order) == 1).all() else table.take(pa.array(order))
        run.write_table(f"{folder}/{number:05d}.parquet", table)
        return _counts(table, check_names(filters))

    # closures carry the filters' settings, not their models: `verdict` loads none
    total: Counter[tuple[str, ...]] = Counter()
    with ProgressBar("cut", snapshot.num_rows) as progress:
        for counts in map_with_tasks(enumerate(_grouped(units)), judge_group):
            total.update(counts)
            progress.advance(sum(images for key, images in counts.items() if key[0] != "check"))
    funnel = _funnel(total, check_names(filters)) | {"scores": scores}
    run.write_json(f"{folder}/funnel.json", funnel)
    _say_funnel(name, funnel, "no model was run")
    return funnel


def _grouped(units: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Units together until they have GROUP images: a file a unit would be ten thousand footers for every reader."""
    group: list[Unit] = []
    for unit in units:
        group.append(unit)
        if sum(map(len, group)) >= GROUP:
            yield group
            group = []
    if group:
        yield group


def current_pass(run: Run, name: str) -> str | None:
    """Folder of a cut's newest verdicts that are whole; None before there are any."""
    return max((path.rpartition("/")[0] for path in run.glob(f"cuts/{name}/verdicts/*/funnel.json")), default=None)


def read_funnel(run: Run, name: str) -> dict[str, Any] | None:
    """The counts of a cut's newest verdicts; None before there are any."""
    folder = current_pass(run, name)
    keys = ("taken", "kept", "rejected", "undecodable", "undecided", "scores")
    return run.read_json(f"{folder}/funnel.json", keys) if folder else None


KEPT = ["id", "unit", "face", "caption_face"]


def kept_images(run: Run, name: str) -> pa.Table:
    """`kept_by_file` in one table, in id order; ids are numbers, so that it holds twenty bytes an image.

    Raises:
        DamagedFile: there are more or fewer than the funnel counts.
    """
    nothing = pa.schema([verdict_schema(()).field(name) for name in KEPT]).empty_table()
    tables = [with_numbers(table) for table in chain([nothing], kept_by_file(run, name))]
    parts = pa.concat_tables(tables).unify_dictionaries()
    del tables
    order, kept = pa.array(np.argsort(parts["id"].to_numpy())), {}
    for column in KEPT:  # one after the other, each let go of when it is sorted
        kept[column] = parts[column].take(order)
        parts = parts.drop_columns(column)
    pa.default_memory_pool().release_unused()  # else a driver keeps what all this took
    return pa.table(kept)


def kept_by_file(run: Run, name: str) -> Iterator[pa.Table]:
    """The columns `KEPT` of the images that a cut keeps, a file of verdicts at a time, in id order; a unit's are in one file.

    Raises:
        DamagedFile: there are more or fewer than the funnel counts.
    """
    folder, funnel = current_pass(run, name), read_funnel(run, name)
    count = 0
    for table in run.read_each(run.glob(f"{folder}/*.parquet"), [*KEPT, "verdict"]):
        kept = table.filter(pc.equal(table["verdict"], "kept")).select(KEPT)
        count += kept.num_rows
        yield kept
    if funnel and count != funnel["kept"]:
        raise run.damaged(f"{folder}/", f"has {count:,} kept images, and its funnel.json {funnel['kept']:,}")


def _counts(table: pa.Table, checks: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Of a table of verdicts: images by (verdict, reason), and by ("check", its name, what it says)."""
    counts: Counter[tuple[str, ...]] = Counter()
    for row in table.group_by(["verdict", "reason"]).aggregate([([], "count_all")]).to_pylist():
        counts[row["verdict"], row["reason"] or ""] += row["count_all"]
    for check in checks:
        values = table[check].to_numpy(zero_copy_only=False)
        for value, word in ((1, "passed"), (0, "failed"), (-1, "not_evaluated")):
            counts["check", check, word] += int((values == value).sum())
    return counts


def _funnel(counts: Counter[tuple[str, ...]], checks: Sequence[str]) -> dict[str, Any]:
    """Counts of a cut: by verdict, by reason, and what each check says of the images that it saw."""
    verdicts = {
        verdict: {key[1]: number for key, number in sorted(counts.items()) if key[0] == verdict}
        for verdict in ("kept", "rejected", "undecided", "undecodable")
    }
    return {
        "taken": sum(sum(reasons.values()) for reasons in verdicts.values()),
        **{verdict: sum(reasons.values()) for verdict, reasons in verdicts.items()},
        "rejected_by": verdicts["rejected"],
        "undecodable_by": verdicts["undecodable"],
        "checks": {
            check: {word: counts["check", check, word] for word in ("passed", "failed", "not_evaluated")}
            for check in checks
        },
    }


def _say_funnel(name: str, funnel: dict[str, Any], how: str) -> None:
    say(
        "cut",
        f"{name}: {funnel['kept']:,} kept, {funnel['rejected']:,} rejected, {funnel['undecodable']:,} undecodable, "
        f"{funnel['undecided']:,} undecided; {how}",
    )
