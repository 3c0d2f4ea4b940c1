"""The training recipe that came with a Ray job."""

from __future__ import annotations

import json

from common import ray_jobs
from training.recipe import TrainRecipe, checked


def submitted_recipe() -> TrainRecipe | None:
    """The recipe that came with this job; None: this is no such job."""
    text = ray_jobs.submitted_recipe()
    return checked(json.loads(text), "the submitted recipe") if text else None
