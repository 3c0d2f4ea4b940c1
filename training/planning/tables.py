"""A plan as tables for a terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.planning.assumptions import Assumptions
from training.planning.inputs import Inputs
from training.planning.measured import Measured
from training.planning.plan import NOTHING, VAE, VAE_CLIP, Option, Plan, Speed
from training.recipe import TrainRecipe

WIDTH = 110  # of the tables, in characters: into a file there is no terminal that has one

MADE_BY = {NOTHING: "", VAE: "WHAT=vae", VAE_CLIP: "WHAT=vae,clip"}
UNITS = {
    "utilisation": "of the peak, over all that is computed",
    "price": "$ an hour of a GPU",
    "storage_gbs": "GB/s of the storage",
    "storage_price": "$ a GB and month",
    "months": "months that the cache is kept",
    "samples": "samples",
    "sample_bytes": "bytes a sample",
    "decode_rate": "samples/s a loader core",
    "network_gbits": "Gb/s a rank between nodes",
    "cache_dtype": "in the cache",
}


def show(
    recipe: TrainRecipe,
    gpu: str,
    inputs: Inputs,
    planned: Plan,
    measured: Measured | None,
    console: Console | None = None,
) -> None:
    """Print the plan, and beside it what a run did."""
    given = inputs.given
    console = console or Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, WIDTH)
    peak = f" of {given.peak / 1e12:g} TFLOP/s ({recipe.engine.dtype}, dense)" if given.peak else ""
    console.print(
        f"[bold]{escape(recipe.name)}[/] on {given.gpus} x {escape(gpu)}{peak}: {recipe.steps:,} steps of "
        f"{recipe.batch.size} are {planned.epochs:.2g} epochs. Arithmetic, not a measurement."
    )
    console.print(
        "Assumed, every one an option (--help): " + "; ".join(_spelled(given, name) for name in inputs.assumed)
    )
    for note in inputs.notes:
        console.print(f"[dim]{escape(note)}[/]")
    console.print(_options(planned, given))
    if not given.peak:
        console.print("No speed is predicted without a peak: give --peak-tflops (make plan-train PEAK_TFLOPS=...)")
    console.print(_memory(recipe, planned, given))
    console.print(_traffic(recipe, planned, given))
    saved = {name: f"{flop / 1e6:.2g}" for name, flop in planned.flop_per_byte.items()}
    console.print(
        f"A cached byte saves, in MFLOP: VAE {saved['VAE']}, CLIP {saved['CLIP']} ({planned.clip_kept:.0%} of images, the "
        f"rest are dropped), text {saved['text']}: never, it is {planned.text_share:.1%} of all that is computed."
    )
    for share, verdict in zip(given.utilisation, planned.verdicts, strict=False):
        how = MADE_BY[verdict.cache]
        console.print(
            f"[bold]At {share:.0%}: cache {verdict.cache}[/]"
            + (f" (make cache {how} DTYPE={given.cache_dtype})" if how else "")
            + f". {verdict.reason}."
        )
    if measured:
        _compare(measured, console)


def _spelled(given: Assumptions, name: str) -> str:
    value = getattr(given, name)
    if name == "utilisation":
        return " and ".join(f"{share:.0%}" for share in value) + f" {UNITS[name]}"
    return f"{value:,} {UNITS[name]}" if isinstance(value, int) else f"{value} {UNITS[name]}"


def _options(planned: Plan, given: Assumptions) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("cached")
    for option in planned.options:
        table.add_column(option.name + (f" ({given.cache_dtype})" if option.stored else ""), justify="right")

    def row(name: str, of: Callable[[Option], str]) -> None:
        table.add_row(name, *(of(option) for option in planned.options))

    def each(name: str, of: Callable[[Speed], str]) -> None:
        if planned.verdicts:
            row(name, lambda option: " / ".join(dict.fromkeys(map(of, option.speeds))))

    row("TFLOP an image", lambda option: _number(option.flop / 1e12))
    row("kB an image read", lambda option: f"{option.bytes / 1e3:.0f}")
    row("cache, GB", lambda option: f"{option.stored / 1e9:,.4g}" if option.stored else "-")
    shares = " / ".join(f"{share:.0%}" for share in given.utilisation)
    each(f"images/s at {shares}", lambda speed: f"{speed.images_per_second:.4g}")
    each("  a GPU", lambda speed: f"{speed.images_per_second / given.gpus:.3g}")
    each("  limited by", lambda speed: speed.bottleneck)
    each(f"GB/s needed, of {given.storage_gbs:g}", lambda speed: _number(speed.gbs_needed))
    each(f"loader cores needed, of {given.cores * given.gpus}", lambda speed: f"{speed.cores_needed:.2g}")
    each("hours an epoch", lambda speed: _number(speed.hours_epoch))
    each("hours of all steps", lambda speed: _number(speed.hours_run))
    each("  $", lambda speed: f"{speed.cost_run:,.0f}")
    each("$ to make the cache", lambda speed: f"{speed.making:,.0f}" if speed.making else "-")
    each("$ to keep it", lambda speed: f"{speed.keeping:,.0f}" if speed.making else "-")
    each("epochs until it has paid", lambda speed: _number(speed.pays_back) if speed.pays_back else "-")
    each("$ in all", lambda speed: f"{speed.cost:,.0f}")
    return table


def _memory(recipe: TrainRecipe, planned: Plan, given: Assumptions) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(f"GB a rank of {given.gpus}, without activations")
    for stage in planned.memory:
        mark = " (recipe)" if stage == recipe.engine.zero else ""
        table.add_column(f"ZeRO-{stage}{mark}", justify="right")
    table.add_row("trained: weights, gradients, AdamW", *(_number(held / 1e9) for held in planned.memory.values()))
    for option in planned.options:
        table.add_row(
            f"and frozen, {option.name} cached",
            *(_number((held + option.frozen[stage]) / 1e9) for stage, held in planned.memory.items()),
        )
    return table


def _traffic(recipe: TrainRecipe, planned: Plan, given: Assumptions) -> str:
    text = (
        f"Gradients and weights: {planned.traffic / 1e9:.3g} GB a step and rank, {planned.traffic_seconds:.2g} s at "
        f"{given.network_gbits:g} Gb/s between nodes"
    )
    if planned.verdicts:
        seconds = [recipe.batch.size / speed.images_per_second for speed in planned.options[0].speeds]
        text += f", of a step of {' / '.join(f'{second:.2g}' for second in seconds)} s; inside a node it hardly counts"
    return text


def _compare(measured: Measured, console: Console) -> None:
    images = measured["images_per_second"]
    console.print(
        f"[bold]Measured[/] ({measured['cached']} cached, median of {measured['lines']} lines): {images:.4g} images/s"
        + (
            f", {measured['utilisation']:.1%} of the peak, MFU {measured['mfu']:.1%} (the model's own FLOP)"
            if "mfu" in measured
            else "; nothing to compare it with, as no peak is known"
        )
    )
    for predicted in measured.get("predictions", []):
        console.print(
            f"  predicted at {predicted['utilisation']:.0%}: {predicted['images_per_second']:.4g} images/s, "
            f"{predicted['error']:+.1%}"
        )


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
