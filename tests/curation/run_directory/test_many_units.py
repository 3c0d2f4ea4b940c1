"""What verdicts are made of, read of many units at once, is what each unit alone says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from common.failures.damage import DamagedFile
from curation.run_directory.many_units import read_many
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT, FETCHED, IMAGES
from curation.run_directory.scores import IMAGE, write_unit
from curation.run_directory.snapshot import require_snapshot
from curation.run_directory.units import UnitScores, units_of
from tests.rehearsal.__main__ import rehearsal_recipe
from tests.rehearsal.make import make_run
from tests.rehearsal.pool import Pool

KINDS = 60


def varied_pool(recipe) -> Pool:
    """Images of every orientation, some that do not decode, each with its own boxes and evidence, some not looked at."""
    draw = np.random.default_rng(3)

    def box(top=300):
        corner = draw.integers(0, top, 2)
        return [*corner.tolist(), *(corner + draw.integers(5, 90, 2)).tolist()]

    faces = [
        [{"box": box(), "caption": "c", "source_id": "s"} for _ in range(draw.integers(1, 4))] for _ in range(KINDS)
    ]
    fetched = pa.Table.from_pylist([{"faces": each, "size": 1000} for each in faces], schema=FETCHED)
    decoded = {"status": "ok", "format": "jpeg", "width": 400, "height": 300}
    images = [
        {"status": "truncated"} if row % 9 == 0 else {**decoded, "exif_orientation": row % 8 + 1}
        for row in range(KINDS)
    ]

    def found():
        return [
            {"box": box(), "score": float(draw.random()), "landmarks": [1.0] * 10} for _ in range(draw.integers(0, 4))
        ]

    def lines():
        return [{"score": float(draw.random()), "quad": draw.random(8).tolist()} for _ in range(draw.integers(0, 5))]

    rows = {
        "grayscale": [{"std": float(draw.random() * 9)} for _ in range(KINDS)],
        "text": [{"boxes": lines()} if row % 7 else {"error": "it broke"} for row in range(KINDS)],
        "faces": [{"boxes": found()} for _ in range(KINDS)],
        "anime": [
            {"hits": [{"box": box(), "neighbors": int(n)} for n in draw.integers(2, 40, 2)]} for _ in range(KINDS)
        ],
    }
    filters = recipe.open_filters()
    evidence = {name: pa.Table.from_pylist(rows[name], schema=item.schema) for name, item in filters.items()}
    tried = {name: draw.random(KINDS) < 0.7 for name in filters}
    return Pool(fetched, pa.Table.from_pylist(images, schema=IMAGES), evidence, tried, ATTEMPT.empty_table(), 0.0)


@pytest.fixture(scope="module")
def recipe():
    return rehearsal_recipe("fetch.part_size=40", "score.audit_minimum=0")


@pytest.fixture
def run(tmp_path, recipe) -> Run:
    return make_run(tmp_path / "run", 150, recipe, varied_pool(recipe))


def same(run: Run, recipe) -> None:
    filters = recipe.open_filters()
    units = units_of(run, require_snapshot(run))
    many = read_many(run, units, filters)
    alone = [UnitScores(run, unit, filters) for unit in units]
    assert [f"{number:016x}" for number in many.ids.tolist()] == [text for unit in alone for text in unit.ids]
    assert many.units.to_pylist() == [unit.name for unit in alone for _ in unit.ids]
    assert many.status.to_pylist() == [text for unit in alone for text in unit.status]
    for name, scores in many.evidence.items():
        ours, theirs = scores.table, pa.concat_tables([unit.evidence[name].table for unit in alone]).drop_columns("id")
        assert ours.to_pylist() == theirs.to_pylist(), name
        assert scores.seen.tolist() == np.concatenate([unit.evidence[name].seen for unit in alone]).tolist()
    starts = np.cumsum([0] + [len(unit.ids) for unit in alone[:-1]])
    rows = np.concatenate([unit.boxes.rows + start for unit, start in zip(alone, starts, strict=True)])
    assert many.boxes.rows.tolist() == rows.tolist() and len(rows) > 100
    assert many.boxes.corners.tolist() == np.concatenate([unit.boxes.corners for unit in alone]).tolist()


def test_units_scored_in_one_pass(run, recipe):
    same(run, recipe)


def test_units_scored_in_several_passes(run, recipe):
    """Each filter in a file of its own, some rows in two, in any order; one unit not at all."""
    draw = np.random.default_rng(1)
    for path in run.glob("scores/*.parquet")[:-1]:
        rows, unit = run.read_table(path), path.rpartition("/")[2].rpartition("-")[0]
        run.fs.rm(run.path(path))
        for column in rows.column_names[1:]:
            scored = rows.select(["id", column]).filter(pc.is_valid(rows[column]))
            if column != "image":  # which is in every file, null where an earlier pass has it
                scored = scored.add_column(1, rows.schema.field("image"), pa.nulls(scored.num_rows, IMAGE))
            shuffled = draw.permutation(scored.num_rows)
            write_unit(run, "scores", unit, scored.take(pa.array(np.append(shuffled, shuffled[:5]))))
    run.fs.rm(run.path(run.glob("scores/*.parquet")[-1]))
    same(run, recipe)


@pytest.mark.parametrize("left", [["id", "image"], None])
def test_units_that_a_filter_or_none_has_seen(run, recipe, left):
    """A recut with a filter of other settings: of the images of a whole group it has no evidence yet."""
    for path in run.glob("scores/*.parquet"):
        rows, unit = run.read_table(path), path.rpartition("/")[2].rpartition("-")[0]
        run.fs.rm(run.path(path))
        if left:
            write_unit(run, "scores", unit, rows.select([*left, rows.column_names[2]]))
    units = units_of(run, require_snapshot(run))
    many = read_many(run, units, recipe.open_filters())
    assert not many.evidence["faces"].seen.any() and many.evidence["faces"].table.num_rows == len(many.ids)
    assert many.evidence["grayscale"].seen.any() == bool(left)
    if left:
        same(run, recipe)


def test_what_was_fetched_in_another_order_or_beyond_what_is_taken(run, recipe):
    for path in run.glob("fetched/00/images/*.parquet"):
        rows = run.read_table(path)
        more = rows.slice(0, 1).set_column(0, "id", pa.array(["0" * 16]))
        run.write_table(path, pa.concat_tables([rows, more]).take(pa.array(np.arange(rows.num_rows + 1)[::-1])))
    same(run, recipe)


def test_no_image_without_what_was_fetched_of_it(run, recipe):
    path = run.glob("fetched/00/images/*.parquet")[1]
    run.write_table(path, run.read_table(path).slice(3))
    with pytest.raises(DamagedFile, match="lacks 3 of its images"):
        read_many(run, units_of(run, require_snapshot(run)), recipe.open_filters())
    run.write_table(path, FETCHED.empty_table())
    with pytest.raises(DamagedFile, match="lacks 40 of its images"):
        read_many(run, units_of(run, require_snapshot(run)), recipe.open_filters())
