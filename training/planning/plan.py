"""What to expect of a training run, and what is worth caching for it: arithmetic of FLOPs, bytes and prices.

Nothing is run here. A run is as fast as the slowest of three: the GPUs, the storage, the cores of the loaders; they
overlap. Utilisation is a GPU's share of its dense peak over all that it computes, frozen encoders and recomputation
included; it is an assumption, like every field of `Assumptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rich.filesize import decimal

from model.config import ModelConfig
from training.planning.assumptions import Assumptions
from training.planning.flops import flops_of, sizes_of
from training.planning.footprint import BYTES, clip_bytes, memory_per_rank, moments_bytes, text_bytes, traffic_per_step
from training.recipe import TrainRecipe

NOTHING, VAE, VAE_CLIP = "nothing", "VAE", "VAE + CLIP"
OPTIONS = (NOTHING, VAE, VAE_CLIP)
# samples a second a core: a JPEG of 512 pixels; moments and a face's JPEG; moments and CLIP features. Only the ratios
# are used: they were measured in one process, on another machine than the user's
DECODED = {NOTHING: 155, VAE: 211, VAE_CLIP: 303}
WORTH = 0.05  # a cache that saves less of the cost is not worth having: the prices are not known better than that


@dataclass(frozen=True)
class Speed:
    """At one utilisation. Images a second: `gpu`, `storage`, `loader` are limits, `images_per_second` the least of them.

    Hours and costs of all GPUs together; `making`, `keeping`: of the cache; `pays_back`: epochs until it has earned
    what it costs, against caching nothing; none: never; `cost`: of the recipe's steps, cache included.
    """

    utilisation: float
    gpu: float
    storage: float
    loader: float
    images_per_second: float
    bottleneck: str
    gbs_needed: float
    cores_needed: float
    hours_epoch: float
    hours_run: float
    cost_run: float
    hours_making: float
    making: float
    keeping: float
    pays_back: float | None
    cost: float


@dataclass(frozen=True)
class Option:
    """`flop`, `bytes`: of one image, computed and read, the shards taken whole as a node does that fetches them (from a
    local file system less, where a picture is not needed); `stored`: bytes of the whole cache; `frozen`: bytes a rank of
    the frozen parts that it needs, by ZeRO stage; `speeds`: one for each utilisation."""

    name: str
    flop: float
    bytes: float
    stored: float
    frozen: dict[int, float]
    speeds: tuple[Speed, ...]


@dataclass(frozen=True)
class Verdict:
    cache: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """`epochs`: of the recipe's steps; `flop_per_byte`: what a stored byte saves; `memory`: bytes a rank of trained
    parameters, gradients and optimiser by ZeRO stage; `traffic`: bytes a rank sends in a step, `traffic_seconds`:
    between nodes; `clip_kept`: share of images whose features are not the zero image's; `text_share`: of the FLOP of
    an image with nothing cached, the text encoder's."""

    epochs: float
    clip_kept: float
    text_share: float
    model_flop: int
    flop_per_byte: dict[str, float]
    options: tuple[Option, ...]
    memory: dict[int, float]
    traffic: float
    traffic_seconds: float
    verdicts: tuple[Verdict, ...]

    def option(self, name: str) -> Option:
        return next(option for option in self.options if option.name == name)


def clip_kept(recipe: TrainRecipe) -> float:
    """Share of images that go through the CLIP encoder: what is dropped takes the zero image's features, a constant."""
    dropout = recipe.objective.condition_dropout
    return (1 - dropout.clip_features) * (1 - dropout.face) * (1 - dropout.everything)


def rate(flop: float, peak: float, utilisation: float, gpus: int = 1) -> float:
    """Images a second."""
    return gpus * peak * utilisation / flop


