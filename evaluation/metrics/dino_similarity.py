"""DINO: how alike picture and reference are to a self-supervised network; and the sets' distances by the same features.

Sound: the class token of the last layer. Reconstructed: the published script takes ViTModel's `pooler_output`, but the
checkpoint has no pooler, so transformers makes one of random numbers at every load. Each such draw gives another figure; here
stands the mean of POOLERS draws of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.metrics.base import (
    COSINE,
    POSITIVE,
    AnyFigure,
    Features,
    Figure,
    Metric,
    Pair,
    SetFigure,
    Sources,
    stops_at_errors,
)
from evaluation.metrics.distances import HEADLINE_AT, frechet_distance, kernel_distance
from evaluation.metrics.hub_models import as_list, find_model, hashes_of
from evaluation.metrics.vectors import cosine

DEFAULT = "facebook/dino-vits16"  # of the published figure
POOLERS, SPREAD = 20, 0.02  # draws; the spread of transformers' random numbers (ViTConfig.initializer_range)


class DinoSimilarity(Metric):
    """DINO similarity by one network."""

    name, version = "dino", 1
    columns = (pa.field("token", pa.list_(pa.float32())),)

    def __init__(self, sources: Sources):
        self.model, self._folder = find_model("dino", DEFAULT, sources)
        self._sources = sources

    def describe(self) -> dict[str, Any]:
        return {"model": hashes_of(self._folder)}

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

        model = AutoModel.from_pretrained(self._folder).eval().to(self._sources.torch_device)
        return model, ViTImageProcessorPil.from_pretrained(self._folder)

    def features(self, rgb: np.ndarray) -> Features:
        import torch

        model, processor = self._loaded
        pixels = torch.as_tensor(
            np.asarray(processor(images=rgb, return_tensors="np").pixel_values), device=model.device
        )
        with torch.inference_mode():
            return {"token": as_list(model(pixel_values=pixels).last_hidden_state[:, 0])}

    def scores(self, pair: Pair) -> dict[str, float | None]:
        one, other = pair.reference["token"], pair.drawn["token"]
        pooled = [random_pooler(np.array([one, other]), seed) for seed in range(POOLERS)]
        return {"dino": cosine(one, other), "pooled": float(np.mean([cosine(*rows) for rows in pooled]))}

    def figures(self) -> Sequence[AnyFigure]:
        by = f"by {self.model}"
        pooled = f"through a pooler of random numbers, {by}; the mean of {POOLERS} draws"
        fid = f"{by}, not by Inception; under {HEADLINE_AT:,} pictures mostly bias"
        return [
            Figure("DINO", "dino", says=f"cosine of the class tokens {by}", bounds=COSINE),
            Figure("DINO", "pooled", "reconstructed", stops=stops_at_errors, says=pooled, bounds=COSINE),
            SetFigure("KID, DINO features", "token", kernel_distance, says=f"unbiased; {by}, not by Inception"),
            SetFigure(
                "FID, DINO features", "token", frechet_distance, headline_at=HEADLINE_AT, says=fid, bounds=POSITIVE
            ),
        ]


def random_pooler(tokens: np.ndarray, seed: int) -> np.ndarray:
    """float64 (n, d) of class tokens (n, d): transformers' ViTPooler with weights as it draws them, and no bias."""
    return np.tanh(tokens.astype(np.float64) @ _random_weights(tokens.shape[1], seed).T)


@lru_cache(maxsize=2 * POOLERS)  # the same for every picture
def _random_weights(width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=SPREAD, size=(width, width))
