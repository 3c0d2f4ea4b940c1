"""A pilot that nobody ran: 300 images, of which a third is dead and half of the others is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from curation.planning.facts import ImageFacts
from curation.planning.meter import StepCost
from curation.planning.pilot import Pilot
from curation.planning.population import Overlap
from curation.planning.tables import Slices, SourceSlices
from curation.recipe.recipe import Recipe, parse

IMAGES = 300


def made_recipe(**select: Any) -> Recipe:
    tree = {
        "name": "made",
        "sources": {"facecaption": ["faces.parquet"]},
        "select": select or {"count": 10_000_000},
        "fetch": {"threads": 64},
    }
    return parse(tree)


def made_facts(dead: float = 1 / 3, wait: float = 0.5) -> ImageFacts:
    random = np.random.default_rng(0)
    fetched = (np.arange(IMAGES) >= round(dead * IMAGES)).astype(float)
    kept = fetched * (np.arange(IMAGES) % 2)
    size = fetched * random.lognormal(11.5, 0.8, IMAGES)
    return ImageFacts(
        rank=random.permutation(IMAGES).astype(float),
        attempts=np.ones(IMAGES),
        seconds=np.full(IMAGES, wait),
        came=size,
        fetched=fetched,
        taken=fetched,
        kept=kept,
        packed=kept,
        size=size,
        sample=kept * (size + 4096),
    )


def made_cost(images: int, seconds: float, core_seconds: float, start: float = 5.0) -> StepCost:
    """In ten pieces; `seconds` and `core_seconds` of an image."""
    pieces = np.tile([images / 10, seconds * images / 10, core_seconds * images / 10], (10, 1))
    return StepCost(images, start + seconds * images, start + core_seconds * images, pieces)


def made_pilot(rows: int = 13_200_000, dead: float = 1 / 3, wait: float = 0.5, **changed: Any) -> Pilot:
    """On two cores; of the rows 40,000 were looked at."""
    seen = min(rows, 40_000)
    costs = {
        "select": StepCost(IMAGES, 3.0, 3.0, np.zeros((0, 3))),
        "fetch": made_cost(IMAGES, 0.02, 0.01),
        "score": made_cost(200, 0.05, 0.1),
        "cut": StepCost(200, 1.0, 1.0, np.zeros((0, 3))),
        "annotate": made_cost(100, 0.03, 0.06),
        "pack": made_cost(100, 0.005, 0.01),
    }
    facts: dict[str, Any] = {
        "slices": SourceSlices(Slices(rows, 4_000_000_000, seen, ("a", "b")), None, None),
        "overlap": Overlap(np.full(24, seen / 24), np.full(24, seen / 24), np.zeros((24, 24)), seen),
        "candidates": seen,
        "eligible": seen,
        "faces": IMAGES,
        "facts": made_facts(dead, wait),
        "look": StepCost(8, 8.0, 10.0, np.zeros((0, 3))),
        "costs": costs,
        "part_size": 25,
        "cores": 2.0,
        "gpus": 0.0,
    }
    return Pilot(**(facts | changed))
