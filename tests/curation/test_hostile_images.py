"""Every broken image ends a run as a row with a reason, each odd one as a sound sample."""

from __future__ import annotations

import csv

from curation.run_directory.run import Run
from curation.run_directory.scores import image_facts
from tests.world import verdicts_of


def test_each_kind_goes_through_a_run(finished, sample):
    with open(sample / "made.csv", newline="") as file:
        made = list(csv.DictReader(file))
    run = Run(finished)
    images = {row["sha256"]: row for row in image_facts(run.read_tables("scores/*.parquet")).to_pylist()}
    verdicts = verdicts_of(finished)
    seen = set()
    for entry in made:
        row = images.get(entry["sha256"])
        if row is None:
            continue  # refused while fetched, or among the surplus
        seen.add(entry["kind"])
        assert row["status"] == entry["decodes"], entry["kind"]
        verdict = verdicts[row["id"]]
        if entry["decodes"] != "ok":
            assert (verdict["verdict"], verdict["reason"]) == ("undecodable", entry["decodes"])
        elif entry["verdict"] == "kept":
            assert verdict["verdict"] == "kept", (entry["kind"], verdict["failing"])
        else:
            assert verdict["reason"] == entry["verdict"], entry["kind"]
    for kind in ("truncated_jpeg", "progressive_jpeg", "cmyk_jpeg", "palette_alpha_png", "rgb16_png", "animated_gif",
                 "animated_webp", "exif_orientation_6", "one_pixel", "decompression_bomb"):  # fmt: skip
        assert kind in seen, f"{kind} was never scored"
