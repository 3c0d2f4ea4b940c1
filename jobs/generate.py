"""Draw faces from a folder of photos, or from the samples of shards.

python jobs/generate.py photos/ --prompt "a person reading" --out drawn/            the tiny model: tries the program
python jobs/generate.py photos/ --prompts prompts.txt --model exported/ --out drawn/
python jobs/generate.py runs/sample/shards/sample --model sd15 --checkpoint model.bin --out drawn/
ray job submit --working-dir . -- python jobs/generate.py ... --part 0/4            a quarter of it

A shard's samples bring their face, identity and caption; of a photo the face is found. OUT/drawn.jsonl has a line for
every picture that was asked for: drawn, or why not. Pictures that are there are not drawn again; OUT/settings.json says
what decided them, and other settings need another folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or it explains at length that torchvision is not here

from generation import options
from model.presets import PRESETS


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder of photos, or of shards (NNNNN.tar), or one .tar")
    parser.add_argument("--out", required=True, help="folder of the drawn pictures")
    parser.add_argument("--recursive", action="store_true", help="sub-folders of the source, too")
    what = parser.add_argument_group("what is drawn")
    what.add_argument("--prompt", action="append", default=[], help="may be given several times; default: captions")
    what.add_argument("--prompts", metavar="FILE", help="a prompt a line")
    what.add_argument("--negative-prompt", default="")
    what.add_argument(
        "--images", type=options.positive_int, default=1, help="pictures for each face and prompt (%(default)s)"
    )
    what.add_argument("--limit", type=options.positive_int, help="only so many faces")
    what.add_argument(
        "--part", default="0/1", metavar="I/N", help="every N-th face, from I on: for N jobs side by side"
    )
    what.add_argument(
        "--seed", type=options.seed, default=42, help="of every first picture; the next take the next numbers"
    )
    what.add_argument("--steps", type=options.positive_int, default=50)
    what.add_argument("--policy", default="only", choices=["only", "largest", "highest_score"], help="of several faces")
    what.add_argument("--mix-with", metavar="PHOTO", help="a second face, mixed in")
    what.add_argument("--alpha", type=options.fraction, default=0.5, help="share of the second face (%(default)s)")
    scales = parser.add_argument_group("scales")
    scales.add_argument("--preset", default="realistic", choices=list(PRESETS), help="where the scales start")
    for name in ("ip", "controlnet", "guidance", "shortcut"):
        scales.add_argument(f"--{name}-scale", type=options.finite_float)
    options.add_model_options(parser.add_argument_group("model"))
    parser.add_argument("--no-watermark", action="store_true", help="for training grids and evaluation only")
    parser.add_argument("--record-prompt", action="store_true", help="write the prompt into the picture's record")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: all drawn; 1: some could not be, see drawn.jsonl; 2: nothing was begun, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of
    from generation.command import generate_command

    kinds = options.GenerateOptions, options.PictureOptions, options.ModelOptions
    return exit_code_of(lambda: generate_command(*(options.options_from(kind, asked) for kind in kinds)))


if __name__ == "__main__":
    raise SystemExit(main())
