"""Work is admitted by the bytes that its images announce, in turn, and nothing waits for ever."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pytest

from common.decode import ImageLimits, memory_of
from curation.run_directory.schemas import FETCHED
from curation.scoring import unit_in_work
from curation.scoring.allowance import Allowance
from curation.scoring.threads import Threads
from curation.scoring.unit_in_work import UnitInWork

PICTURE = 200 * 100 * 3  # bytes


def test_who_asks_for_more_than_is_left_waits_its_turn():
    allowance, order = Allowance(100), []

    def take(turn, amount):
        allowance.take(turn, amount)
        order.append(turn)

    threads = [threading.Thread(target=take, args=pair) for pair in ((2, 10), (1, 70), (0, 60))]
    for thread in threads:
        thread.start()
    threads[2].join(10)
    time.sleep(0.1)
    assert order == [0] and allowance.is_short and not allowance.has(70) and allowance.has(40)
    allowance.give_back(60)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2] and not allowance.is_short


def test_one_image_may_be_larger_than_all_that_there_is():
    allowance = Allowance(100)
    allowance.take(0, 1e9)
    assert not allowance.has(1)
    allowance.give_back(1e9)
    assert allowance.has(1e9)


def test_at_the_end_nobody_waits():
    allowance = Allowance(100)
    allowance.take(0, 100)
    waiting = [threading.Thread(target=allowance.take, args=(turn, 50)) for turn in (1, 2, 7)]
    for thread in waiting:
        thread.start()
    allowance.end()
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_never_take_more_than_they_may_and_every_image_is_scored(threads, monkeypatch):
    """Batches of 16 would hold 16 pictures: there is memory for a few, so batches are scored before they are full."""
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8))[1].tobytes()
    needed = memory_of(data)
    assert needed >= PICTURE
    whole = needed + 3 * PICTURE
    monkeypatch.setattr(unit_in_work, "LEAST_PICTURES", whole)
    rows, most, batches = 40, [0.0], []

    class Watched(Allowance):
        def take(self, turn, amount):
            super().take(turn, amount)
            most[0] = max(most[0], self._given)

    monkeypatch.setattr(unit_in_work, "Allowance", Watched)
    recipe = SimpleNamespace(score=SimpleNamespace(memory_gb=0.1), images=ImageLimits())
    operator = SimpleNamespace(
        recipe=recipe, names=[], threads=Threads(threads, dict), blame={}, watch=lambda stage, ids: threading.Lock()
    )
    fetched = pa.table(
        {"sha256": ["0" * 64] * rows, **{name: pa.nulls(rows) for name in FETCHED.names if name != "sha256"}}
    )
    known = SimpleNamespace(
        ids=[f"{row:016x}" for row in range(rows)], fetched=fetched, images=[None] * rows, evidence={},
        note_image=lambda row, facts: None,
    )  # fmt: skip
    work = UnitInWork(operator, known, SimpleNamespace(in_tar_order=list(range(rows)), read=lambda row: data), [], None)
    scored = work.score_batch
    work.score_batch = lambda: (batches.append(len(work.pictures)), scored())
    for row, decoded in operator.threads.ahead(range(rows), work.decoded, 16, work.make_room):
        work.take(row, *decoded(), 16)
    work.score_batch()
    assert sum(batches) == rows and max(batches) <= 5
    assert most[0] <= whole


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_what_cannot_be_decoded_needs_nothing(data):
    assert memory_of(data) == 0
