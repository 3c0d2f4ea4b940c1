"""What is written down of a run: one JSON line a step that is logged, and TensorBoard beside it; rank 0 only."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class Records:
    """OUT/log.jsonl and OUT/tensorboard, local. A resumed run goes on in the same files."""

    def __init__(self, out: Path | None, rank: int):
        self.out = out if rank == 0 else None
        self._board: SummaryWriter | None = None
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            self._board = SummaryWriter(str(self.out / "tensorboard"))

    def write(self, kind: str, step: int, **values: Any) -> None:
        """A line `{"kind": ..., "step": ..., ...}`; numbers go to TensorBoard too. `step`: finished steps."""
        if self.out is None:
            return
        # a number that is none has no place in JSON
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        with (self.out / "log.jsonl").open("a") as lines:
            lines.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)
            elif isinstance(value, list) and value and all(isinstance(item, float) for item in value):
                for place, item in enumerate(value):
                    self._board.add_scalar(f"{kind}/{name}-{place}", item, step)

    def picture(self, name: str, step: int, image: Any) -> None:
        """A PIL image: OUT/pictures/NAME-STEP.png."""
        if self.out is None:
            return
        folder = self.out / "pictures"
        folder.mkdir(exist_ok=True)
        image.save(folder / f"{name}-{step:09d}.png")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
