"""Drawings of every kind: a MobileNetV2 that was trained to tell drawings from photos.

The network is nsfwjs' mobilenet_v2 (github.com/infinitered/nsfwjs, MIT), rebuilt as ONNX by engines/tfjs_layers.py. Of its
five classes two are drawn; all five probabilities are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from common.decode import Picture
from common.hashing import canonical_json
from common.onnx_sessions import as_batch, session
from common.settings import Section, Share
from curation.filters.base import Filter, Measure
from curation.filters.evidence import missing, passed

if TYPE_CHECKING:
    import onnxruntime

SIDE = 224  # of the network's input; the picture is squeezed into it, as in training
CLASSES = ("drawing", "hentai", "neutral", "porn", "sexy")  # in the network's order
DRAWN = CLASSES[:2]


class DrawingThresholds(Section):
    max_drawn: Share = Field(0.03, description="probability of being drawn: P(drawing) + P(hentai)")


class Drawing(Filter):
    """Rejects drawings, cartoons, anime and paintings, by the look of the whole picture."""

    name, label, rejection = "drawing", "drawing", "a drawing"
    version = 1
    optional = True
    device = "gpu"
    columns = tuple(pa.field(name, pa.float32()) for name in CLASSES)
    Thresholds = DrawingThresholds
    libraries = ("onnxruntime",)
    grid = {"max_drawn": [0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9]}

    @classmethod
    def weight_names(cls, settings: Section) -> dict[str, str]:
        return {"layers": "drawing-layers", "weights": "drawing-weights"}

    @cached_property
    def network(self) -> onnxruntime.InferenceSession:
        # imported late: onnx takes its time, and most users of this module need only verdicts
        from curation.filters.engines.tfjs_layers import as_onnx

        return session(as_onnx(self.files["layers"].path, self.files["weights"].path), self.machine.device)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        # on a CPU a batch saves nothing, and singles cannot depend on each other
        size = 1 if self.machine.device == "cpu" else max(1, len(pictures))
        name, rows = self.network.get_inputs()[0].name, []
        for start in range(0, len(pictures), size):
            batch = as_batch([network_input(picture.rgb) for picture in pictures[start : start + size]])
            rows += self.network.run(None, {name: batch})
        found = np.concatenate(rows) if rows else np.zeros((0, len(CLASSES)), np.float32)
        return pa.table({name: pa.array(found[:, i], pa.float32()) for i, name in enumerate(CLASSES)})

    def verdict(self, evidence: pa.Table, thresholds: DrawingThresholds) -> np.ndarray:
        return passed(drawn(evidence) <= thresholds.max_drawn, missing(evidence, DRAWN[0]))

    def measures(self, thresholds: DrawingThresholds) -> list[Measure]:
        return [Measure("drawn", "Drawn", "P(drawing) + P(hentai)", "log", drawn, thresholds.max_drawn, above=False)]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"drawing_probabilities": canonical_json({name: evidence[name] for name in CLASSES})}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        if label["drawing"] in ("", "photo"):
            # photos that go for another reason are no loss: grey ones, say, look rather drawn to the network
            return False if label["drawing"] and label["keep"] != "0" else None
        # textures and scans are `other`, too; without a face they are for the face filter
        return None if label["drawing"] == "other" and label["faces"] == "0" else True


def drawn(evidence: pa.Table) -> np.ndarray:
    """P(drawing) + P(hentai), float64 (rows,)."""
    return sum(evidence[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in DRAWN)


def network_input(rgb: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (3, 224, 224), 0 to 1."""
    method = cv2.INTER_AREA if min(rgb.shape[:2]) >= SIDE else cv2.INTER_LINEAR
    view = cv2.resize(rgb, (SIDE, SIDE), interpolation=method)
    return np.ascontiguousarray(view.transpose(2, 0, 1), np.float32) / 255
