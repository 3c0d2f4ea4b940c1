"""Every image is hostile. What becomes of each broken kind: tests/curation/sample/test_folder.py."""

from __future__ import annotations

import csv

import pytest

from common.decode import ImageLimits, Undecodable, decode


@pytest.fixture(scope="module")
def made(sample):
    with open(sample / "made.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_bomb_is_refused_by_its_header(sample, made):
    """Before a pixel is allocated: the header says 40000 x 40000."""
    (bomb,) = (entry for entry in made if entry["kind"] == "decompression_bomb")
    data = (sample / bomb["file"]).read_bytes()
    assert len(data) < 10_000
    with pytest.raises(Undecodable, match="too_many_pixels"):
        decode(data)
    with pytest.raises(Undecodable, match="too_much_memory"):
        decode(data, ImageLimits(max_pixels=40_000 * 40_000))


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
