"""The parts of a tiny base: trained, measured on pictures that they never saw, drawn for the eye, and saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from model.config import ModelConfig
from model.tokenizer import clip_tokenizer
from training.tiny_base.pictures import Pictures
from training.tiny_base.recipe import BaseRecipe, ReportProgress
from training.tiny_base.unet import loss_by_decile, new_unet, train_unet
from training.tiny_base.vae import correlation, latents_of, new_vae, pixels_of, reconstructed, train_vae

MEASURED = 64  # held-out pictures that the UNet is measured on: more cost more than they tell
COLUMNS = 16  # of a grid
RANDOM_PROMPTS = 8
SAMPLING_STEPS = 25
POSITIONS_STD = 2.0


@dataclass
class BaseParts:
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    image_encoder: CLIPVisionModelWithProjection
    scheduler: DDIMScheduler
    losses: dict[str, list[float]]
    seconds: dict[str, float]

    def pipeline(self) -> StableDiffusionPipeline:
        """The parts as stock diffusers has them: what it saves, it reads."""
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            image_encoder=self.image_encoder,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    @torch.no_grad()
    def states(self, prompt: str = "") -> torch.Tensor:
        """Hidden states of a prompt: float32 (1, 77, d)."""
        ids = self.tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.text_encoder(ids)[0]


def train(
    config: ModelConfig, pictures: np.ndarray, vocabulary: Path, recipe: BaseRecipe, report: ReportProgress
) -> BaseParts:
    """VAE, then UNet on its latents. `pictures`: uint8 (N, h, w, 3)."""
    begun = time.monotonic()
    vae, vae_losses = train_vae(config.vae, pictures, recipe, _for_stage("vae", recipe.vae_steps, report))
    half = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        text_encoder = CLIPTextModel(CLIPTextConfig(**config.text_encoder)).eval()
        image_encoder = new_image_encoder(config)
    parts = BaseParts(
        vae,
        new_unet(config.unet, recipe.seed),
        text_encoder,
        clip_tokenizer(vocabulary),
        image_encoder,
        DDIMScheduler.from_config(config.scheduler),
        {"vae": vae_losses},
        {"vae": round(half - begun, 1)},
    )
    progress = _for_stage("unet", recipe.unet_steps, report)
    parts.losses["unet"] = train_unet(parts.unet, vae, config.scheduler, pictures, parts.states(), recipe, progress)
    parts.seconds["unet"] = round(time.monotonic() - half, 1)
    return parts


def new_image_encoder(config: ModelConfig) -> CLIPVisionModelWithProjection:
    """A random image encoder whose features tell where on the picture something is.

    transformers starts the embedding of the positions with a deviation of 0.02, beside patches of 0.5: what comes out is
    a bag of patches, and two faces of the same colours are one. Nothing trains it here, so it starts as strong as it is
    needed (in tests/training/test_conditions_learnt.py 18 of 64 pictures were drawn again with 0.5, 60 with 2).
    """
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**config.image_encoder)).eval()
    nn.init.normal_(encoder.vision_model.embeddings.position_embedding.weight, 0.0, POSITIONS_STD)
    return encoder


def measure(
    parts: BaseParts, config: ModelConfig, held_out: Pictures, seed: int, report: ReportProgress
) -> dict[str, Any]:
    """How good the parts are on pictures that they were not trained on. See `base.readme`."""
    report_measured = _for_stage("measure", 4, report)
    faces = held_out.pixels[held_out.faces]
    vae = {
        "faces": alikeness(parts.vae, faces),
        "all": alikeness(parts.vae, held_out.pixels),
        "untrained": alikeness(new_vae(config.vae, seed).eval(), faces),
        "scaling_factor": parts.vae.config.scaling_factor,
        "held_out_variance": latents_of(parts.vae, held_out.pixels, seed).var().item(),
    }
    report_measured(1, "")
    some = _spread(faces, MEASURED)

    def losses(unet: UNet2DConditionModel, text: torch.Tensor) -> list[float]:
        return loss_by_decile(unet, parts.vae, config.scheduler, some, text, seed)

    prompts = torch.cat([parts.states(prompt) for prompt in random_prompts(parts.tokenizer, seed)])
    unet = {"empty_prompt": losses(parts.unet, parts.states())}
    report_measured(2, "")
    unet["random_prompts"] = losses(parts.unet, prompts)
    report_measured(3, "")
    unet["untrained"] = losses(new_unet(config.unet, seed).eval(), parts.states())
    report_measured(4, "")
    return {"vae": vae, "unet": unet, "unet_mean": {name: float(np.mean(each)) for name, each in unet.items()}}


def alikeness(vae: AutoencoderKL, pictures: np.ndarray) -> dict[str, float]:
    """Correlation of `pictures`, uint8 (N, h, w, 3), with their reconstructions: mean, worst, how many below 0.9.

    A picture of a single colour has no correlation: it counts as `flat`, and in nothing else.
    """
    alike = correlation(reconstructed(vae, pictures), pixels_of(pictures))
    valid = alike[~alike.isnan()]
    return {
        "pictures": len(alike),
        "mean": valid.mean().item(),
        "worst": valid.min().item(),
        "below_0.9": int((valid < 0.9).sum()),
        "flat": len(alike) - len(valid),
    }


def random_prompts(tokenizer: CLIPTokenizer, seed: int) -> list[str]:
    """Prompts of 8 words out of the vocabulary."""
    words = sorted(word.removesuffix("</w>") for word in tokenizer.get_vocab() if word.endswith("</w>"))
    chosen = np.random.default_rng(seed).choice(words, (RANDOM_PROMPTS, 8))
    return [" ".join(row) for row in chosen]


def draw(parts: BaseParts, pictures: np.ndarray, recipe: BaseRecipe, folder: Path) -> None:
    """reconstructions.png and samples.png, to be looked at."""
    some = _spread(pictures, 2 * COLUMNS)
    pairs = [
        row
        for start in range(0, len(some), COLUMNS)
        for row in (some[start : start + COLUMNS], _uint8(reconstructed(parts.vae, some[start : start + COLUMNS])))
    ]
    _grid(pairs).save(folder / "reconstructions.png")
    pipeline = parts.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt_embeds=parts.states(), num_images_per_prompt=recipe.samples, num_inference_steps=SAMPLING_STEPS,
        guidance_scale=1.0, generator=torch.Generator().manual_seed(recipe.seed),
    ).images  # fmt: skip
    samples = np.stack([np.asarray(image) for image in images])
    rows = [samples[start : start + COLUMNS] for start in range(0, len(samples), COLUMNS)]
    _grid(rows).save(folder / "samples.png")


def _spread(pictures: np.ndarray, count: int) -> np.ndarray:
    return pictures[np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int)]


def _grid(rows: list[np.ndarray]) -> Image.Image:
    height, width = rows[0].shape[1:3]
    sheet = np.zeros((len(rows) * height, COLUMNS * width, 3), np.uint8)
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            sheet[line * height : (line + 1) * height, column * width : (column + 1) * width] = picture
    return Image.fromarray(sheet)


def _uint8(pixels: torch.Tensor) -> np.ndarray:
    return ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _for_stage(stage: str, total: int, report: ReportProgress) -> Callable[[int, str], None]:
    return lambda done, note: report(stage, done, total, note)
