"""Options of jobs/generate.py and jobs/demo.py: dataclasses that hold them, and types that check what was typed."""

from __future__ import annotations

import argparse
import ipaddress
import math
from dataclasses import dataclass, fields
from typing import TypeVar

Options = TypeVar("Options")


@dataclass(frozen=True)
class ModelOptions:
    """Which model draws, and on what.

    `model`: an exported folder; or a configuration (`sd15`, `tiny`, a YAML file) for `checkpoint` and `base`.
    `checkpoint`: any layout that `model.checkpoints` reads.
    `base`, `image_encoder`, `vae`: folders or hub names; None: what the configuration names. A configuration that names
    none (`tiny`) and no `base`: random weights.
    `device`: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
    `dtype`: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16.
    `offload`: keep parts in main memory while they are not needed; for a GPU with little memory.
    """

    model: str = "tiny"
    checkpoint: str | None = None
    base: str | None = None
    image_encoder: str | None = None
    vae: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    offload: bool = False


@dataclass(frozen=True)
class PictureOptions:
    """What decides a picture besides the model, the photo and the prompt.

    `policy`: which of several faces; `mix_with`: path of a photo whose face is mixed in, `alpha` its share, 0 to 1.
    A scale of None is the preset's.
    """

    negative_prompt: str
    seed: int
    steps: int
    policy: str
    mix_with: str | None
    alpha: float
    preset: str
    ip_scale: float | None
    controlnet_scale: float | None
    guidance_scale: float | None
    shortcut_scale: float | None


@dataclass(frozen=True)
class GenerateOptions:
    """All options of jobs/generate.py.

    `recursive`: sub-folders of `source`, too; `prompt`: prompts of the command line; `prompts`: a file with one a line;
    `images`: pictures for each face and prompt; `limit`: only so many faces; `part`: I/N, every N-th face from the I-th on.
    """

    source: str
    out: str
    recursive: bool
    prompt: list[str]
    prompts: str | None
    images: int
    limit: int | None
    part: str
    no_watermark: bool
    record_prompt: bool


def options_from(kind: type[Options], arguments: argparse.Namespace) -> Options:
    """A dataclass of options filled from the parsed arguments of the same names."""
    return kind(**{field.name: getattr(arguments, field.name) for field in fields(kind)})


def add_model_options(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the options of `ModelOptions`."""
    parser.add_argument("--model", default="tiny", help="an exported folder, or sd15, tiny, a YAML file (%(default)s)")
    parser.add_argument("--checkpoint", help="authors' model.bin, IP-Adapter-FaceID-Plus, our own, ...")
    parser.add_argument("--base", help="folder or hub name of Stable Diffusion 1.5")
    parser.add_argument("--image-encoder", help="folder or hub name of the CLIP image encoder")
    parser.add_argument("--vae", help="folder or hub name of the VAE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "fp16", "bf16"])
    parser.add_argument("--offload", action="store_true", help="for a GPU with little memory")


def positive_int(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return number


def seed(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**63 - 2**16:  # torch's range, with room for the pictures after the first
        raise argparse.ArgumentTypeError(f"{text}: give 0 to 9e18")
    return number


def finite_float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise argparse.ArgumentTypeError(f"{text}: give a finite number")
    return number


def fraction(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give 0 (all first) to 1 (all second)")
    return number


def ip_address(text: str) -> str:
    """An IP address, as `--listen` takes it."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text} is no IP address: give one of this machine's, e.g. 0.0.0.0"
        ) from error
