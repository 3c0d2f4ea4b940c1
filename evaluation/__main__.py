"""The command line of the evaluation.

python -m evaluation score photos/ mine=drawn/ other=elsewhere/ --out runs/evaluation
"""

from __future__ import annotations

import argparse
import sys

from common.command_line import exit_code_of, subcommand_parser
from evaluation import sets

SCORE = "Score folders of pictures against the references that they were drawn from.\n\n" + str(sets.__doc__)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    score = subcommand_parser(parsers, "score", SCORE)
    score.add_argument("references", metavar="REFERENCES", help="a folder of photos")
    score.add_argument(
        "pictures", metavar="[NAME=]PICTURES", nargs="+", help="a method's folder; default: its own name"
    )
    score.add_argument("--out", default="runs/evaluation", help="a folder, or s3://... (%(default)s)")
    score.add_argument("--weights", help="a folder of model files, looked in first")
    score.add_argument(
        "--model", action="append", default=[], metavar="ROLE=PLACE",
        help="of a metric: a folder, or a name of the hub that is in this machine's cache, for clip= and dino=; a file "
        "for inception=",
    )  # fmt: skip
    score.add_argument(
        "--prompts", metavar="FILE", help="YAML, NAME: words, of the prompts that pictures are filed under"
    )
    score.add_argument("--seed", type=int, default=0, help="of the draws behind the intervals (%(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 what a person has to change."""
    options = build_parser().parse_args(arguments)
    from evaluation.command import ScoreOptions, score_command

    asked = ScoreOptions(
        options.references, options.pictures, options.out, options.weights, options.model, options.prompts, options.seed
    )
    return exit_code_of(lambda: score_command(asked))


if __name__ == "__main__":
    sys.exit(main())
