"""What the planner assumes where nothing is known: prices, storage, network, the shards. Each is an option of the command."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from common.errors import UserError
from training.planning.footprint import BYTES


class PlanError(UserError, ValueError):
    """Nothing can be planned from this; the message names the field."""


def _option(default, text: str, **more):
    """A field that is an option of jobs/plan.py, with its help; `{default}` in it is replaced."""
    return field(default=default, metadata={"help": text.format(default=default), **more})


@dataclass(frozen=True)
class Assumptions:
    """What is not known before a run; defaults are of the order of a cloud's prices and of a network file system.

    `peak`: FLOP/s of one GPU, dense; None: nothing is said about speed. `utilisation`: shares of the peak; the defaults
    are the best published of this class, and the goal.
    """

    gpus: int = _option(8, "one rank each ({default}; of cpu: 1)", type=int)
    peak: float | None = None
    utilisation: tuple[float, ...] = (0.30, 0.40)
    price: float = _option(2.0, "an hour of one GPU costs ({default})")
    storage_gbs: float = _option(2.0, "GB/s that all ranks together can read ({default})")
    storage_price: float = _option(0.023, "a GB of cache costs a month ({default})")
    months: float = _option(1.0, "the cache is kept ({default})")
    samples: int = _option(4_200_000, "default: of the shards, else {default}", type=int)
    sample_bytes: float = _option(100_000.0, "default: of the shards, else {default:.0f}")
    decode_rate: float = _option(155.0, "samples/s that a core decodes with nothing cached ({default})")
    cores: int = _option(6, "loader cores a GPU; default: the recipe's data.workers", type=int)
    network_gbits: float = _option(100.0, "Gb/s of a rank between nodes ({default})")
    cache_dtype: str = _option("fp16", "{default}", type=str, choices=("fp16", "fp32"))

    def __post_init__(self):
        positive = ("gpus", "price", "storage_gbs", "samples", "sample_bytes", "decode_rate", "cores", "network_gbits")
        for name in positive:
            if getattr(self, name) <= 0:
                raise PlanError(f"{name} is {getattr(self, name)}; it must be more than 0")
        if self.storage_price < 0 or self.months < 0:
            raise PlanError("storage_price and months must not be negative")
        if not self.utilisation or any(not 0 < share <= 1 for share in self.utilisation):
            raise PlanError(f"utilisation is {self.utilisation}; shares of the peak, more than 0 and at most 1")
        if self.peak is not None and self.peak <= 0:
            raise PlanError(f"peak is {self.peak}; FLOP/s, more than 0")
        if self.cache_dtype not in BYTES:
            raise PlanError(f"cache_dtype is {self.cache_dtype}; take {', '.join(BYTES)}")


OPTION_FIELDS = tuple(each for each in fields(Assumptions) if "help" in each.metadata)
