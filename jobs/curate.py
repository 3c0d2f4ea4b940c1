"""Curate, here or on a cluster: the same command, the same code.

python jobs/curate.py                                            the sample, on a local Ray
python jobs/curate.py --recipe my.yaml --run s3://bucket/run     on a local Ray
python jobs/curate.py ... --cluster http://head:8265             as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/curate.py ...      the same, by Ray's own command
"""

from __future__ import annotations

import argparse
import sys
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
    parser.add_argument("--cluster", metavar="PLACE", help="submit to this cluster: docs/cluster.md")
    parser.add_argument("--cpus", type=int, help="CPUs of a local Ray; default: all")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0: done, and the numbers agree; 1: they do not; 2: something has to be changed first, and what."""
    asked = parse(arguments)
    from common.command_line import exit_code_of
    from curation.command import CurateOptions, curate, submit

    options = CurateOptions(asked.recipe, asked.run, asked.name, asked.set, asked.recut, asked.again)
    return exit_code_of(lambda: submit(options, asked.cluster) if asked.cluster else curate(options, asked.cpus))


if __name__ == "__main__":
    sys.exit(main())
