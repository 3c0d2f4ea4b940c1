"""The threads of an actor that has a share of a GPU: they decode ahead and run the CPU filters while the model works.

OpenCV, Pillow and NumPy leave Python's lock while they work, so that threads fill the actor's cores, and what is decoded
never leaves its process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from common.decode import Picture
from curation.filters.base import Filter
from curation.scoring.batch import score_each

GLANCE = 0.05  # seconds
Item, Result = TypeVar("Item"), TypeVar("Result")


class Threads:
    """`count` threads; with one there is none beside the caller's, and everything is done when its turn comes.

    `open_filters`: gives filters of a thread's own, since a cascade of OpenCV serves one thread at a time.
    """

    def __init__(self, count: int, open_filters: Callable[[], dict[str, Filter]]):
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="ahead") if count > 1 else None
        # a batch in work must not queue behind what is decoded ahead of it: the model would wait for both
        self._scoring = ThreadPoolExecutor(count, thread_name_prefix="score") if count > 1 else None
        self._open_filters, self._local = open_filters, threading.local()

    @property
    def are_there(self) -> bool:
        """Whether anything is done ahead."""
        return self._pool is not None

    def ahead(
        self, items: Iterable[Item], call: Callable[[Item], Result], batch: int, idle: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Item, Callable[[], Result]]]:
        """(item, what gives its result) in order; so many are begun ahead that a batch's time in the model is filled.

        `idle` is called again and again while a result is waited for.
        """

        def result(future: Future[Result]) -> Result:
            while not wait([future], GLANCE).done:
                idle()
            return future.result()

        if self._pool is None:
            for item in items:
                yield item, lambda item=item: call(item)
            return
        begun: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                begun.append((item, self._pool.submit(call, item)))
                if len(begun) > self.count + 2 * batch:
                    first, future = begun.popleft()
                    yield first, partial(result, future)
            while begun:
                first, future = begun.popleft()
                yield first, partial(result, future)
        finally:
            for _, future in begun:
                future.cancel()

    def score(
        self, item: Filter, pictures: list[Picture], needed: dict[str, pa.Table]
    ) -> tuple[pa.Table, list[str | None]]:
        """`score_each`, in pieces side by side where the filter runs on a CPU."""
        if self._scoring is None or item.device == "gpu" or len(pictures) == 1:
            return score_each(item, pictures, needed)
        size = -(-len(pictures) // self.count)

        def piece(start: int) -> tuple[pa.Table, list[str | None]]:
            part = {need: table.slice(start, size) for need, table in needed.items()}
            return score_each(self._own(item.name), pictures[start : start + size], part)

        parts = list(self._scoring.map(piece, range(0, len(pictures), size)))
        schema = pa.schema(item.columns)
        table = pa.concat_tables([part.select(schema.names).cast(schema) for part, _ in parts])
        return table, [error for _, errors in parts for error in errors]

    def _own(self, name: str) -> Any:
        if not hasattr(self._local, "filters"):
            self._local.filters = self._open_filters()
        return self._local.filters[name]
