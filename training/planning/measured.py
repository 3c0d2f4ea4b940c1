"""What a run did, beside what was predicted of it."""

from __future__ import annotations

import json
import statistics
from typing import NotRequired, TypedDict

from common.paths import open_place
from training.planning.assumptions import Assumptions, PlanError
from training.planning.plan import OPTIONS, Plan

CACHED = {"nothing": OPTIONS[0], "vae": OPTIONS[1], "vae+clip": OPTIONS[2]}  # names of the command line


class Prediction(TypedDict):
    utilisation: float
    images_per_second: float
    error: float  # predicted / measured - 1


class Measured(TypedDict):
    """`lines`: of the log; `mfu`: of the model's own FLOP; the last three only where a peak is known."""

    images_per_second: float
    lines: int
    cached: str
    utilisation: NotRequired[float]
    mfu: NotRequired[float]
    predictions: NotRequired[list[Prediction]]


def measured_run(out: str, cached: str, given: Assumptions, planned: Plan) -> Measured:
    """Median images a second of a run's log without its first line, which holds the start; errors of the predictions.

    Args:
        cached: what the run had cached, a key of `CACHED`.

    Raises:
        PlanError: no log, or no line of training in it.
    """
    log = f"{out.rstrip('/')}/log.jsonl"
    try:
        fs, path = open_place(log)
        rows = [json.loads(line) for line in fs.cat_file(path).splitlines(keepends=True) if line.endswith(b"\n")]
    except (OSError, ValueError) as error:
        raise PlanError(f"--measured {out}: {log} cannot be read: {error}") from error
    rates = [row["images_per_second"] for row in rows if row["kind"] == "train"]
    if not rates:
        raise PlanError(f"--measured {out}: no line of kind train in {log}: wait until the run has logged")
    images = statistics.median(rates[1:] or rates)
    option = planned.option(CACHED[cached])
    measured: Measured = {"images_per_second": images, "lines": len(rates), "cached": option.name}
    if given.peak:
        measured["utilisation"] = images * option.flop / (given.peak * given.gpus)
        measured["mfu"] = images * planned.model_flop / (given.peak * given.gpus)
        measured["predictions"] = [
            {
                "utilisation": speed.utilisation,
                "images_per_second": speed.images_per_second,
                "error": speed.images_per_second / images - 1,
            }
            for speed in option.speeds
        ]
    return measured
