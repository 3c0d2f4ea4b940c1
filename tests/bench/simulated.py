"""The same scoring as a discrete-event simulation: machines of any number, pools from the sizing functions.

An actor decodes ahead in its threads, gives a batch to its CPU filters, which run in pieces side by side, and then to the
GPU's; cores and GPUs of a machine are shared by its actors, first come, first served. Start-up takes no time, and units
are handed out by one queue, as Ray Data does.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Generator, Sequence

from common.cluster.pools import Machine, gpu_pool, threads_of
from tests.bench.sleepers import Busy, Work

Process = Generator["float | Tokens | Latch", None, None]
CPU_FILTERS = 2  # of the sample's recipe; the GPU's are two as well, one after the other


class Tokens:
    """So many at a time; the others wait in line. `held`: seconds in all."""

    def __init__(self, count: float):
        self.free, self.waiting, self.held = int(count), deque[Process](), 0.0


class Latch:
    """Waits until it was counted down."""

    def __init__(self, count: int):
        self.left, self.waiting = count, deque[Process]()


class Clock:
    def __init__(self) -> None:
        self.now, self._heap, self._number = 0.0, [], itertools.count()

    def start(self, process: Process) -> None:
        self._at(self.now, process)

    def run(self) -> None:
        while self._heap:
            self.now, _, process = heapq.heappop(self._heap)
            self._step(process)

    def give(self, tokens: Tokens) -> None:
        if tokens.waiting:
            self.start(tokens.waiting.popleft())
        else:
            tokens.free += 1

    def count_down(self, latch: Latch) -> None:
        latch.left -= 1
        while latch.left == 0 and latch.waiting:
            self.start(latch.waiting.popleft())

    def _at(self, time: float, process: Process) -> None:
        heapq.heappush(self._heap, (time, next(self._number), process))

    def _step(self, process: Process) -> None:
        for wanted in process:
            if isinstance(wanted, Tokens):
                if not wanted.free:
                    wanted.waiting.append(process)
                    return
                wanted.free -= 1
            elif isinstance(wanted, Latch):
                if wanted.left:
                    wanted.waiting.append(process)
                    return
            else:
                self._at(self.now + wanted, process)
                return


def simulated(
    machines: Sequence[Machine], work: Work, units: int, unit: int, actors_a_gpu: int, batch: int = 16
) -> Busy:
    """Score `units` of `unit` images on machines that all have GPUs."""
    clock, queue = Clock(), deque(range(units))
    pool = gpu_pool(machines, None, units, actors_a_gpu)
    every: list[tuple[Tokens, Tokens]] = []
    left = pool.start
    for machine in machines:
        cores, gpus = Tokens(machine.cpus), Tokens(machine.gpus)
        every.append((cores, gpus))
        fit = min(math.floor(machine.cpus / pool.cpus), math.floor(machine.gpus / pool.gpus), left)
        left -= fit
        for _ in range(fit):
            clock.start(_actor(clock, queue, cores, gpus, work, threads_of(machine, actors_a_gpu), unit, batch))
    clock.run()
    return Busy(clock.now, sum(cores.held for cores, _ in every), sum(gpus.held for _, gpus in every))


def _held(clock: Clock, tokens: Tokens, seconds: float, *also: Tokens, done: Latch | None = None) -> Process:
    """Hold one of `tokens` for some seconds, and one of each of `also` as long, taken before."""
    yield from also
    yield tokens
    yield seconds
    tokens.held += seconds
    for each in (tokens, *also):
        clock.give(each)
    if done is not None:
        clock.count_down(done)


def _actor(
    clock: Clock, queue: deque[int], cores: Tokens, gpus: Tokens, work: Work, threads: int, unit: int, batch: int
) -> Process:
    ahead, scoring = Tokens(threads), Tokens(threads)
    while queue:
        queue.popleft()
        begun: deque[Latch] = deque()
        ready = 0
        for image in range(unit):
            begun.append(Latch(1))
            clock.start(_held(clock, cores, work.decode, ahead, done=begun[-1]))
            last = image == unit - 1
            while begun and (last or len(begun) > threads + 2 * batch):
                yield begun.popleft()
                ready += 1
                if ready == batch or (last and not begun):
                    yield from _scored(clock, cores, gpus, scoring, work, threads, ready)
                    ready = 0


def _scored(
    clock: Clock, cores: Tokens, gpus: Tokens, scoring: Tokens, work: Work, threads: int, images: int
) -> Process:
    size = -(-images // threads)
    for _ in range(CPU_FILTERS):
        pieces = [min(size, images - start) for start in range(0, images, size)]
        done = Latch(len(pieces))
        for piece in pieces:
            clock.start(_held(clock, cores, work.cpu / CPU_FILTERS * piece, scoring, done=done))
        yield done
    for _ in range(2):
        yield from _held(clock, gpus, work.gpu / 2 * images)


def shares(busy: Busy, machines: Sequence[Machine]) -> tuple[float, float]:
    """How much of the time the cores were held, and the GPUs."""
    cpus, gpus = (sum(getattr(machine, kind) for machine in machines) for kind in ("cpus", "gpus"))
    return busy.cpu / cpus / busy.seconds, busy.gpu / max(gpus, 1e-9) / busy.seconds
