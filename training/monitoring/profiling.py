"""Where a step's time goes, as a trace for chrome://tracing or Perfetto."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

WARM_UP = 5  # steps that are left alone first: allocations, compilation, a cold cache


@contextlib.contextmanager
def profiled(out: Path | None, steps: int, device: torch.device) -> Iterator[profile | None]:
    """OUT/profile/trace-NNN.json and a table of the dearest operators, of `steps` steps after the first few.

    Yields:
        the profile, whose `step()` is to be called after each step; None for no steps, or no local folder.
    """
    if not steps or out is None:
        yield None
        return
    folder = out / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    on_gpu = device.type == "cuda"

    def write(traced: profile) -> None:
        number = len(list(folder.glob("trace-*.json")))
        traced.export_chrome_trace(str(folder / f"trace-{number:03d}.json"))
        dearest = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
        table = traced.key_averages().table(sort_by=dearest, row_limit=40)
        (folder / f"operators-{number:03d}.txt").write_text(table)

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    plan = schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as trace:
        yield trace
