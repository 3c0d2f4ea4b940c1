"""What a training run can be asked to do after a step: nothing, save a checkpoint, or save one and stop."""

from __future__ import annotations

import enum
from collections.abc import Callable


class StopRequest(enum.IntEnum):
    """Of the ranks' answers after a step the highest counts."""

    NONE = 0
    SAVE = 1  # and go on: a node is about to go
    STOP = 2  # save, and end


StopCheck = Callable[[int], StopRequest]  # called by each rank with the number of finished steps
