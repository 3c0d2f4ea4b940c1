"""Validation on a fixed panel of samples: losses at fixed noise by timestep, what each condition is worth, pictures, and
how alike the drawn faces are. It shows learning where the training loss is flat."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import torch
from PIL import Image

from model.conditioning.crops import crop_of
from model.conditioning.features import FaceConditions
from model.conditioning.identity import IdentityEncoder
from model.facemakeup import FaceMakeUp
from model.pipeline import FaceMakeUpPipeline
from training.assembly import RunParts
from training.batches import micro_batch
from training.data.micro_batch import MicroBatch
from training.encoders import Inputs
from training.objective import losses, target_of
from training.recipe import ConditionDropout

DECILES = 10
FIXED_SEED = 20260101  # of noise and pictures; never the run's: two runs are compared by it
CONDITIONS = {"text": "text", "identity": "identity", "clip": "clip_features", "pose": "pose_map"}


def never_given(dropout: ConditionDropout) -> set[str]:
    """The conditions that a recipe always drops: what the model never saw says nothing about it."""
    always = {
        "text": max(dropout.text, dropout.everything),
        "identity": max(dropout.identity, dropout.face, dropout.everything),
        "clip": max(dropout.clip_features, dropout.face, dropout.everything),
        "pose": dropout.pose,
    }
    return {name for name, share in always.items() if share >= 1}


class Panel:
    """The validation samples: some, spread over the shards, with every condition that the recipe gives; the same whatever the step.

    Args:
        size: how many samples.
        chunk: how many go through the model at a time.
        samples: (shard, position) of these instead.
    """

    def __init__(self, parts: RunParts, size: int, chunk: int = 16, samples: Sequence[tuple[int, int]] | None = None):
        self.parts, self.chunk = parts, chunk
        total = parts.index.samples
        spread = np.linspace(0, total - 1, min(size, total)).astype(int)
        self.samples = parts.index.places(spread) if samples is None else list(samples)
        self.given = [name for name in CONDITIONS if name not in never_given(parts.batches.ready.dropout)]
        self._batch: MicroBatch | None = None
        self._inputs: Inputs | None = None

    @property
    def batch(self) -> MicroBatch:
        """Made once, when it is first needed."""
        if self._batch is None:
            # nothing is dropped: what is, is not made at all
            ready = replace(self.parts.batches.ready, dropout=ConditionDropout(text=0, face=0, everything=0))
            slots = list(range(len(self.samples)))
            batch = micro_batch(self.parts.shards, ready, FIXED_SEED, 0, slots, self.samples)
            for name in CONDITIONS:
                getattr(batch, f"keep_{name}").fill_(float(name in self.given))
            self._batch = batch
        return self._batch

    @property
    def inputs(self) -> Inputs:
        """Encoded once: the encoders are frozen."""
        if self._inputs is None:
            self._inputs = self.parts.encoders(self.batch)
        return self._inputs

    def losses(self, model: FaceMakeUp) -> list[float]:
        """Mean loss of the panel in each tenth of the timesteps, at fixed noise: the network's own error, unweighted."""
        return self._losses(model, self.inputs)

    def worth(self, model: FaceMakeUp) -> dict[str, float]:
        """By which share the fixed-noise loss grows when each sample gets the next one's text, identity, CLIP features
        or pose: what the model has learnt to read from that condition. 0: nothing. Only of what the recipe gives."""
        own, worth = np.mean(self.losses(model)), {}
        for name in self.given:
            field = CONDITIONS[name]
            swapped = replace(self.inputs, **{field: getattr(self.inputs, field).roll(1, 0)})
            worth[name] = float(np.mean(self._losses(model, swapped)) / own - 1)
        return worth

    @torch.no_grad()
    def _losses(self, model: FaceMakeUp, inputs: Inputs) -> list[float]:
        """All timesteps of all samples in one long list, cut into chunks: under stage 3 each forward gathers the model."""
        scheduler, valid = self.parts.encoders.scheduler, self.batch.valid.to(inputs.latents.device)
        count, total = len(valid), scheduler.config.num_train_timesteps
        errors = []
        for rows in torch.arange(DECILES * count, device=valid.device).split(self.chunk):
            part = Inputs(**{field.name: getattr(inputs, field.name)[rows % count] for field in fields(inputs)})
            timesteps = ((rows // count + 0.5) * total / DECILES).to(part.timesteps.dtype)
            noisy = scheduler.add_noise(part.latents, part.noise, timesteps).to(part.noisy_latents.dtype)
            part = replace(part, noisy_latents=noisy, timesteps=timesteps)
            target = target_of(scheduler, part.latents, part.noise, timesteps)
            errors.append(losses(model(*part.arguments()), target))
        by_timestep = torch.cat(errors).view(DECILES, count)
        return ((by_timestep * valid).sum(1) / valid.sum().clamp(min=1)).tolist()

    def captions(self) -> list[str]:
        """Of each sample; "" where the recipe never gives the text."""
        if "text" not in self.given:
            return [""] * len(self.samples)
        return self.parts.pipeline.tokenizer.batch_decode(self.batch.input_ids, skip_special_tokens=True)

    def drawn(self, pipeline: FaceMakeUpPipeline, steps: int, prompts: Sequence[str] | None = None) -> np.ndarray:
        """The panel's faces, drawn with the conditions that the recipe gives: float32 (B, H, W, 3) in 0..1. `prompts`: one
        a sample, instead of their captions."""
        batch, inputs = self.batch, self.inputs
        face = FaceConditions(
            inputs.identity, inputs.clip_features, inputs.pose_map, faces=[None] * len(batch.ids), views=[]
        )
        return pipeline(
            prompts or self.captions(), face=face, num_inference_steps=steps, seed=FIXED_SEED, ip_scale=1.0, controlnet_scale=1.0,
            guidance_scale=2.0, output_type="np",
        ).images  # fmt: skip

    def picture(self, *drawn: np.ndarray) -> Image.Image:
        """Rows: the samples; columns: as they are, their pose map, each time that they were drawn. Without a watermark, as
        all grids."""
        columns = [
            ((self.batch.image + 1) / 2).permute(0, 2, 3, 1).numpy(),
            self.batch.pose_map.permute(0, 2, 3, 1).numpy(),
            *drawn,
        ]
        rows = [np.concatenate(row, axis=1) for row in zip(*columns, strict=True)]
        return Image.fromarray(as_bytes(np.concatenate(rows, axis=0)))

    def alikeness(self, drawn: np.ndarray, encoder: IdentityEncoder) -> dict[str, float]:
        """Mean cosine of the identities of what was drawn with the identities that were asked for.

        A drawn face is looked for where its pose was asked for, without a detector: what is no face gets a vector too,
        so two yardsticks stand beside it: `photo`, the panel's own crops at this size (the most that can be had), and
        `others`, what was drawn against the next sample's identity (what a face gets that is anybody's). `embedded`:
        share of drawn pictures that the encoder took at all.
        """
        photos = as_bytes(((self.batch.image + 1) / 2).permute(0, 2, 3, 1).numpy())
        cosines: dict[str, list[float]] = {"drawn": [], "photo": [], "others": []}
        wanted = self.batch.identity.numpy()
        for place, (shard, position) in enumerate(self.samples):
            if not self.batch.valid[place]:
                continue
            box, landmarks = self._face(shard, position)
            one = encoder.embed(as_bytes(drawn[place]), box, landmarks)
            own = encoder.embed(photos[place], box, landmarks)
            if one is not None:
                cosines["drawn"].append(float(one @ wanted[place]))
                cosines["others"].append(float(one @ wanted[(place + 1) % len(wanted)]))
            if own is not None:
                cosines["photo"].append(float(own @ wanted[place]))
        share = len(cosines["drawn"]) / max(1.0, float(self.batch.valid.sum()))
        return {name: float(np.mean(values)) for name, values in cosines.items() if values} | {"embedded": share}

    def _face(self, shard: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Box (4,) and landmarks (5, 2) of a sample, in the pixels of its crop."""
        facts = json.loads(self.parts.shards.read(shard, position)["json"])
        how, size = self.parts.config.conditions, self.parts.config.resolution
        crop = crop_of(facts["face_box"], facts["width"], facts["height"], how.crop, how.crop_factor)
        box = crop.points(np.reshape(facts["face_box"], (2, 2)), size).ravel()
        return box, crop.points(np.reshape(facts["face_landmarks"], (5, 2)), size)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """0..1 as uint8."""
    return (pixels * 255).round().clip(0, 255).astype(np.uint8)
