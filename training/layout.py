"""Which batch sizes, lanes and numbers of ranks go together, and what to set instead where they do not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def accumulation(batch: int, micro: int, world: int) -> int:
    """Micro-batches that each rank adds up to one step; 1 where a single one is more than its share of the batch."""
    return max(1, batch // (micro * world))


def check_layout(*, batch: int, micro: int, accumulation: int, world: int, lanes: int, samples: int) -> None:
    """Is this a layout that sees the run's order?

    B = micro-batch x accumulation x world size is constant over a run; the world size divides L, which divides B.

    Raises:
        ValueError: everything that is wrong, with the nearest values that would do.
    """
    names = ("batch", "micro", "accumulation", "world", "lanes", "samples")
    values = (batch, micro, accumulation, world, lanes, samples)
    low = [f"{name} is {value}; the least is 1" for name, value in zip(names, values, strict=True) if value < 1]
    if low:
        raise ValueError("; ".join(low))
    wrong = []
    if samples < batch:
        wrong.append(f"{samples:,} samples do not fill one batch of {batch:,}: set batch to {samples:,} or less")
    if batch % lanes:
        multiples = [n * lanes for n in (batch // lanes, batch // lanes + 1) if n]
        wrong.append(
            f"{lanes} lanes do not divide a batch of {batch}: set lanes to {_nearest(lanes, _divisors(batch))},"
            f" or batch to {_either(multiples)}"
        )
    if lanes % world:
        worlds = [size for size in _divisors(lanes) if batch % (micro * size) == 0] or _divisors(lanes)
        wrong.append(
            f"a world of {world} does not divide {lanes} lanes: start {_nearest(world, worlds)} ranks"
            f" (allowed: {', '.join(map(str, worlds))})"
        )
    elif batch % lanes == 0 and micro * accumulation * world != batch:
        share = batch // world  # whole: world divides lanes, which divide batch
        if share % micro == 0:
            remedy = f"set accumulation to {share // micro}"
        else:
            remedy = f"set micro to {_nearest(micro, _divisors(share))} (accumulation follows)"
        wrong.append(
            f"micro {micro} x accumulation {accumulation} x world {world} = {micro * accumulation * world}"
            f" is not the batch of {batch}: {remedy}"
        )
    if wrong:
        raise ValueError("this layout would not see the run's order: " + "; ".join(wrong))


def _divisors(n: int) -> list[int]:
    small = [k for k in range(1, int(n**0.5) + 1) if n % k == 0]
    return sorted({*small, *(n // k for k in small)})


def _nearest(value: int, allowed: Iterable[int]) -> str:
    """The allowed values on either side of `value`."""
    allowed = sorted(allowed)
    return _either([n for n in allowed if n < value][-1:] + [n for n in allowed if n > value][:1])


def _either(values: Sequence[int]) -> str:
    return " or ".join(map(str, values))
