"""How much memory decoded pictures may take: work is admitted by the bytes that its images announce."""

from __future__ import annotations

import threading


class Allowance:
    """Bytes that are given out in turn: the turns are 0, 1, 2, ..., and who asks for more than is left waits, unless nothing is
    given out. So what is needed next has its bytes first."""

    def __init__(self, whole: float):
        self._whole, self._given, self._turn = whole, 0.0, 0
        self._waiting: set[int] = set()
        self._ended = False
        self._changed = threading.Condition()

    def take(self, turn: int, amount: float) -> None:
        """Every turn takes once."""
        with self._changed:
            self._waiting.add(turn)
            self._changed.wait_for(lambda: self._ended or (self._turn == turn and self.has(amount)))
            self._waiting.remove(turn)
            self._turn, self._given = turn + 1, self._given + amount
            self._changed.notify_all()

    def has(self, amount: float) -> bool:
        """Whether who comes next would not wait for so much."""
        return not self._given or self._given + amount <= self._whole

    def give_back(self, amount: float) -> None:
        with self._changed:
            self._given -= amount
            self._changed.notify_all()

    def end(self) -> None:
        """Nobody waits any more: what was begun ahead is not needed."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def is_short(self) -> bool:
        """Whether somebody waits whose turn it is."""
        with self._changed:
            return self._turn in self._waiting