def plan(recipe: TrainRecipe, config: ModelConfig, given: Assumptions) -> Plan:
    """Every option at every utilisation, and a verdict for each utilisation."""
    flops, sizes, kept = flops_of(config), sizes_of(config), clip_kept(recipe)
    epochs = recipe.steps * recipe.batch.size / given.samples
    # the activations of the forward pass are computed again in the backward one
    recomputed = flops.forward if recipe.engine.gradient_checkpointing else 0
    base = flops.step + recomputed + flops.text
    moments, features = moments_bytes(config, given.cache_dtype), clip_bytes(config, given.cache_dtype)
    number = BYTES[recipe.engine.dtype]
    # FLOP computed, bytes stored, frozen parameters outside the engine, FLOP to make the cache
    encoders = {
        NOTHING: (flops.vae_encode + kept * flops.clip, 0, sizes.vae_encoder + sizes.image_encoder, 0),
        VAE: (kept * flops.clip, moments, sizes.image_encoder, flops.vae_encode),
        VAE_CLIP: (0, moments + features, 0, flops.vae_encode + flops.clip),
    }
    options: list[Option] = []
    for name, (computed, stored, encoder, to_make) in encoders.items():
        outside = encoder + sizes.text_encoder
        frozen = {stage: number * (outside + sizes.unet / (given.gpus if stage == 3 else 1)) for stage in range(4)}
        option = Option(name, base + computed, given.sample_bytes + stored, stored * given.samples, frozen, speeds=())
        speeds = tuple(
            _speed(option, to_make, share, given, epochs, options[0].speeds[at] if options else None)
            for at, share in enumerate(given.utilisation if given.peak else ())
        )
        options.append(replace(option, speeds=speeds))
    passes = recipe.batch.accumulation(given.gpus)
    stage, dtype = recipe.engine.zero, recipe.engine.dtype
    traffic = traffic_per_step(sizes.trained, sizes.unet, given.gpus, stage, dtype, passes)
    return Plan(
        epochs=epochs,
        clip_kept=kept,
        text_share=flops.text / options[0].flop,
        model_flop=flops.step,
        flop_per_byte={
            "VAE": flops.vae_encode / moments,
            "CLIP": kept * flops.clip / features,
            "text": flops.text / text_bytes(config, given.cache_dtype),
        },
        options=tuple(options),
        memory={
            stage: memory_per_rank(sizes.trained, given.gpus, stage, dtype, bool(recipe.saving.ema))
            for stage in range(4)
        },
        traffic=traffic,
        traffic_seconds=traffic * 8 / (given.network_gbits * 1e9),
        verdicts=tuple(_verdict(options, at, epochs) for at in range(len(options[0].speeds))),
    )


def _speed(
    option: Option, to_make: float, utilisation: float, given: Assumptions, epochs: float, uncached: Speed | None
) -> Speed:
    """`to_make`: FLOP an image of the encoders whose output is stored."""
    decode = given.decode_rate * DECODED[option.name] / DECODED[NOTHING]
    limits = {
        "GPU": rate(option.flop, given.peak, utilisation, given.gpus),
        "storage": given.storage_gbs * 1e9 / option.bytes,
        "loader cores": given.cores * given.gpus * decode,
    }
    bottleneck = min(limits, key=limits.get)
    images = limits[bottleneck]
    hours_epoch = given.samples / images / 3600
    dollars = given.gpus * given.price
    hours_making = 0.0
    if to_make:
        made = min(
            rate(to_make, given.peak, utilisation, given.gpus),
            given.storage_gbs * 1e9 / option.bytes,  # a sample is read, and its part of the cache written
            given.cores * given.gpus * given.decode_rate,
        )
        hours_making = given.samples / made / 3600
    making, keeping = hours_making * dollars, option.stored / 1e9 * given.storage_price * given.months
    earned = (uncached.hours_epoch - hours_epoch) * dollars if uncached else 0.0
    return Speed(
        utilisation=utilisation,
        gpu=limits["GPU"],
        storage=limits["storage"],
        loader=limits["loader cores"],
        images_per_second=images,
        bottleneck=bottleneck,
        gbs_needed=limits["GPU"] * option.bytes / 1e9,
        cores_needed=limits["GPU"] / decode,
        hours_epoch=hours_epoch,
        hours_run=hours_epoch * epochs,
        cost_run=hours_epoch * epochs * dollars,
        hours_making=hours_making,
        making=making,
        keeping=keeping,
        pays_back=(making + keeping) / earned if earned > 0 else None,
        cost=hours_epoch * epochs * dollars + making + keeping,
    )


def _verdict(options: list[Option], at: int, epochs: float) -> Verdict:
    """The cheapest; of two that differ by less than the prices are known, the one that stores less."""
    best = options[0]
    for option in options[1:]:
        if option.speeds[at].cost < (1 - WORTH) * best.speeds[at].cost:
            best = option
    if best is options[0]:
        reasons = [_reason(option, best, at, epochs) for option in options[1:]]
    else:
        reasons = [_reason(best, options[0], at, epochs)]
        reasons += [_further(option, best, at) for option in options[options.index(best) + 1 :]]
    return Verdict(best.name, "; ".join(reasons))


def _reason(option: Option, nothing: Option, at: int, epochs: float) -> str:
    speed, share = option.speeds[at], option.speeds[at].cost / nothing.speeds[at].cost - 1
    stored = f"{option.name} ({decimal(int(option.stored))})"
    if speed.pays_back is None:
        return f"{stored} makes no epoch shorter, {speed.bottleneck} would be the limit"
    return (
        f"{stored} {'saves' if share <= 0 else 'adds'} {abs(share):.0%} of the cost in {epochs:.2g} epochs, and pays "
        f"back after {speed.pays_back:.2g}"
    )


def _further(option: Option, best: Option, at: int) -> str:
    share = option.speeds[at].cost / best.speeds[at].cost - 1
    more = f"{option.name} ({decimal(int(option.stored - best.stored))} more)"
    return f"{more} would {'save another' if share <= 0 else 'add'} {abs(share):.0%}"
