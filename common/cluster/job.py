"""What a cluster is asked to do: one of our commands, with what goes along with it."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from common.cluster.environment import RECIPE_VARIABLE, forwarded_environment
from common.hashing import sha256_of_bytes

WORKS_ON, COMMAND = "works_on", "command"  # in a job's metadata


@dataclass(frozen=True)
class Job:
    """A command for a cluster.

    `command` starts with "python" and runs in a copy of this project. `works_on`: what only one job may work on at a
    time, such as "curate s3://bucket/run". `recipe`: a recipe's text, which the job reads with `submitted_recipe`: the
    cluster may not have the file. `environment`: variables of the job, besides those of `forwarded_environment`. `stop`:
    asks it to end when it has saved its work; without it the job is ended as it is.
    """

    command: list[str]
    works_on: str
    recipe: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], None] | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The variables that it is sent, but the recipe."""
        return {**forwarded_environment(), **self.environment}

    def variables(self) -> dict[str, str]:
        """What it is sent, the recipe among it."""
        sent = self.settings
        if self.recipe:
            sent[RECIPE_VARIABLE] = base64.b64encode(self.recipe.encode()).decode()
        return sent

    def with_recipe_at(self, path: str) -> list[str]:
        """The command where the recipe is a file there."""
        if self.recipe is None:
            return self.command
        at = self.command.index("--recipe")
        return [*self.command[: at + 1], path, *self.command[at + 2 :]]

    @property
    def metadata(self) -> dict[str, str]:
        """What tells a job from another on the same: its words, and which recipe goes along."""
        recipe = f"  # recipe {sha256_of_bytes(self.recipe.encode())[:12]}" if self.recipe else ""
        return {WORKS_ON: self.works_on, COMMAND: shlex.join(self.command) + recipe}
