"""What a loader worker makes arrives in one piece, in order, before it is asked for; and so do its errors."""

from __future__ import annotations

import threading

import pytest

from training.data.packed_batch import receive_ahead


def test_the_next_is_received_while_one_is_used():
    asked = threading.Semaphore(0)

    def made():
        for number in range(3):
            asked.release()
            yield number

    feed = receive_ahead(made())
    assert next(feed) == 0
    assert asked.acquire(timeout=5) and asked.acquire(timeout=5)  # 1 is under way, or here
    assert list(feed) == [1, 2]


def test_what_fails_there_is_raised_here_in_its_turn():
    def made():
        yield 0
        raise OSError("the shard is gone")

    feed = receive_ahead(made())
    assert next(feed) == 0
    with pytest.raises(OSError, match="the shard is gone"):
        next(feed)


def test_a_reader_that_stops_early_leaves_no_thread():
    feed = receive_ahead(iter(range(10)))
    assert next(feed) == 0
    feed.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("receive-ahead")]
