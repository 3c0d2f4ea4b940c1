"""What a step asks of a bucket for a unit: few requests, whatever the number of images; few bytes where few are wanted."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation.annotation.annotate import annotate
from curation.cutting.cut import cut, kept_images
from curation.packing.pack import pack
from curation.run_directory.attempts import images_file
from curation.run_directory.candidates import id_texts
from curation.run_directory.run import Run
from curation.run_directory.schemas import FETCHED, SNAPSHOT
from curation.run_directory.snapshot import require_snapshot
from curation.run_directory.units import fetched_images, units_of
from curation.scoring.operator import ScoringOperator
from tests.servers.bucket import Asked, counted_bucket
from tests.world import small_recipe

OF_THE_UNIT = re.compile(r"/00[-/](images/)?00000-|/00-00000-")
TAR = "fetched/00/00000-0123456789abcdef.tar"


def in_one_unit(finished: Path, run: Run, images: int) -> None:
    """The first images that a finished run took, as the one unit of another run, after fetch."""
    before = Run(finished)
    units = units_of(before, require_snapshot(before))
    fetched = pa.concat_tables([fetched_images(before, unit) for unit in units])
    where = {text: unit.tar for unit in units for text in unit.ids}
    rows = fetched.sort_by("id").slice(0, images).to_pylist()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for row in sorted(rows, key=lambda row: row["sha256"]):  # the order in a tar is chance
            data = before.read_bytes(where[row["id"]], row["offset"], row["size"])
            member = tarfile.TarInfo(f"{row['id']}.jpg")
            member.size = len(data)
            row["offset"] = buffer.tell() + 512
            tar.addfile(member, io.BytesIO(data))
    run.write_bytes(TAR, buffer.getvalue())
    run.write_table(images_file(TAR), pa.Table.from_pylist(rows, schema=FETCHED))
    taken = pa.Table.from_pylist([{**row, "tar": TAR, "unit": "00-00000"} for row in rows], schema=SNAPSHOT)
    run.write_table("fetched/snapshot-5.parquet", taken)
    counts = {"selected": len(rows), "fetched": len(rows), "taken": len(rows), "surplus": 0, "failed": {}, "lost": 0}
    run.write_json("fetched/snapshot.json", {"number": 0, "hash": "5", **counts})
    run.write_json("manifest.json", json.loads((finished / "manifest.json").read_text()))


class Steps:
    """The steps of a run, in this process, and what each asked for its unit and for the tar."""

    def __init__(self, root: str, recipe, asked: list[Asked]):
        self.run, self.recipe, self.asked, self.counts, self.bytes = Run(root), recipe, asked, {}, {}
        self.filters = recipe.open_filters()
        self.snapshot = require_snapshot(self.run)

    def all(self) -> None:
        fingerprints = {name: item.fingerprint for name, item in self.filters.items()}
        (unit,) = units_of(self.run, self.snapshot)
        operator = ScoringOperator(self.run, self.recipe, list(self.filters), fingerprints, 0, "cpu")
        arguments = self.run, self.recipe, "small", self.snapshot, self.filters
        self.count("score", lambda: operator(unit.as_row()))
        self.count("cut", lambda: cut(*arguments))
        self.count("annotate", lambda: annotate(*arguments))
        self.count("pack", lambda: pack(*arguments, "0" * 16))

    def count(self, step: str, do) -> None:
        before = len(self.asked)
        do()
        mine = [request for request in self.asked[before:] if OF_THE_UNIT.search(request.path)]
        self.counts[step] = len(mine)
        self.bytes[step] = sum(request.bytes for request in mine if request.path.endswith(".tar"))


@pytest.fixture
def in_this_process(monkeypatch):
    for step in ("cutting.cut", "annotation.annotate", "packing.pack"):
        monkeypatch.setattr(f"curation.{step}.map_with_tasks", lambda rows, function, **_: map(function, rows))


def test_a_unit_costs_four_requests_a_step_whatever_the_number_of_images(finished, small_world, in_this_process):
    recipe = small_recipe(small_world)
    with counted_bucket("dense") as asked:
        for images in (6, 40):
            root = f"s3://dense/{images}"
            in_one_unit(finished, Run(root), images)
            steps = Steps(root, recipe, asked)
            steps.all()
            assert steps.counts.pop("score") <= 4, [request for request in asked if "score" in request.path]
            assert steps.counts.pop("cut") <= 2
            if images == 40:  # of which some are kept, here and there in the tar
                sizes = fetched_images(steps.run, units_of(steps.run, steps.snapshot)[0])
                kept = sizes.filter(
                    pc.is_in(sizes["id"], value_set=id_texts(kept_images(steps.run, "small")["id"].to_numpy()))
                )
                assert 0 < len(kept) < 30
                for step in ("annotate", "pack"):
                    assert steps.bytes[step] <= 1.2 * pc.sum(kept["size"]).as_py(), step
