"""Which sample is seen when: (samples per shard, seed, step t, slot i) -> (shard, position). Pure, no I/O.

An epoch is a seeded permutation of the shards. Their samples, one shard after the other, are cut into L contiguous
*lanes* of floor(N / L) samples. Inside a lane, consecutive shards form *windows*, whose samples are permuted together.
Slot i of a step belongs to lane i mod L. B slots make a step and L divides B, so every lane gives B / L samples a
step, an epoch has exactly floor(N / B) steps, and the N mod B samples that are left over are dropped: others in each
epoch.

Ranks and loader workers only slice this function. A rank owns whole lanes, so it, and the node that it stands on, reads
only their shards. So resume is one integer, the number of ranks may change to any divisor of L, and no rank waits for
another's missing batch.

The order is for ever: tests/training/data/test_order.py pins one, since a change would turn a resumed run into another run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from training.data.draws import keyed_permutation, keyed_seed

EPOCHS_KEPT = 4


class Epoch(NamedTuple):
    """The list of one epoch's samples, as pieces of shards that follow each other; all arrays int64 (pieces,).

    The first shard comes in two pieces, one at either end of the list: it begins at a random position, or else the
    samples that L does not divide would be the last of their shard in every epoch.
    """

    shard: np.ndarray
    first: np.ndarray  # position in the shard of the piece's first sample
    begin: np.ndarray  # where in the list the piece begins
    end: np.ndarray  # and ends


class Window(NamedTuple):
    """Samples of one lane that are permuted together. `start`: place in the lane of the first one that is seen."""

    start: int
    shards: np.ndarray  # int32 (samples,), in the order in which they are seen
    positions: np.ndarray  # int32 (samples,)

    @property
    def end(self) -> int:
        return self.start + len(self.shards)


class Order:
    """The order of a run. Every method is a function of its arguments.

    Args:
        counts: samples of each shard, holes included; a shard may be empty.
        seed: the run's seed.
        lanes: L; world sizes that divide it see the same order.
        batch: B, samples a step over all ranks.
        window: shards whose samples are permuted together. Where shards are small it is widened until it
            holds a lane's share of a step, so that no step needs more than two windows of a lane.

    Raises:
        ValueError: L does not divide B, or there are fewer samples than B.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, *, seed: int, lanes: int, batch: int, window: int):
        self.counts = np.asarray(counts, dtype=np.int64)
        if self.counts.ndim != 1 or (self.counts < 0).any():
            raise ValueError("counts must be a list of numbers of samples, none below 0")
        self.samples = int(self.counts.sum())
        self.seed, self.lanes, self.batch_size, self.window = int(seed), int(lanes), int(batch), int(window)
        if self.lanes < 1 or self.batch_size < 1 or self.window < 1:
            raise ValueError(f"lanes {lanes}, batch {batch} and window {window} must be at least 1")
        if self.batch_size % self.lanes:
            raise ValueError(f"{self.lanes} lanes do not divide a batch of {self.batch_size}")
        if self.samples < self.batch_size:
            raise ValueError(f"{self.samples:,} samples do not fill one batch of {self.batch_size:,}")
        self.steps_per_epoch = self.samples // self.batch_size
        self.lane_samples = self.samples // self.lanes
        self.lane_batch = self.batch_size // self.lanes
        self._epoch = lru_cache(EPOCHS_KEPT)(self._make_epoch)
        self._starts = lru_cache(EPOCHS_KEPT * self.lanes)(self._make_starts)
        # two windows of each lane, and one for a reader that lags
        self._window = lru_cache(3 * self.lanes)(self._make_window)

    # -- samples ---------------------------------------------------------------------------------------------------

    def epoch_of(self, t: int) -> tuple[int, int]:
        """(epoch, step in the epoch) of global step `t`, from 0."""
        if t < 0:
            raise ValueError(f"step {t} is below 0")
        return divmod(int(t), self.steps_per_epoch)

    def slots(self, t: int, slots: np.ndarray | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """(shards, positions) of some slots of step `t`, each int64 (len(slots),); only their lanes are looked at."""
        slots = np.asarray(slots, dtype=np.int64)
        if len(slots) and not 0 <= slots.min() <= slots.max() < self.batch_size:
            raise ValueError(f"slots go from 0 to {self.batch_size - 1}")
        epoch, step = self.epoch_of(t)
        shards, positions = np.empty_like(slots), np.empty_like(slots)
        lanes, places = slots % self.lanes, step * self.lane_batch + slots // self.lanes
        for lane in np.unique(lanes).tolist():
            mine = np.flatnonzero(lanes == lane)
            shards[mine], positions[mine] = self._places(epoch, lane, places[mine])
        return shards, positions

    # -- slices ----------------------------------------------------------------------------------------------------

    def lanes_of(self, rank: int, world: int) -> range:
        """The lanes of a rank: neighbours, so that those of a node's ranks are neighbours too."""
        if world < 1 or self.lanes % world or not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} has no share of {self.lanes} lanes; see check_layout")
        share = self.lanes // world
        return range(rank * share, (rank + 1) * share)

    def slots_of(self, rank: int, world: int, micro: int, accumulation_step: int) -> np.ndarray:
        """The slots of a rank's micro-batch, int64 (micro,), ascending. `accumulation_step` counts from 0."""
        lanes = np.array(self.lanes_of(rank, world))
        mine = (np.arange(self.lane_batch)[:, None] * self.lanes + lanes).ravel()
        if micro < 1 or len(mine) % micro or not 0 <= accumulation_step < len(mine) // micro:
            raise ValueError(
                f"micro-batch {accumulation_step} of {micro} is not in a rank's {len(mine)} slots; see check_layout"
            )
        return mine[accumulation_step * micro : (accumulation_step + 1) * micro]

    # -- what to bring ---------------------------------------------------------------------------------------------

    def window_at(self, t: int, lane: int) -> tuple[int, int]:
        """(epoch, number of the window) that a lane stands in at the start of step `t`."""
        epoch, step = self.epoch_of(t)
        starts = self._starts(epoch, lane)
        return epoch, int(np.searchsorted(starts, step * self.lane_batch, side="right")) - 1

    def shards_needed(self, t: int, lane: int) -> tuple[list[int], list[int]]:
        """What to have at hand for a lane at step `t`: the shards still to be read in its current window, and those of
        the one that follows (of the next epoch, at the end), each in the order of their first use."""
        epoch, number = self.window_at(t, lane)
        place, last = self.epoch_of(t)[1] * self.lane_batch, self.steps_per_epoch * self.lane_batch
        current = self._window(epoch, lane, number)
        now = current.shards[place - current.start : last - current.start]
        if current.end < last:
            following = self._window(epoch, lane, number + 1)
            then = following.shards[: last - following.start]
        else:
            then = self._window(epoch + 1, lane, 0).shards[:last]
        return list(dict.fromkeys(now.tolist())), list(dict.fromkeys(then.tolist()))

    @property
    def window_shards(self) -> int:
        """The most shards that a window can have, in any epoch."""
        filled = np.cumsum(np.sort(self.counts[self.counts > 0]))
        # a lane may begin with the last sample of a shard; the smallest shards may follow
        more = int(np.searchsorted(filled, self.lane_batch - 1)) + 1 if self.lane_batch > 1 else 0
        return min(max(self.window, 1 + more), len(filled))

    # -- how -------------------------------------------------------------------------------------------------------

    def _make_epoch(self, epoch: int) -> Epoch:
        filled = np.flatnonzero(self.counts)
        shard = filled[keyed_permutation(len(filled), self.seed, "shards", epoch)]
        skipped = keyed_seed(self.seed, "begin", epoch, 0) % int(self.counts[shard[0]])
        first = np.zeros(len(shard) + 1, dtype=np.int64)
        first[0] = skipped
        sizes = np.append(self.counts[shard], skipped)
        sizes[0] -= skipped
        end = np.cumsum(sizes)
        return Epoch(np.append(shard, shard[0]), first, end - sizes, end)

    def _make_starts(self, epoch: int, lane: int) -> np.ndarray:
        """Where in the lane its windows start, and the lane's end; int64 (windows + 1,)."""
        begin, end = lane * self.lane_samples, (lane + 1) * self.lane_samples
        ends = self._epoch(epoch).end
        low, high = np.searchsorted(ends, [begin, end - 1], side="right")
        pieces = np.minimum(ends[low : high + 1], end) - begin
        starts, piece = [0], 0
        while starts[-1] < self.lane_samples:
            enough = int(np.searchsorted(pieces, starts[-1] + self.lane_batch))
            piece = min(max(piece + self.window - 1, enough), len(pieces) - 1)
            starts.append(int(pieces[piece]))
            piece += 1
        return np.array(starts, dtype=np.int64)

    def _make_window(self, epoch: int, lane: int, number: int) -> Window:
        start, end = self._starts(epoch, lane)[number : number + 2].tolist()
        shards, positions = _look_up(self._epoch(epoch), np.arange(start, end) + lane * self.lane_samples)
        shuffle = keyed_permutation(end - start, self.seed, "window", epoch, lane, number)
        return Window(start, shards[shuffle].astype(np.int32), positions[shuffle].astype(np.int32))

    def _places(self, epoch: int, lane: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`places`: int64 (n,), places in the lane."""
        shards, positions = np.empty_like(places), np.empty_like(places)
        numbers = np.searchsorted(self._starts(epoch, lane), places, side="right") - 1
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            window = self._window(epoch, lane, number)
            shards[mine] = window.shards[places[mine] - window.start]
            positions[mine] = window.positions[places[mine] - window.start]
        return shards, positions


def _look_up(epoch: Epoch, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(shards, positions) of places in the epoch's list."""
    piece = np.searchsorted(epoch.end, places, side="right")
    return epoch.shard[piece], (epoch.first - epoch.begin)[piece] + places
