"""A unit's bytes out of its tar: few ranges for few images, the right bytes or an error, from a disk and from a bucket."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.run_directory import unit_bytes
from curation.run_directory.run import Run
from curation.run_directory.unit_bytes import PIECE, SPARE, BytesChanged, UnitBytes, joined_ranges
from tests.servers.bucket import s3_bucket

GAP = 700  # bytes between two images


@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, 1 << 20), st.booleans()), min_size=1, max_size=60))
def test_ranges_hold_what_is_wanted_and_little_else(images):
    sizes, gaps, wanted = (np.array(column) for column in zip(*images, strict=True))
    offsets = np.cumsum(gaps) + np.cumsum(sizes) - sizes
    rows = np.flatnonzero(wanted).tolist()
    ranges = joined_ranges(offsets, sizes, rows)
    assert sorted(row for piece in ranges for row in piece.rows) == rows
    for piece in ranges:
        assert all(piece.start <= offsets[row] and offsets[row] + sizes[row] <= piece.stop for row in piece.rows)
        assert piece.stop - piece.start <= PIECE or len(piece.rows) == 1
    assert sum(piece.stop - piece.start for piece in ranges) <= (1 + SPARE) * sizes[rows].sum()


def test_neighbours_come_in_one_request():
    sizes, offsets = np.full(9, 100_000), np.arange(9) * 102_000
    assert [piece.rows for piece in joined_ranges(offsets, sizes, [0, 1, 2, 7])] == [(0, 1, 2), (7,)]


def unit(run: Run, images: list[bytes]) -> pa.Table:
    """A tar of these images, its rows in another order than the tar's."""
    run.write_bytes("a.tar", b"".join(data + bytes(GAP) for data in images))
    ends = np.cumsum([len(data) + GAP for data in images])
    columns = {
        "offset": [int(end) - GAP - len(data) for end, data in zip(ends, images, strict=True)],
        "size": [len(data) for data in images],
        "sha256": [hashlib.sha256(data).hexdigest() for data in images],
    }
    return pa.table(columns).take(list(range(len(images)))[::-1])


IMAGES = [bytes([number]) * (20_000 + number) for number in range(30)]


@pytest.fixture(params=["disk", "bucket"])
def run(request, tmp_path):
    if request.param == "disk":
        yield Run(tmp_path)
    else:
        name = f"unit-bytes-{uuid.uuid4().hex[:8]}"
        with s3_bucket(name):
            yield Run(f"s3://{name}/run")


@pytest.mark.parametrize("rows", [range(30), range(0, 30, 7), [3], []], ids=["all", "some", "one", "none"])
def test_each_image_is_read_whatever_is_wanted_beside_it(run, rows):
    fetched = unit(run, IMAGES)
    with UnitBytes(run, "a.tar", fetched, list(rows)) as data:
        assert {row: data.read(row) for row in data.in_tar_order} == {row: IMAGES[29 - row] for row in rows}


@pytest.mark.parametrize("rows", [range(30), [3, 9]], ids=["all", "some"])
def test_changed_bytes_are_refused(run, rows):
    fetched = unit(run, IMAGES)
    run.write_bytes("a.tar", b"x" * 31 * 21_000)
    with UnitBytes(run, "a.tar", fetched, list(rows)) as data, pytest.raises(BytesChanged, match="a.tar"):
        data.read(9)


def test_a_tar_that_is_gone_is_told(run):
    fetched = unit(run, IMAGES)
    run.fs.rm(run.path("a.tar"))
    with UnitBytes(run, "a.tar", fetched, range(30)) as data, pytest.raises(FileNotFoundError):
        data.read(9)


def test_scratch_files_are_removed_also_after_an_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr(unit_bytes.tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    fetched = unit(run, IMAGES)
    with pytest.raises(ZeroDivisionError), UnitBytes(run, "a.tar", fetched, range(30)):
        raise ZeroDivisionError
    assert not list((tmp_path / "scratch").iterdir())
