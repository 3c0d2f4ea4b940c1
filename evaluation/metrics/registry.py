"""The list of metrics, in the order of the table: all that the rest of the evaluation knows of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evaluation.metrics.attributes import Attributes
from evaluation.metrics.base import Metric, Sources
from evaluation.metrics.clip_similarity import ClipSimilarity
from evaluation.metrics.dino_similarity import DinoSimilarity
from evaluation.metrics.face_quality import FaceQuality
from evaluation.metrics.face_similarity import FaceSimilarity
from evaluation.metrics.inception_distance import InceptionDistance
from evaluation.metrics.vlm_score import VlmScore

# of models that can be named, and by what
ROLES = {"clip": "FOLDER", "dino": "FOLDER", "inception": "FILE", "attributes": "FILE", "vlm": "FOLDER"}
# by the name that a cell without its model is called
METRICS: dict[str, Callable[[Sources], Metric]] = {
    "CLIP": ClipSimilarity,
    "DINO": DinoSimilarity,
    "FID": InceptionDistance,
    "FaceSim, dlib": partial(FaceSimilarity, "dlib"),
    "FaceSim, arcface": partial(FaceSimilarity, "arcface"),
    "pose and face quality": FaceQuality,
    "Attr_c": Attributes,
    "VLM-score": VlmScore,
}
