"""The scoring step: Ray Data stages around the filters.

A stage is one operator: neighbouring filters on the same device, sharing one decode. Units stream through the
stages; an operator reads its unit's bytes itself, so pixels never enter the object store, and between two
operators only the bytes of images that are still undecided travel. What an operator learns it writes to the
run, whole and once; a score that exists is never computed again, whichever run, kill or cut asked for it.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from common.decode import Picture, Undecodable, decode
from common.onnx_sessions import DeviceError, can_use_gpus
from common.progress import Steps, say
from common.ray_runtime import stage, tasks, worker_count
from curation.cutting.judge import Evidence, judge
from curation.filters.base import Filter, FilterBroken
from curation.filters.registry import build
from curation.recipe.recipe import PAPER_ORDER, Recipe, Thresholds
from curation.run_directory.run import Run
from curation.run_directory.schemas import IMAGES
from curation.run_directory.units import UnitScores, audit_key, audit_limit, read_image, score_file, units_of
from curation.scoring.order import Costs, cheapest_order

SEVERAL = 4  # images of a batch that do not all fail for reasons of their own


class Stage:
    """One operator: scores units with some of the filters. A plain callable: Ray is only its host.

    Raises:
        FilterBroken: this machine's model files are not the driver's, or one of them cannot run.
    """

    def __init__(
        self, run: Run, recipe: Recipe, names: Sequence[str], fingerprints: dict[str, str], audit: int, device: str,
        last: bool,
    ):  # fmt: skip
        self.run, self.recipe, self.names, self.audit, self.last = run, recipe, list(names), audit, last
        self.filters = build(recipe, device)
        mine = {name: item.fingerprint for name, item in self.filters.items()}
        if mine != fingerprints:
            wrong = ", ".join(name for name in mine if mine[name] != fingerprints[name])
            raise FilterBroken(
                f"on {socket.gethostname()} the model files of {wrong} differ from the driver's: give every node the "
                "same folder (FACEMAKEUP_WEIGHTS)"
            )
        self._warm_up()
        self.costs = Costs(self.names)

    def _warm_up(self) -> None:
        """Every model once, on grey: what is wrong with a model or a device is no image's fault, and said at once."""
        picture = Picture(np.full((64, 64, 3), 128, np.uint8), 64, 64, 1, "jpeg")
        seen: dict[str, pa.Table] = {}
        for name in sorted(self.names, key=lambda name: len(self.filters[name].needs)):
            item = self.filters[name]
            empty = {need: seen.get(need, _empty_row(self.filters[need])) for need in item.needs}
            seen[name] = item.score([picture], empty)

    def __call__(self, unit: dict[str, Any]) -> dict[str, Any]:
        """Score what is missing of one unit; returns the unit, with counts, for the next stage or the driver."""
        known = UnitScores(self.run, unit, self.filters)
        work = _Work(self, unit, known)
        if work.todo.any():
            work.order = self._order(unit["unit"])
            for rows in np.array_split(np.flatnonzero(work.todo), -(-int(work.todo.sum()) // self.recipe.score.batch)):
                work.batch(rows)
            work.write()
        counts = Counter(json.loads(unit.get("calls", "{}")))
        counts.update(work.calls)
        return {
            **{key: unit[key] for key in ("unit", "tar", "ids", "offsets", "sizes", "hashes")},
            "payload_rows": list(work.survivors),
            "payload": list(work.survivors.values()),
            "calls": json.dumps(counts),
            "before": unit.get("before", len(known.ids) - int(work.todo.sum())),
        }

    def _order(self, unit: str) -> list[str]:
        """The order for this unit: the one written down for it before, or a new one, written down now."""
        path = f"scores/order/{unit}-{'-'.join(sorted(self.names))}.json"
        if self.run.exists(path):
            return self.run.read_json(path)["order"]
        paper = [name for name in PAPER_ORDER if name in self.names]
        needs = {name: self.filters[name].needs for name in self.names}
        order = paper if self.recipe.score.order == "paper" else cheapest_order(self.costs, needs, paper)
        self.run.write_json(path, {"order": order, "estimates": self.costs.as_dict()})
        return order


class _Work:
    """One unit passing through one stage."""

    def __init__(self, stage: Stage, unit: dict[str, Any], known: UnitScores):
        self.stage, self.unit, self.known = stage, unit, known
        self.order: list[str] = []
        self.calls: Counter[str] = Counter()
        self.audited = audited(known.ids, stage.recipe.seed, stage.audit)
        self.images: list[dict[str, Any]] = []
        self.scored: dict[str, list[pa.Table]] = {name: [] for name in stage.names}
        self.todo = unresolved(known, stage.filters, stage.names, stage.recipe.thresholds, self.audited)
        self.bytes = dict(zip(unit.get("payload_rows", []), unit.get("payload", []), strict=True))
        self.survivors: dict[int, bytes] = {}

    def batch(self, rows: np.ndarray) -> None:
        """Read, decode once and score some rows; what is rejected is dropped on the way."""
        pictures: dict[int, Picture] = {}
        data: dict[int, bytes] = {}
        for row in rows.tolist():
            data[row] = self._read(row)
            picture = self._decode(row, data[row])
            if picture is not None:
                pictures[row] = picture
        for name in self.order:
            self._score(name, pictures)
        if not self.stage.last:
            self.survivors.update({row: data[row] for row in self._open(sorted(pictures))})

    def _read(self, row: int) -> bytes:
        if row in self.bytes:
            return self.bytes[row]
        unit = self.unit
        return read_image(self.stage.run, unit["tar"], unit["offsets"][row], unit["sizes"][row], unit["hashes"][row])

    def _decode(self, row: int, data: bytes) -> Picture | None:
        """The picture, or None; the first time an image is seen its facts are noted."""
        facts: dict[str, Any] = dict.fromkeys(IMAGES.names)
        facts.update(id=self.known.ids[row], sha256=self.unit["hashes"][row])
        try:
            picture = decode(data, self.stage.recipe.images)
            facts.update(
                status="ok",
                format=picture.source_format,
                width=picture.width,
                height=picture.height,
                exif_orientation=picture.orientation,
            )
        except Undecodable as error:
            picture = None
            facts.update(status=error.reason, detail=str(error))
        if self.known.images[row] is None:
            facts["phash"] = picture.phash() if picture is not None else None
            self.known.note_image(row, facts)
            self.images.append(facts)
        return picture

    def _open(self, rows: list[int]) -> list[int]:
        """Those of `rows` that no evaluated check rejects, and those that are audited."""
        if not rows:
            return []
        take = pa.array(rows, pa.int64())
        evidence = {
            name: Evidence(item.table.take(take), item.seen[rows]) for name, item in self.known.evidence.items()
        }
        boxes = [self.known.boxes[row] for row in rows]
        judged = judge(evidence, self.stage.filters, self.stage.recipe.thresholds, boxes)
        return [row for row, gone in zip(rows, judged.rejected & ~self.audited[rows], strict=True) if not gone]

    def _score(self, name: str, pictures: dict[int, Picture]) -> None:
        item = self.stage.filters[name]
        evidence = self.known.evidence[name]
        rows = [row for row in self._open(sorted(pictures)) if not evidence.seen[row]]
        rows = [row for row in rows if all(self.known.evidence[need].seen[row] for need in item.needs)]
        if not rows:
            return
        needed = {need: self.known.evidence[need].table.take(pa.array(rows)) for need in item.needs}
        started = time.perf_counter()
        fields, errors = score_each(item, [pictures[row] for row in rows], needed)
        spent = time.perf_counter() - started
        self.calls[name] += len(rows)
        table = pa.table(
            {
                "id": pa.array([self.known.ids[row] for row in rows], pa.string()),
                **{field.name: fields[field.name] for field in item.columns},
                "error": pa.array(errors, pa.string()),
            }
        ).cast(item.schema)
        self.scored[name].append(table)
        self.known.evidence[name] = _merged(evidence, table, rows)
        passing = item.verdict(table, getattr(self.stage.recipe.thresholds, name)) == 1
        # audited rows are free of the order's own selection; without an audit lane the order's rates must do
        self.stage.costs.note(name, spent, len(rows), passing[self.audited[rows]] if self.stage.audit else passing)

    def write(self) -> None:
        """Evidence first, the decode facts last: they say that the unit was seen."""
        for name, tables in self.scored.items():
            if tables:
                folder = self.stage.filters[name].folder
                self.stage.run.write_table(
                    score_file(self.stage.run, folder, self.known.name), pa.concat_tables(tables)
                )
        if self.images:
            table = pa.Table.from_pylist(self.images, schema=IMAGES)
            self.stage.run.write_table(score_file(self.stage.run, "scores/images", self.known.name), table)


def _empty_row(item: Filter) -> pa.Table:
    return pa.table({field.name: pa.nulls(1, field.type) for field in item.columns})


def audited(ids: Sequence[str], seed: int, limit: int) -> np.ndarray:
    """bool (ids,): who goes through every filter whatever the verdict."""
    return np.array([audit_key(text, seed) < limit for text in ids], dtype=bool)


def unresolved(
    known: UnitScores, filters: dict[str, Filter], names: Sequence[str], thresholds: Thresholds, lane: np.ndarray
) -> np.ndarray:
    """bool (rows,): images that the filters `names` still have something to do for; `lane`: the audited ones."""
    judged = judge(known.evidence, filters, thresholds, known.boxes)
    lacking = np.any([~known.evidence[name].seen for name in names], axis=0)
    decoded = np.array([text in (None, "ok") for text in known.status], dtype=bool)
    never = np.array([text is None for text in known.status], dtype=bool)
    return decoded & (never | ((judged.undecided | lane) & lacking))


def score_each(item: Filter, pictures: list[Picture], needed: dict[str, pa.Table]) -> tuple[pa.Table, list[str | None]]:
    """Score a batch; where that raises, one by one, so that only the guilty image gets an error.

    Raises:
        FilterBroken, DeviceError: the filter cannot run here; also where it fails on every one of several images.
    """
    try:
        return item.score(pictures, needed), [None] * len(pictures)
    except (FilterBroken, DeviceError):
        raise
    except Exception as error:  # noqa: BLE001  whatever a model chokes on becomes that image's row
        if len(pictures) == 1:
            return pa.table({f.name: pa.nulls(1, f.type) for f in item.columns}), [f"{type(error).__name__}: {error}"]
    parts = [
        score_each(item, [picture], {need: table.slice(row, 1) for need, table in needed.items()})
        for row, picture in enumerate(pictures)
    ]
    if len(pictures) >= SEVERAL and all(errors for _, (errors,) in parts):
        raise FilterBroken(f"{item.name} failed on each of {len(pictures)} images: {parts[0][1][0]}")
    return pa.concat_tables([part.cast(pa.schema(item.columns)) for part, _ in parts]), [
        e for _, es in parts for e in es
    ]


def _merged(evidence: Evidence, table: pa.Table, rows: list[int]) -> Evidence:
    """Evidence with new scores put into their rows."""
    both = pa.concat_tables([evidence.table, table])
    take = np.arange(evidence.table.num_rows)
    take[rows] = evidence.table.num_rows + np.arange(len(rows))
    seen = evidence.seen.copy()
    seen[rows] = True
    return Evidence(both.take(pa.array(take)).combine_chunks(), seen)


# -- the step --------------------------------------------------------------------------------------------------


def stages(recipe: Recipe, filters: dict[str, Filter], gpus: float) -> list[tuple[str, list[str]]]:
    """(device, filters) of each operator: one for all on a CPU machine, one a device where there are GPUs."""
    split = recipe.score.split_devices if recipe.score.split_devices is not None else gpus > 0
    if not split:
        return [("gpu" if gpus else "cpu", list(filters))]
    groups: list[tuple[str, list[str]]] = []
    left = dict(filters)
    while left:
        for device in ("cpu", "gpu"):
            ready = [name for name, item in left.items() if item.device == device and not set(item.needs) & set(left)]
            if ready:
                groups.append((device if gpus else "cpu", ready))
                for name in ready:
                    del left[name]
    return groups


def score(run: Run, recipe: Recipe, snapshot: pa.Table, filters: dict[str, Filter]) -> dict[str, int]:
    """Score what is missing for these thresholds. Returns the model calls made, by filter.

    Needs a running Ray. A score that exists is not computed again.
    """
    units = units_of(snapshot)
    for item in filters.values():
        if not run.exists(f"{item.folder}/filter.json"):
            run.write_json(f"{item.folder}/filter.json", item.describe())
    gpus = ray.cluster_resources().get("GPU", 0)
    if gpus and not can_use_gpus():
        say(
            "score",
            f"{gpus:g} GPUs are there, but this onnxruntime is its CPU build: going on with CPUs. "
            "Install onnxruntime-gpu in its place to use them",
        )
        gpus = 0
    audit = audit_limit(snapshot, recipe.score.audit_share, recipe.score.audit_minimum, recipe.seed)
    calls: Counter[str] = Counter(dict.fromkeys(filters, 0))
    todo, images = _with_work(run, recipe, units, filters, audit)
    if not todo:
        say("score", f"{snapshot.num_rows:,} images not done again; model calls: {_listed(calls)}")
        return dict(calls)
    fingerprints = {name: item.fingerprint for name, item in filters.items()}
    groups = stages(recipe, filters, gpus)
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo))
    for number, (device, names) in enumerate(groups):
        arguments = {
            "run": run, "recipe": recipe, "names": names, "fingerprints": fingerprints, "audit": audit,
            "device": device, "last": number == len(groups) - 1,
        }  # fmt: skip
        gpu, share = device == "gpu", len(groups)
        workers = worker_count(recipe.score.workers, len(todo), gpu, share)
        dataset = stage(dataset, Stage, arguments, workers, gpu, share)
    with Steps("score", images) as steps:
        for row in dataset.iter_rows():
            calls.update(json.loads(row["calls"]))
            steps.advance(len(row["ids"]) - row["before"])
        before = snapshot.num_rows - images
        say(
            "score",
            f"{images:,} images scored, {before:,} not done again; model calls: {_listed(calls)}; {steps.seconds:.0f} s",
        )
    return dict(calls)


def _with_work(
    run: Run, recipe: Recipe, units: list[dict[str, Any]], filters: dict[str, Filter], audit: int
) -> tuple[list[dict[str, Any]], int]:
    """The units that have an image to score, and how many images that is. Loads no model."""
    if not run.glob("scores/images/*.parquet"):
        return units, sum(len(unit["ids"]) for unit in units)

    def count(unit: dict[str, Any]) -> tuple[str, int]:
        known = UnitScores(run, unit, filters)
        lane = audited(known.ids, recipe.seed, audit)
        return known.name, int(unresolved(known, filters, list(filters), recipe.thresholds, lane).sum())

    open_images = dict(tasks(units, count))
    return [unit for unit in units if open_images[unit["unit"]]], sum(open_images.values())


def _listed(calls: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in calls.items())


def main() -> None:
    from curation.pipeline import step_arguments, step_main

    parser = argparse.ArgumentParser(prog="python -m curation.scoring.score", description=__doc__)
    step_main("score", step_arguments(parser).parse_args())


if __name__ == "__main__":
    main()
