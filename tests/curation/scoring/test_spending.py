"""What scoring took, and what it would have taken without an order."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from curation.scoring.careful import DECODER
from curation.scoring.spending import Spending, core_seconds


def spending(**stages: tuple[int, float]) -> Spending:
    made = Spending(core_seconds=7.0)
    for name, (images, seconds) in stages.items():
        made.note(DECODER if name == "decoder" else name, images, seconds)
    return made


def test_every_filter_on_every_image_costs_what_the_called_ones_did():
    # 10 core-seconds by the clock took 7; the ones that text was spared would have taken 6 more by the clock
    spent = spending(decoder=(100, 2.0), faces=(100, 6.0), text=(25, 2.0))
    assert spent.of_all(["faces", "text"]) == pytest.approx(7.0 * 16 / 10)
    assert str(spent) == "faces 100, text 25"


def test_nothing_is_said_of_a_filter_that_was_never_called_or_of_images_seen_before():
    assert spending(decoder=(100, 2.0), faces=(100, 6.0)).of_all(["faces", "text"]) is None
    assert spending(decoder=(0, 2.0), faces=(100, 6.0)).of_all(["faces"]) is None


def test_a_unit_carries_its_spending_from_operator_to_operator():
    first, second = spending(decoder=(4, 1.0), faces=(4, 1.0)), spending(decoder=(0, 1.0), text=(2, 3.0))
    carried = Spending.of_row({"name": "00-00000", **first.as_column()})
    assert carried == first and Spending.of_row({}) == Spending()
    carried.update(second)
    assert carried.calls == {DECODER: 4, "faces": 4, "text": 2}
    assert carried.seconds[DECODER] == 2.0 and carried.core_seconds == 14.0


def test_core_seconds_are_of_this_process_and_of_ended_children():
    began = core_seconds()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"], check=True)
    assert 0.55 < core_seconds() - began < 3
