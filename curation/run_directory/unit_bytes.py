"""The bytes of a unit's images, out of its fetched tar: read where they lie, or brought from a bucket in few requests.

From a bucket they are brought ahead, in the order of the tar, into a scratch file with the tar's offsets: the whole tar
in one request where nearly all of it is wanted, else ranges, neighbours joined while what lies between them is little.
So memory holds a few pieces, whatever the unit's size.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import pyarrow as pa

from common.errors import UserError
from common.hashing import sha256_of_bytes
from curation.run_directory.run import Run

DENSE = 5 / 6  # from this share of a tar on, it is brought whole
OVERHEAD = 4096  # bytes that a tar may spend on an image, beside its own
SPARE = 0.15  # bytes between joined ranges, as a share of those that are wanted
PIECE = 8 << 20  # bytes of one request for a range, unless one image is larger
REQUESTS = 8  # for ranges, at a time
GLANCE = 0.01  # seconds between two looks at a file that grows


class BytesChanged(UserError, RuntimeError):
    """A fetched file no longer holds what the snapshot says."""


@dataclass(frozen=True)
class Range:
    """Bytes `start` to `stop` of a tar, which hold the images `rows`."""

    start: int
    stop: int
    rows: tuple[int, ...]


def joined_ranges(offsets: np.ndarray, sizes: np.ndarray, rows: Sequence[int]) -> list[Range]:
    """Few ranges that hold these rows of a unit, in the order of the tar: the narrowest gaps are bridged, as long as all
    of them together are `SPARE` of the wanted bytes and no range is longer than `PIECE`."""
    order = sorted(rows, key=lambda row: int(offsets[row]))
    starts, stops = offsets[order], offsets[order] + sizes[order]
    gaps = np.maximum(starts[1:] - stops[:-1], 0)
    narrowest = np.argsort(gaps, kind="stable")
    within = np.cumsum(gaps[narrowest]) <= SPARE * sizes[order].sum()
    bridged = np.zeros(len(gaps), bool)
    bridged[narrowest[within]] = True
    ranges: list[Range] = []
    first = 0
    for at in range(1, len(order) + 1):
        if at == len(order) or not bridged[at - 1] or stops[at] - starts[first] > PIECE:
            ranges.append(Range(int(starts[first]), int(stops[at - 1]), tuple(order[first:at])))
            first = at
    return ranges


class UnitBytes:
    """Reads images of one unit by their row, inside a `with`.

    `fetched`: the rows of `units.fetched_images`; `rows`: those that will be asked for, once each, best in the order
    of `in_tar_order`.
    """

    def __init__(self, run: Run, tar: str, fetched: pa.Table, rows: Sequence[int]):
        self.run, self.tar = run, tar
        self._offsets, self._sizes = (fetched[name].to_numpy() for name in ("offset", "size"))
        self._hashes = fetched["sha256"]
        self.in_tar_order = sorted(rows, key=lambda row: int(self._offsets[row]))
        extent = int((self._offsets + self._sizes).max()) if len(self._sizes) else 0
        self._is_whole = int((self._sizes + OVERHEAD)[self.in_tar_order].sum()) >= DENSE * extent
        self._brought: dict[int, Future[None]] = {}
        self._scratch: str | None = None

    def __enter__(self) -> UnitBytes:
        if not self.run.is_local and self.in_tar_order:
            descriptor, self._scratch = tempfile.mkstemp(prefix="unit-")
            os.close(descriptor)
            self._pool = ThreadPoolExecutor(REQUESTS)
            self._stopped = threading.Event()
            if self._is_whole:
                self._brought = dict.fromkeys(self.in_tar_order, self._pool.submit(self._bring_whole))
            else:
                for piece in joined_ranges(self._offsets, self._sizes, self.in_tar_order):
                    self._brought |= dict.fromkeys(piece.rows, self._pool.submit(self._bring, piece))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scratch:
            self._stopped.set()
            self._pool.shutdown(cancel_futures=True)
            os.unlink(self._scratch)
            self._scratch = None

    def read(self, row: int) -> bytes:
        """One image's bytes as fetched.

        Raises:
            BytesChanged: their hash is not the snapshot's.
        """
        offset, size = int(self._offsets[row]), int(self._sizes[row])
        data = self._from_scratch(row, offset, size) if self._scratch else self.run.read_bytes(self.tar, offset, size)
        if sha256_of_bytes(data) != self._hashes[row].as_py():
            raise BytesChanged(
                f"{self.run.url(self.tar)}: the bytes at {offset} are not those that were fetched. The file was "
                "changed or is damaged: restore it, or fetch again into a new run directory"
            )
        return data

    def _from_scratch(self, row: int, offset: int, size: int) -> bytes:
        brought = self._brought[row]
        while self._is_whole and not brought.done():  # what is asked for need not be the tar's end
            if len(data := self._part(offset, size)) == size:
                return data
            time.sleep(GLANCE)
        brought.result()
        return self._part(offset, size)

    def _part(self, offset: int, size: int) -> bytes:
        assert self._scratch
        with open(self._scratch, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def _bring_whole(self) -> None:
        self.run.get_file(self.tar, self._scratch)

    def _bring(self, piece: Range) -> None:
        if self._stopped.is_set():
            return
        data = self.run.read_bytes(self.tar, piece.start, piece.stop - piece.start)
        assert self._scratch
        with open(self._scratch, "r+b") as file:
            file.seek(piece.start)
            file.write(data)
