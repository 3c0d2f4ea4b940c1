"""What a picture costs: seconds, and the most memory that was held since its method was loaded."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "measured.jsonl"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): sets VmHWM to the memory that is held now


@dataclass(frozen=True)
class Measured:
    """Of the picture `key`. `peak`: bytes, 0 where it cannot be known; `device`: what it was drawn on."""

    key: str
    seconds: float
    peak: int
    device: str


class PeakMemory:
    """The most memory held since this was made: a GPU's, else this process's."""

    def __init__(self, device: str):
        self.gpu = device.startswith("cuda")
        self.device = device
        if self.gpu:
            import torch

            self.device = torch.cuda.get_device_name(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._torch_device = device
        elif CLEAR.exists():
            CLEAR.write_text(RESET_PEAK)

    def bytes(self) -> int:
        if self.gpu:
            import torch

            return torch.cuda.max_memory_allocated(self._torch_device)
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if CLEAR.exists() else None
        return int(found[1]) * 1024 if found else 0


def append(folder: Path, measured: Measured) -> None:
    """Before the picture is there, so that none is without its measure; a line that a kill cut short is passed over."""
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(asdict(measured)))


def facts(folder: Path, keys: Collection[str]) -> dict[str, str]:
    """What method.json says of the cost of these pictures, for each device that some were drawn on."""
    by_key = {row.key: row for row in _read(folder) if row.key in keys}
    rows = list(by_key.values())
    devices = sorted({row.device for row in rows})
    seconds, peaks = [], []
    for device in devices:
        own = [row for row in rows if row.device == device]
        seconds.append(f"{statistics.median(row.seconds for row in own):.2f} (median of {len(own)}, {device})")
        if peak := max(row.peak for row in own):
            peaks.append(f"{peak / 2**30:.2f} GiB ({device})")
    return {"seconds_a_picture": ", ".join(seconds), "peak_memory": ", ".join(peaks)} if rows else {}


def _read(folder: Path) -> Iterator[Measured]:
    file = folder / NAME
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            yield Measured(**json.loads(line))
        except (ValueError, TypeError):  # the line that a kill cut short: its picture was never there
            continue
