"""The list of metrics, in the order of the table: all that the rest of the evaluation knows of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from evaluation.metrics.base import Metric
from evaluation.metrics.face_similarity import FaceSimilarity

# by the name that a cell without its model is called
METRICS: dict[str, Callable[[str | None], Metric]] = {
    "FaceSim, dlib": partial(FaceSimilarity, "dlib"),
    "FaceSim, arcface": partial(FaceSimilarity, "arcface"),
}
