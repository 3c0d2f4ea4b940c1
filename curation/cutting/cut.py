"""Scores x thresholds -> verdicts. Never runs a model, never reads an image.

A cut has a name and belongs to one content recipe: thresholds, fingerprints, snapshot and what is packed. Another
recipe needs another name. Images whose verdict hangs on a score that is not there are `undecided`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from common.hashing import canonical_json, sha256_of_bytes
from common.progress import say
from common.ray_runtime import map_with_tasks
from common.settings import RecipeError, flattened
from common.storage import json_bytes
from curation.cutting.audit import audit_limit, audited
from curation.cutting.judge import judge, verdict_schema, verdict_table
from curation.filters.base import Filter
from curation.filters.registry import check_names
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.units import Unit, UnitScores, units_of


def claim_name(run: Run, name: str, content: dict[str, Any], recipe: dict[str, Any]) -> str:
    """Bind a cut's name to its content recipe, once; `recipe`: the whole one, so that the cut can be gone on with.

    Returns:
        The content recipe's hash, 16 hex digits.

    Raises:
        RecipeError: the name belongs to another content recipe; says what differs and what to do.
    """
    content_hash = sha256_of_bytes(canonical_json(content).encode())[:16]
    path = f"cuts/{name}/content.json"
    claimed = {"content": content, "hash": content_hash, "recipe": recipe}
    if not run.exists(path) and run.write_new(path, json_bytes(claimed)):
        run.write_bytes(f"cuts/{name}/thresholds.yaml", yaml.safe_dump(recipe["thresholds"], sort_keys=True).encode())
        return content_hash
    before = run.read_json(path)
    if before["hash"] != content_hash:
        old, new = flattened(before["content"]), flattened(content)
        changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        differences = ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed)
        raise RecipeError(
            f"the cut {name!r} of {run.root} was made with another recipe ({differences or 'an older code version'})."
            " Give the new one another name: NAME=... (or --name), so that both can be compared"
        )
    return content_hash


def cut(run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter]) -> dict[str, Any]:
    """Write `cuts/NAME/verdicts/UNIT.parquet` and funnel.json; returns the funnel's counts.

    Needs a running Ray. Pure: the same scores give the same verdicts, so it is simply done again.
    """
    audit = audit_limit(snapshot, recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed)
    units = units_of(snapshot)

    def judge_unit(unit: Unit) -> str:
        known = UnitScores(run, unit, filters)
        judged = judge(known.evidence, filters, recipe.thresholds, known.boxes)
        audit_lane = audited(known.ids, recipe.seed, audit)
        table = verdict_table(known.ids, known.name, known.status, judged, audit_lane)
        run.write_table(f"cuts/{name}/verdicts/{known.name}.parquet", table)
        return known.name

    # closures carry the filters' settings, not their models: `verdict` loads none
    judged = list(map_with_tasks(units, judge_unit))
    assert len(judged) == len(units)
    funnel = summarise(verdicts(run, name), check_names(filters))
    run.write_json(f"cuts/{name}/funnel.json", funnel)
    say(
        "cut",
        f"{name}: {funnel['kept']:,} kept, {funnel['rejected']:,} rejected, {funnel['undecodable']:,} undecodable, "
        f"{funnel['undecided']:,} undecided; no model was run",
    )
    return funnel


def verdicts(run: Run, name: str) -> pa.Table:
    """All verdicts of a cut, in id order."""
    table = run.read_tables(f"cuts/{name}/verdicts/*.parquet")
    return verdict_schema(()).empty_table() if table is None else table.sort_by("id")


def kept_images(run: Run, name: str) -> pa.Table:
    """The verdicts of the images that a cut keeps, in id order."""
    table = verdicts(run, name)
    return table.filter(pc.equal(table["verdict"], "kept"))


def summarise(table: pa.Table, checks: Sequence[str]) -> dict[str, Any]:
    """Counts of a cut: by verdict, by reason, and what each check says of the images that it saw."""
    grouped = table.group_by(["verdict", "reason"]).aggregate([([], "count_all")]).to_pylist()
    counts: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for row in grouped:
        counts[row["verdict"]] += row["count_all"]
        if row["reason"]:
            reasons[row["verdict"], row["reason"]] += row["count_all"]
    by_check = {}
    for check in checks if table.num_rows else ():
        values = table[check].to_numpy(zero_copy_only=False)
        by_check[check] = {"passed": int((values == 1).sum()), "failed": int((values == 0).sum()),
                         "not_evaluated": int((values == -1).sum())}  # fmt: skip
    return {
        "taken": table.num_rows,
        **{verdict: counts.get(verdict, 0) for verdict in ("kept", "rejected", "undecided", "undecodable")},
        "rejected_by": {reason: n for (verdict, reason), n in sorted(reasons.items()) if verdict == "rejected"},
        "undecodable_by": {reason: n for (verdict, reason), n in sorted(reasons.items()) if verdict == "undecodable"},
        "checks": by_check,
    }
