"""What shows learning where the training loss is flat: losses at fixed noise by timestep, and pictures of fixed faces."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from model.facemakeup import FaceMakeUp
from model.features import FaceConditions
from model.pipeline import FaceMakeUpPipeline
from training.assembly import Parts
from training.batches import MicroBatch, micro_batch
from training.objective import losses, target_of

DECILES = 10
FIXED_SEED = 20260101  # of noise and pictures; never the run's: two runs are compared by it


class Panel:
    """Some samples, spread over the shards and never dropped; the same whatever the ranks and the step."""

    def __init__(self, parts: Parts, size: int):
        self.parts = parts
        total = parts.index.samples
        places = np.linspace(0, total - 1, min(size, total)).astype(int)
        ends = np.cumsum(parts.index.counts)
        shards = np.searchsorted(ends, places, side="right")
        positions = places - (ends - parts.index.counts)[shards]
        self.samples = list(zip(shards.tolist(), positions.tolist(), strict=True))
        self._batch: MicroBatch | None = None

    @property
    def batch(self) -> MicroBatch:
        """Made once, when it is first needed."""
        if self._batch is None:
            ready, slots = self.parts.batches.ready, list(range(len(self.samples)))
            batch = micro_batch(self.parts.shards, ready, FIXED_SEED, 0, slots, self.samples)
            for name in ("keep_text", "keep_identity", "keep_clip", "keep_pose"):
                getattr(batch, name).fill_(1.0)
            self._batch = batch
        return self._batch

    @torch.no_grad()
    def losses(self, model: FaceMakeUp) -> list[float]:
        """Mean loss of the panel in each tenth of the timesteps, at fixed noise: the network's own error, unweighted."""
        scheduler, batch = self.parts.encoders.scheduler, self.batch
        steps = scheduler.config.num_train_timesteps
        result = []
        for decile in range(DECILES):
            batch.timestep.fill_(int((decile + 0.5) * steps / DECILES))
            inputs = self.parts.encoders(batch)
            prediction = model(*inputs.arguments())
            target = target_of(scheduler, inputs.latents, inputs.noise, inputs.timesteps)
            result.append(
                float((losses(prediction, target) * batch.valid.to(prediction.device)).sum() / batch.valid.sum())
            )
        return result

    def picture(self, pipeline: FaceMakeUpPipeline, steps: int) -> Image.Image:
        """Rows: the samples; columns: as they are, their pose map, drawn. Without a watermark, as all grids."""
        batch, encoders = self.batch, self.parts.encoders
        features = encoders._features(batch.clip_pixels.to(encoders.device), batch.keep_clip.bool())
        face = FaceConditions(batch.identity, features, batch.pose_map, faces=[None] * len(batch.ids), views=[])
        prompts = pipeline.tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True)
        drawn = pipeline(
            prompts, face=face, num_inference_steps=steps, seed=FIXED_SEED, ip_scale=1.0, controlnet_scale=1.0,
            guidance_scale=2.0, output_type="np",
        ).images  # fmt: skip
        columns = [
            ((batch.image + 1) / 2).permute(0, 2, 3, 1).numpy(),
            batch.pose_map.permute(0, 2, 3, 1).numpy(),
            drawn,
        ]
        rows = [np.concatenate(row, axis=1) for row in zip(*columns, strict=True)]
        return Image.fromarray((np.concatenate(rows, axis=0) * 255).round().clip(0, 255).astype(np.uint8))
