"""Train Face-MakeUp on shards, here or on a cluster: the same command, the same code.

python jobs/train.py                                                    tiny, on the sample's shards, here
python jobs/train.py --recipe my.yaml --out runs/train/my --ranks 8      on a local Ray, one rank a GPU
torchrun --nproc-per-node 8 jobs/train.py --recipe my.yaml --out ...     without Ray
python jobs/train.py ... --cluster http://head:8265                     as a Ray job on that cluster
ray job submit --working-dir . -- python jobs/train.py --recipe my.yaml --out s3://bucket/my --ranks 64

Started again with the same --out it goes on where it was, with any number of ranks that divides batch.lanes.
--export writes the newest checkpoint's weights for others to load, of a run that has ended or was stopped: it takes the
folder over, and a run that is still at work there would stop.
To stop: Ctrl-C, SIGTERM, `ray job stop` (docs/training.md: it wants more than its 3 seconds), or a file OUT/stop. The
step that runs is finished and saved first.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="tiny", help="default, authors, tiny or a YAML file (%(default)s)")
    parser.add_argument("--out", default="runs/train/tiny", help="checkpoints, log, pictures, export (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. engine.zero=3")
    parser.add_argument("--ranks", type=int, help="worker processes; default: one a GPU, 1 without")
    parser.add_argument("--failures", type=int, default=3, help="restarts after a worker died (%(default)s)")
    parser.add_argument(
        "--profile", type=int, nargs="?", const=3, metavar="STEPS", help="trace that many steps into OUT/profile (3)"
    )
    parser.add_argument(
        "--export", action="store_true", help="only write OUT/export of the newest checkpoint, as at the end of a run"
    )
    parser.add_argument("--cluster", metavar="PLACE", help="submit to this cluster: docs/cluster.md")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: trained to the end, or stopped as asked; 1: it failed; 2: it was not begun, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of
    from evaluation.curve.metrics import CurveMetrics
    from jobs.tiny_base import sample_photos
    from training.launch.command import TrainOptions, train_command
    from training.tiny_base.provide import with_base

    changes = [*asked.set, *([f"monitoring.profile_steps={asked.profile}"] if asked.profile else [])]
    options = TrainOptions(asked.recipe, asked.out, changes, asked.ranks, asked.failures, asked.export, asked.cluster)
    return exit_code_of(lambda: train_command(options, lambda recipe: with_base(recipe, sample_photos), CurveMetrics()))


if __name__ == "__main__":
    raise SystemExit(main())
