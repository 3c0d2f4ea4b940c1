"""Every image is hostile: each broken kind ends as a row with a reason, each odd one as a sound sample."""

from __future__ import annotations

import csv

import pytest

from common.decode import ImageLimits, Undecodable, decode
from curation.run_directory.run import Run
from tests.world import verdicts_of


@pytest.fixture(scope="module")
def made(sample):
    with open(sample / "made.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_kind_decodes_or_says_why(sample, made):
    for entry in made:
        data = (sample / entry["file"]).read_bytes()
        try:
            said = "ok" if decode(data).rgb.ndim == 3 else "?"
        except Undecodable as error:
            said = error.reason
        assert said == entry["decodes"], entry["kind"]


def test_each_kind_goes_through_a_run(finished, made):
    run = Run(finished)
    images = {row["sha256"]: row for row in run.read_tables("scores/images/*.parquet").to_pylist()}
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


def test_a_bomb_is_refused_by_its_header(sample, made):
    """Before a pixel is allocated: the header says 40000 x 40000."""
    (bomb,) = (entry for entry in made if entry["kind"] == "decompression_bomb")
    data = (sample / bomb["file"]).read_bytes()
    assert len(data) < 10_000
    with pytest.raises(Undecodable, match="too_many_pixels"):
        decode(data)
    with pytest.raises(Undecodable) as caught:
        decode(data, ImageLimits(max_pixels=40_000 * 40_000))
    assert caught.value.reason in ("truncated", "corrupt")


def test_garbage_never_raises_anything_else(sample, made):
    """Every prefix and every flipped byte of small files: an image or an `Undecodable`."""
    import random

    draw = random.Random(0)
    for entry in made:
        data = (sample / entry["file"]).read_bytes()
        for _ in range(12):
            broken = bytearray(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.5 else data)
            for _ in range(draw.randrange(4)):
                if broken:
                    broken[draw.randrange(min(len(broken), 4096))] = draw.randrange(256)
            try:
                decode(bytes(broken), ImageLimits(max_pixels=4_000_000))
            except Undecodable:
                continue
