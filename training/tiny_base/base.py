"""A tiny Stable Diffusion that has learnt something, for `tiny.yaml` to stand on. Minutes on two CPU cores.

Around a random frozen UNet every adapter's loss falls, whatever its conditions say: it learns to denoise. And behind
a random VAE there is nothing to see. So both are trained first, on photos, without conditions; the text and image
encoders stay random, as every prompt is as good as another here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.hashing import sha256_of_bytes, sha256_of_file
from model.config import ModelConfig
from training.tiny_base.pictures import PictureError, Pictures, split
from training.tiny_base.recipe import DEFAULT, BaseRecipe, ReportProgress

STAMP = "training.json"
STALE = 3600.0  # seconds
CODE = ("base.py", "recipe.py", "fit.py", "parts.py", "pictures.py", "unet.py", "vae.py")
LIBRARIES = ("torch", "diffusers", "transformers", "numpy")
PARTS = ("unet", "vae", "text_encoder", "image_encoder")


def origin_of(config: ModelConfig, pictures: Pictures, recipe: BaseRecipe, vocabulary: Path) -> dict[str, Any]:
    """What a base follows from: architecture, pictures, recipe, vocabulary, this code and its libraries."""
    names = {"resolution", "unet", "vae", "text_encoder", "image_encoder", "scheduler"}
    code = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in CODE))
    return {
        "config": config.model_dump(mode="json", include=names),
        "pictures": pictures.digest(),
        "recipe": asdict(recipe),
        "vocabulary": sha256_of_file(vocabulary),
        "code": code.hexdigest()[:16],
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def key(origin: dict[str, Any]) -> str:
    """16 hex digits of what the base follows from."""
    return sha256_of_bytes(json.dumps(origin, sort_keys=True).encode())[:16]


def is_complete(folder: Path) -> bool:
    return (folder / STAMP).is_file()


def find_or_train(
    config: ModelConfig,
    pictures: Pictures,
    vocabulary: Path,
    root: Path,
    recipe: BaseRecipe = DEFAULT,
    report: ReportProgress = lambda step, done, total, note: None,
) -> Path:
    """The base for these pictures: the folder root/KEY, trained now unless it is there. It appears whole or not at all.

    Args:
        pictures: of `config.resolution` pixels, each motif once (`pictures.distinct`).
        vocabulary: CLIP's bpe_simple_vocab_16e6.txt.gz.
        report: called after every step of training and measuring.

    Returns:
        a folder as StableDiffusionPipeline saves it, with `image_encoder`, and with `training.json`, README.md,
        reconstructions.png (held-out pictures over what the VAE makes of them) and samples.png beside them.

    Raises:
        PictureError: pictures of another size, or too few photos to hold some out.
    """
    if pictures.pixels.shape[1] != config.resolution:
        raise PictureError(
            f"pixels: pictures of {pictures.pixels.shape[1]} pixels, the configuration {config.name} wants "
            f"{config.resolution} (resolution)"
        )
    trained_on, held_out = split(pictures, recipe.held_out)
    origin = origin_of(config, pictures, recipe, vocabulary)
    name = key(origin)
    folder = root / name
    if is_complete(folder):
        return folder
    # imported here: a rerun that finds its base is done before torch is loaded
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from training.tiny_base import parts as base_parts

    diffusers_logging.disable_progress_bar()  # of files written in milliseconds
    transformers_logging.disable_progress_bar()
    root.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", suffix=".tmp", dir=root))
    try:
        scratch.chmod(0o755)
        begun = time.monotonic()
        parts = base_parts.train(config, trained_on.pixels, vocabulary, recipe, report)
        measured = base_parts.measure(parts, config, held_out, recipe.seed, report)
        parts.pipeline().save_pretrained(scratch)
        base_parts.draw(parts, held_out.pixels[held_out.faces], recipe, scratch)
        facts = origin | {
            "key": name,
            "pictures": {
                "sha256": origin["pictures"],
                "trained_on": len(trained_on),
                "trained_on_photos": len(set(trained_on.photos)),
                "held_out": len(held_out),
                "held_out_photos": sorted(set(held_out.photos)),
            },
            "sha256": {part: _weights_sha256(scratch / part) for part in PARTS},
            "measured": measured,
            "losses": parts.losses,
            "seconds": {**parts.seconds, "all": round(time.monotonic() - begun, 1)},
        }
        (scratch / "README.md").write_text(readme(facts))
        (scratch / STAMP).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        _swap(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def facts_of(folder: Path) -> dict[str, Any]:
    """What `training.json` of a base holds."""
    return json.loads((folder / STAMP).read_text())


def readme(facts: dict[str, Any]) -> str:
    """What was trained, on what, and how good it is."""
    pictures, measured, recipe = facts["pictures"], facts["measured"], facts["recipe"]
    vae, faces, mean = measured["vae"], measured["vae"]["faces"], measured["unet_mean"]
    columns = [measured["unet"][name] for name in ("empty_prompt", "random_prompts", "untrained")]
    rows = "\n".join(
        f"| {number * 10}-{number * 10 + 10} % | " + " | ".join(f"{loss:.3f}" for loss in losses) + " |"
        for number, losses in enumerate(zip(*columns, strict=True))
    )
    return f"""# A tiny base for Face-MakeUp

Made by `make tiny-base`, to show on two CPU cores that the face adapter learns. It is good for nothing else, and made
from photos of others: do not pass it on.

- `vae`, `unet`: trained from scratch ({recipe["vae_steps"]} and {recipe["unet_steps"]} steps) on
  {pictures["trained_on"]} pictures of {pictures["trained_on_photos"]} photos (sha256 of all: {pictures["sha256"]}).
  The UNet saw the text states of the empty prompt and nothing else.
- `text_encoder`, `image_encoder`: **random weights** (seed {recipe["seed"]}). A prompt means nothing; the image
  encoder's features are a fixed random function of the face.

Measured on {faces["pictures"]} faces of {len(pictures["held_out_photos"])} other photos:

- VAE: Pearson correlation of pixels and their reconstruction {faces["mean"]:.3f} on average, {faces["worst"]:.3f} at
  worst, {faces["below_0.9"]} below 0.9 (an untrained one: {vae["untrained"]["mean"]:.3f}; {vae["all"]["pictures"]} pictures of
  all kinds, drawings and textures among them: {vae["all"]["mean"]:.3f}, at worst {vae["all"]["worst"]:.3f}). `scaling_factor`
  {vae["scaling_factor"]:.4f} gives the latents of the trained pictures unit variance, those held out {vae["held_out_variance"]:.2f}.
- UNet: squared error of the noise by timestep, the same noise for all; telling zero would be 1. On average
  {mean["empty_prompt"]:.3f}, with random words for a prompt {mean["random_prompts"]:.3f}, untrained {mean["untrained"]:.3f}.

| timestep | empty prompt | random prompts | untrained |
|---|---|---|---|
{rows}

`reconstructions.png`: held-out pictures above what the VAE makes of them. `samples.png`: drawn out of nothing.
"""


def _weights_sha256(folder: Path) -> str:
    (file,) = folder.glob("*.safetensors")
    return sha256_of_file(file)


def _sweep(root: Path) -> None:
    """Remove what a killed run left; one that is at work is younger than that."""
    for left in root.glob(".*.tmp"):
        if time.time() - left.stat().st_mtime > STALE:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _swap(scratch: Path, folder: Path) -> None:
    try:
        os.rename(scratch, folder)
    except OSError:
        if not is_complete(folder):  # otherwise another process was faster: same key, as good
            raise
