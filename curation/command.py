"""What `jobs/curate.py` does: run all steps here, or send the same command to a Ray cluster as a job."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from common.cluster.environment import inside_job, submitted_recipe
from common.cluster.job import Job
from common.cluster.jobs import run_on_cluster
from common.cluster.runtime import connected
from common.progress import say
from common.settings import RecipeError
from curation import report
from curation.pipeline import RECUT_STEPS, STEPS, Curation, open_curation
from curation.recipe.recipe import load, variables_of
from curation.run_directory.driver import only_driver
from curation.run_directory.run import Run
from curation.sample.shared import share_sample

CANNOT_REPORT = 2  # the report's exit code where a file that it reads is damaged


@dataclass(frozen=True)
class CurateOptions:
    """The options of `jobs/curate.py`, whose --help explains them."""

    recipe: str
    run: str
    name: str | None = None
    changes: list[str] = field(default_factory=list)
    recut: bool = False
    again: bool = False

    def command(self) -> list[str]:
        """The same command for a cluster's job, which is sent the recipe's text: of its path only the name is said."""
        words = ["python", "jobs/curate.py", "--recipe", Path(self.recipe).name, "--run", self.run]
        words += ["--name", self.name] if self.name else []
        words += [word for change in self.changes for word in ("--set", change)]
        words += ["--recut"] if self.recut else []
        return words + (["--again"] if self.again else [])


def curate(options: CurateOptions, cpus: int | None = None) -> int:
    """Run all steps, on the cluster of the job around this process or a local Ray; then the report, whose exit code it
    returns.

    Args:
        cpus: of a local Ray; None: all.

    Raises:
        UserError: what has to be changed first.
    """
    started = time.monotonic()
    if inside_job():
        _require_shared(options.run)
    if options.recut:
        curation = open_curation(options.run, None, options.name, options.changes)
    else:
        recipe = load(options.recipe, options.changes, submitted_recipe())
        recipe = share_sample(Run(options.run), recipe) if inside_job() else recipe
        curation = Curation(Run(options.run), recipe, options.name)
    if options.again:
        curation.require_new_name()
    with only_driver(curation.run) as curation.epoch, connected(cpus):
        curation.require_nodes()
        with curation.followed(RECUT_STEPS if options.recut else STEPS):
            if options.recut:
                curation.recut()
            else:
                if options.again:
                    curation.do("fetch", again=True)
                curation.curate()
    code = report.main([options.run, *(["--name", options.name] if options.name else [])])
    told = "" if code == CANNOT_REPORT else f"; the report: {Run(options.run).url('report.html')}"
    say("done", f"{time.monotonic() - started:.0f} s{told}")
    shards = Run(options.run).url(f"shards/{curation.name}")
    say(
        "done",
        f"the shards: {shards}" + ("" if code else f"; next: make train SET={shlex.quote(f'data.shards={shards}')}"),
    )
    return code


def submit(options: CurateOptions, cluster: str) -> int:
    """Run the command as a job on `cluster` (CLUSTER=...), show its log, return its exit code.

    Raises:
        UserError: the recipe or the run directory cannot be used there, or no cluster answers.
    """
    recipe = None
    if not options.recut:
        load(options.recipe, options.changes)  # a mistake in it is said here, not by a worker far away
        recipe = Path(options.recipe).read_text()
    _require_shared(options.run)
    variables = {name: os.environ[name] for name in variables_of(recipe or "") if name in os.environ}
    return run_on_cluster(cluster, Job(options.command(), f"curate {options.run}", recipe, variables))


def _require_shared(run: str) -> None:
    """A relative path would be one inside the job's own copy of the code, and go with it."""
    if "://" not in run and not Path(run).is_absolute():
        raise RecipeError(
            f"RUN={run}: on a cluster the run directory must mean the same on every node: an absolute path on "
            "shared storage, or s3://bucket/..."
        )
