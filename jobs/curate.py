"""Curate, here or on a cluster: the same command, the same code.

python jobs/curate.py                                            the sample, on a local Ray
python jobs/curate.py --recipe my.yaml --run s3://bucket/run     on a local Ray
python jobs/curate.py ... --cluster http://head:8265             as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/curate.py ...      the same, by Ray's own command
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default=str(ROOT / "curation" / "recipe" / "sample.yaml"), help="a recipe file")
    parser.add_argument("--run", default="runs/sample", help="the run directory: a folder, s3://... or gs://...")
    parser.add_argument("--name", help="the cut; default: the recipe's name")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. score.workers=4")
    parser.add_argument("--recut", action="store_true", help="only a new cut of a finished run; needs --name")
    parser.add_argument("--again", action="store_true", help="first try again what failed to fetch and may heal")
    parser.add_argument("--cluster", metavar="URL", help="submit to this Ray cluster's dashboard address")
    parser.add_argument("--cpus", type=int, help="CPUs of a local Ray; default: all")
    return parser.parse_args(arguments)


def curate(options: argparse.Namespace) -> int:
    """Run all steps here; inside a Ray job, on that job's cluster. Returns the exit code."""
    from common.command_line import exit_code_of
    from common.progress import say
    from common.ray_jobs import inside_job, submitted_recipe
    from common.ray_runtime import connected
    from curation import report
    from curation.pipeline import Curation, open_curation
    from curation.recipe.recipe import load
    from curation.run_directory.run import Run

    started = time.monotonic()

    def work() -> None:
        if inside_job():
            _require_shared(options.run)
        if options.recut:
            curation = open_curation(options.run, None, options.name, options.set)
        else:
            recipe = load(options.recipe, options.set, submitted_recipe())
            curation = Curation(Run(options.run), recipe, options.name)
        if options.again:
            curation.require_new_name()
        with connected(options.cpus):
            if options.recut:
                curation.recut()
            else:
                if options.again:
                    curation.do("fetch", again=True)
                curation.curate()

    code = exit_code_of(work)
    if code:
        return code
    code = report.main([options.run, *(["--name", options.name] if options.name else [])])
    say("done", f"{time.monotonic() - started:.0f} s; the report: {Run(options.run).url('report.html')}")
    return code


def submit(options: argparse.Namespace) -> int:
    """Send this command to a cluster as a Ray job, show its log, return its exit code."""
    from common.command_line import exit_code_of
    from common.ray_jobs import submit_script
    from curation.recipe.recipe import variables_of

    def work() -> int:
        _check_before_sending(options)
        command = ["python", "jobs/curate.py", "--recipe", Path(options.recipe).name, "--run", options.run]
        command += ["--name", options.name] if options.name else []
        command += [word for text in options.set for word in ("--set", text)]
        command += [flag for flag in ("--recut", "--again") if getattr(options, flag.strip("-"))]
        recipe = None if options.recut else Path(options.recipe).read_text()
        environment = {name: os.environ[name] for name in variables_of(recipe or "") if name in os.environ}
        return submit_script(options.cluster, command, recipe, environment)

    return exit_code_of(work)


def _check_before_sending(options: argparse.Namespace) -> None:
    from curation.recipe.recipe import load

    if not options.recut:
        load(options.recipe, options.set)  # a mistake in it is said here, not by a worker far away
    _require_shared(options.run)


def _require_shared(run: str) -> None:
    """A relative path would be one inside the job's own copy of the code, and go with it."""
    from common.settings import RecipeError

    if "://" not in run and not Path(run).is_absolute():
        raise RecipeError(
            f"RUN={run}: on a cluster the run directory must mean the same on every node: an absolute path on "
            "shared storage, or s3://bucket/..."
        )


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    return submit(options) if options.cluster else curate(options)


if __name__ == "__main__":
    sys.exit(main())
