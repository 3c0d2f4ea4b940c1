"""CLIP-I and CLIP-T: how alike picture and reference, and picture and words, are to CLIP; and CMMD of both sets.

Sound: the projected embeddings. Reconstructed: CLIP-I of `CLIPVisionModel.pooler_output`, before the projection, as the
published script takes it; of CLIP-T no code was published.
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
    NotMeasured,
    Pair,
    SetFigure,
    Sources,
    stops_at_errors,
)
from evaluation.metrics.distances import cmmd
from evaluation.metrics.hub_models import as_list, find_model, hashes_of
from evaluation.metrics.vectors import cosine

DEFAULT = "openai/clip-vit-base-patch16"  # of the published CLIP-I


class ClipSimilarity(Metric):
    """CLIP-T, CLIP-I and CMMD by one CLIP."""

    name, version = "clip", 1
    columns = (
        pa.field("projected", pa.list_(pa.float32())),
        pa.field("pooled", pa.list_(pa.float32())),  # before the projection
    )

    def __init__(self, sources: Sources):
        self.model, self._folder = find_model("clip", DEFAULT, sources)
        self._sources = sources
        self._words = lru_cache(maxsize=None)(self._embed_words)

    def describe(self) -> dict[str, Any]:
        return {"model": hashes_of(self._folder)}

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        from transformers import AutoTokenizer, CLIPModel
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        model = CLIPModel.from_pretrained(self._folder).eval().to(self._sources.torch_device)
        return (
            model,
            CLIPImageProcessorPil.from_pretrained(self._folder),
            AutoTokenizer.from_pretrained(self._folder),
        )

    def features(self, rgb: np.ndarray) -> Features:
        import torch

        model, processor, _ = self._loaded
        pixels = torch.as_tensor(
            np.asarray(processor(images=rgb, return_tensors="np").pixel_values), device=model.device
        )
        with torch.inference_mode():
            pooled = model.vision_model(pixel_values=pixels).pooler_output
            projected = model.visual_projection(pooled)
        return {"projected": as_list(projected), "pooled": as_list(pooled)}

    def _embed_words(self, prompt: str) -> list[float]:
        import torch

        model, _, tokenizer = self._loaded
        tokens = tokenizer([prompt], return_tensors="pt", truncation=True).to(model.device)
        with torch.inference_mode():
            return as_list(model.text_projection(model.text_model(**tokens).pooler_output))

    def scores(self, pair: Pair) -> dict[str, float | None]:
        return {
            "clip_t": cosine(self._words(pair.prompt), pair.drawn["projected"]) if pair.prompt else None,
            "clip_i": cosine(pair.reference["projected"], pair.drawn["projected"]),
            "clip_i_pooled": cosine(pair.reference["pooled"], pair.drawn["pooled"]),
        }

    def figures(self) -> Sequence[AnyFigure]:
        by = f"by {self.model}"
        return [
            Figure("CLIP-T", "clip_t", says=f"cosine of words and picture {by}; pictures without a prompt left out", bounds=COSINE),
            NotMeasured("CLIP-T", "reconstructed", "no code was published"),
            Figure("CLIP-I", "clip_i", says=f"cosine of the projected embeddings {by}; a copy of the reference has 1", bounds=COSINE),
            Figure(
                "CLIP-I", "clip_i_pooled", "reconstructed", stops=stops_at_errors, bounds=COSINE,
                says=f"of the pooled output before the projection, {by}",
            ),
            SetFigure("CMMD", "projected", cmmd, bounds=POSITIVE, says=f"{by}; its paper takes openai/clip-vit-large-patch14-336"),
        ]  # fmt: skip
