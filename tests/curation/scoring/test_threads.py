"""An actor beside a GPU: its threads decode ahead, and score what CPUs score, with the same result as one thread."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from common.decode import Picture
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.scoring.careful import alarm
from curation.scoring.threads import Threads
from tests.world import small_recipe


def test_items_come_in_order_and_no_more_are_begun_ahead_than_a_batch_needs():
    begun, lock = [], threading.Lock()

    def call(item: int) -> int:
        with lock:
            begun.append(item)
        time.sleep(0.001 * (item % 5))
        return -item

    threads = Threads(3, dict)
    for item, result in threads.ahead(range(60), call, batch=4):
        assert result() == -item
        if item in (0, 20):
            time.sleep(0.5)  # all that was asked for is done
            assert len(begun) == item + 1 + 3 + 2 * 4
    assert sorted(begun) == list(range(60))


def test_without_threads_an_item_is_done_when_its_turn_comes():
    done = []
    for item, result in Threads(1, dict).ahead([1, 2], done.append, batch=8):
        assert done == list(range(1, item))
        result()


def test_an_error_of_a_thread_is_that_items(monkeypatch):
    got = [(item, result) for item, result in Threads(2, dict).ahead([1, 0], lambda item: 1 / item, batch=1)]
    assert got[0][1]() == 1
    with pytest.raises(ZeroDivisionError):
        got[1][1]()


def test_a_batch_in_work_does_not_wait_for_what_is_decoded_ahead(small_world):
    """Else the model would wait for both: a third of a GPU's time (`make bench ONLY=pools`)."""
    recipe: Recipe = small_recipe(small_world)
    pictures = [Picture(np.zeros((8, 8, 3), np.uint8), 8, 8, 1, "jpeg")] * 4
    threads, go_on = Threads(2, recipe.open_filters), threading.Event()
    items = threads.ahead(range(9), lambda item: item == 0 or go_on.wait(60), batch=1)
    assert next(items)[1]()
    began = time.monotonic()
    threads.score(recipe.open_filters()["grayscale"], pictures, {})
    assert time.monotonic() - began < 30 and not go_on.is_set()
    go_on.set()
    assert all(result() for _, result in items)


@pytest.mark.parametrize("name", ["grayscale", "anime"])
def test_a_cpu_filter_says_the_same_in_pieces(small_world, name):
    recipe: Recipe = small_recipe(small_world)
    item: Filter = recipe.open_filters()[name]
    colours = np.random.default_rng(0)
    pictures = [Picture(colours.integers(0, 255, (80, 90, 3), np.uint8), 90, 80, 1, "jpeg") for _ in range(11)]
    whole, errors = Threads(1, recipe.open_filters).score(item, pictures, {})
    pieces, more = Threads(4, recipe.open_filters).score(item, pictures, {})
    assert pieces.equals(pa.table(whole).select(pieces.column_names).cast(pieces.schema)) and errors == more


LATE = """
import signal, sys, threading, time
from curation.scoring import careful
careful.STAGE_SECONDS = 1.0
def stages(seconds, times):
    for _ in range(times):
        with careful.alarm("decoder", ["id"]):
            time.sleep(seconds)
threads = [threading.Thread(target=stages, args=(float(a), int(b))) for a, b in (text.split("*") for text in sys.argv[1:])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("all done")
"""


@pytest.mark.parametrize(
    ("stages", "code"),
    [(["0.1*20", "0.2*10"], 0), (["0.1*1", "60*1"], -signal.SIGALRM), (["3*1", "0.1*40"], -signal.SIGALRM)],
)
def test_a_stage_that_takes_too_long_ends_the_process_in_whatever_thread_it_is(stages, code):
    """Also while other threads begin new stages all the time."""
    done = subprocess.run([sys.executable, "-c", LATE, *stages], capture_output=True, text=True, timeout=50)
    assert done.returncode == code and done.stdout == ("all done\n" if code == 0 else "")


def test_after_the_last_stage_no_timer_runs():
    with alarm("decoder", ["id"]), alarm("text", ["id"]):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
