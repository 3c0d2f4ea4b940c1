"""A training recipe that goes along with a Ray job: the cluster may not have its file."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

from common.ray_jobs import follow
from common.ray_runtime import passed_on
from training.recipe import TrainRecipe, checked

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

RECIPE_IN_ENVIRONMENT = "FACEMAKEUP_TRAINING_RECIPE"  # in base64, since Ray would fill in what looks like ${NAME}


def submit(client: JobSubmissionClient, cluster: str, command: list[str], recipe: TrainRecipe) -> None:
    """Run `command` as a Ray job that finds `recipe` with `submitted_recipe`; show its log until it ends.

    Raises:
        NoCluster: the job did not succeed.
    """
    encoded = base64.b64encode(recipe.model_dump_json().encode()).decode()
    follow(client, cluster, command, {**passed_on(), RECIPE_IN_ENVIRONMENT: encoded})


def submitted_recipe() -> TrainRecipe | None:
    """The recipe that came with this job; None: this is no such job."""
    encoded = os.environ.get(RECIPE_IN_ENVIRONMENT)
    return checked(json.loads(base64.b64decode(encoded)), "the submitted recipe") if encoded else None
