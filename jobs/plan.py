"""What to expect of a training run, and what is worth caching for it. Arithmetic: no model is run.

python jobs/plan.py                                        the default recipe on eight A100
python jobs/plan.py --recipe my.yaml --gpu h100 --gpus 64 --price 3 --storage-gbs 20
python jobs/plan.py --recipe my.yaml --measured runs/train/my    beside what a run did
python jobs/plan.py --json

What the recipe's shards say of themselves is read where they are; the rest is assumed, and printed as such.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from training.planning.plan import OPTIONS, Assumptions, Plan, PlanError, plan  # noqa: E402

NAMES = {"nothing": OPTIONS[0], "vae": OPTIONS[1], "vae+clip": OPTIONS[2]}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {field.name: field.default for field in fields(Assumptions)}
    parser.add_argument("--recipe", default="default", help="default, authors, tiny or a YAML file (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. engine.zero=3")
    parser.add_argument("--gpu", default="a100", help="a known GPU, or cpu (%(default)s)")
    parser.add_argument("--peak-tflops", type=float, help="dense peak of one GPU in the recipe's dtype, if not known")
    parser.add_argument("--gpus", type=int, help=f"one rank each ({known['gpus']}; of cpu: 1)")
    parser.add_argument("--mfu", default="0.30,0.40", help="shares of the peak that are used (%(default)s)")
    for option, what in (
        ("price", "an hour of one GPU costs"),
        ("storage-gbs", "GB/s that all ranks together can read"),
        ("storage-price", "a GB of cache costs a month"),
        ("months", "the cache is kept"),
        ("decode-rate", "samples/s that a core decodes with nothing cached"),
        ("network-gbits", "Gb/s of a rank between nodes"),
    ):
        default = known[option.replace("-", "_")]
        parser.add_argument(f"--{option}", type=float, default=default, help=f"{what} (%(default)s)")
    parser.add_argument("--samples", type=int, help=f"default: of the shards, else {known['samples']}")
    parser.add_argument("--sample-bytes", type=float, help=f"default: of the shards, else {known['sample_bytes']:.0f}")
    parser.add_argument("--cores", type=int, help="loader cores a GPU; default: the recipe's data.workers")
    parser.add_argument("--cache-dtype", choices=("fp16", "fp32"), default="fp16", help="%(default)s")
    parser.add_argument("--measured", metavar="OUT", help="a run's folder: what it did beside what is predicted")
    parser.add_argument("--cached", choices=NAMES, default="nothing", help="what that run had cached (%(default)s)")
    parser.add_argument("--json", action="store_true", help="for machines, on stdout")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: planned; 2: it cannot be, and why."""
    asked = parser().parse_args(arguments)
    from model.config import ConfigError, load_config
    from training.recipe import RecipeError, load_recipe

    try:
        recipe = load_recipe(asked.recipe, asked.set)
        config = load_config(recipe.model)
        given, assumed, notes = _given(asked, recipe)
        planned = plan(recipe, config, given)
        measured = _measured(asked, given, planned) if asked.measured else None
    except (RecipeError, ConfigError, PlanError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        recipe.batch.check_layout(given.gpus, given.samples)
    except ValueError as error:
        notes.append(f"Training will refuse this recipe on {given.gpus} GPUs: {error}")
    if asked.json:
        told = {"recipe": recipe.name, "gpu": asked.gpu, "given": asdict(given), "assumed": assumed, "notes": notes}
        print(json.dumps({**told, "plan": asdict(planned), "measured": measured}, indent=1))
        return 0
    from training.planning.tables import show

    show(recipe, asked.gpu, given, assumed, notes, planned, measured)
    return 0


def _given(asked: argparse.Namespace, recipe) -> tuple[Assumptions, list[str], list[str]]:
    """The planner's numbers, the names of those that nobody gave and nothing told, and notes."""
    samples, size, notes = asked.samples, asked.sample_bytes, []
    assumed = [field.name for field in fields(Assumptions) if field.name not in ("peak", "gpus", "cores")]
    if samples is None or size is None:
        found, note = _of_shards(recipe)
        notes.append(note)
        samples, size = samples or found.get("samples"), size or found.get("sample_bytes")
    try:
        shares = tuple(float(share) for share in asked.mfu.split(","))
    except ValueError:
        raise PlanError(f"--mfu {asked.mfu}: write shares of the peak, e.g. 0.30,0.40") from None
    known = {
        "gpus": 1 if asked.gpus is None and asked.gpu.lower() == "cpu" else asked.gpus, "peak": _peak(asked, recipe.engine.dtype), "utilisation": shares, "price": asked.price,
        "storage_gbs": asked.storage_gbs, "storage_price": asked.storage_price, "months": asked.months,
        "samples": samples, "sample_bytes": size, "decode_rate": asked.decode_rate,
        "cores": asked.cores if asked.cores is not None else max(1, recipe.data.workers),
        "network_gbits": asked.network_gbits, "cache_dtype": asked.cache_dtype,
    }  # fmt: skip
    given = replace(Assumptions(), **{name: value for name, value in known.items() if value is not None})
    default = Assumptions()
    measured = {name for name, value in (("samples", samples), ("sample_bytes", size)) if value is not None}
    assumed = [name for name in assumed if name not in measured and getattr(given, name) == getattr(default, name)]
    return given, assumed, notes


def _of_shards(recipe) -> tuple[dict[str, Any], str]:
    from training.data.folder import ShardError
    from training.data.index import read_index

    try:
        index = read_index(recipe.data.shards, recipe.data.shard_cache)
    except (ShardError, OSError, ImportError) as error:
        why = str(error).splitlines()[0]
        if "://" not in recipe.data.shards and not Path(recipe.data.shards).exists():
            why = f"no {recipe.data.shards} here"
        return {}, f"Samples and their bytes are assumed: the shards cannot be read ({why})."
    size = float(index.bytes.sum()) / index.samples
    return {"samples": index.samples, "sample_bytes": size}, (
        f"{index.samples:,} samples of {size / 1e3:.0f} kB in {len(index)} shards of {recipe.data.shards}."
    )


def _peak(asked: argparse.Namespace, dtype: str) -> float | None:
    from training.planning.flops import GPUS, peak_flops_of_name

    if asked.peak_tflops is not None:
        return asked.peak_tflops * 1e12
    if asked.gpu.lower() == "cpu":
        return None
    known = GPUS.get(asked.gpu.lower())
    peak = getattr(known, dtype) if known else peak_flops_of_name(asked.gpu, dtype)
    if known and peak is None:
        raise PlanError(f"--gpu {asked.gpu} has no {dtype}: set engine.dtype=fp16, or give --peak-tflops")
    if peak is None:
        raise PlanError(
            f"--gpu {asked.gpu} is not known; take one of {', '.join(GPUS)}, or give the dense peak of one GPU in {dtype} "
            "with --peak-tflops (make plan-train PEAK_TFLOPS=...)"
        )
    return peak


def _measured(asked: argparse.Namespace, given: Assumptions, planned: Plan) -> dict[str, Any]:
    """Median images a second of a run's log without its first line, which holds the start; errors of the predictions.

    Raises:
        PlanError: no log, or no line of training in it.
    """
    import fsspec

    log = f"{asked.measured.rstrip('/')}/log.jsonl"
    try:
        with fsspec.open(log, "rt") as lines:
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise PlanError(f"--measured {asked.measured}: {log} cannot be read: {error}") from error
    rates = [row["images_per_second"] for row in rows if row["kind"] == "train"]
    if not rates:
        raise PlanError(f"--measured {asked.measured}: no line of kind train in {log}: wait until the run has logged")
    images = statistics.median(rates[1:] or rates)
    option = planned.option(NAMES[asked.cached])
    told = {"images_per_second": images, "lines": len(rates), "cached": option.name}
    if given.peak:
        told["utilisation"] = images * option.flop / (given.peak * given.gpus)
        told["mfu"] = images * planned.model_flop / (given.peak * given.gpus)
        told["predictions"] = [
            {
                "utilisation": speed.utilisation,
                "images_per_second": speed.images_per_second,
                "error": speed.images_per_second / images - 1,
            }
            for speed in option.speeds
        ]
    return told


if __name__ == "__main__":
    raise SystemExit(main())
