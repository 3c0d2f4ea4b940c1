"""Train the tiny base that `tiny.yaml` stands on, from the sample's photos; minutes on two CPU cores.

python jobs/tiny_base.py [--photos FOLDER] [--out FOLDER] [--seed N]

Prints the folder of the base. The same pictures, code and seed find the one that is there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
if __name__ == "__main__":  # and not for whoever imports `sample_photos`
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or it explains at length that torchvision is not here
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed, which accelerate imports, says so on stdout

from training.tiny_base.recipe import BaseRecipe


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos (default: the sample's, made if need be)")
    parser.add_argument("--out", type=Path, help="where bases are kept (default: tiny-base in the cache)")
    parser.add_argument("--config", default="tiny", help="a configuration, or a YAML file (%(default)s)")
    parser.add_argument("--seed", type=int, default=BaseRecipe.seed)
    parser.add_argument(
        "--vae-steps", type=int, default=BaseRecipe.vae_steps, help="fewer for a quick try (%(default)s)"
    )
    parser.add_argument("--unet-steps", type=int, default=BaseRecipe.unet_steps, help="(%(default)s)")
    return parser


def sample_photos() -> Path:
    """The folder of the sample's photos; the sample is made unless it is there.

    Raises:
        PackageError, SampleError: it cannot be made, and why.
    """
    from common.pinned_files.packages import cache_dir
    from curation.sample.folder import make_sample

    make_sample(cache_dir() / "sample")
    return cache_dir() / "sample" / "photos"


def main(arguments: list[str] | None = None) -> int:
    """0: the base is there, its folder on stdout; 2: it cannot be made, and why."""
    asked = parser().parse_args(arguments)

    from common.command_line import exit_code_of
    from common.errors import UserError
    from common.progress import say
    from model.config import load_config
    from training.tiny_base.provide import StageProgress, provide, summary

    recipe = BaseRecipe(vae_steps=asked.vae_steps, unet_steps=asked.unet_steps, seed=asked.seed)

    def work() -> None:
        progress = StageProgress()
        try:
            folder = provide(load_config(asked.config), asked.photos or sample_photos(), asked.out, recipe, progress)
        except OSError as error:
            raise UserError(str(error)) from error
        finally:
            progress.end()
        say("base", summary(folder))
        say("base", f"next, to train on it: python jobs/train.py --set {shlex.quote(f'base={folder}')}")
        print(folder)

    return exit_code_of(work)


if __name__ == "__main__":
    raise SystemExit(main())
