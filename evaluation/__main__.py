"""The command line of the evaluation.

python -m evaluation references shards shards/ --out photos/ --count 1000 --trained-on runs/train/mine
python -m evaluation score photos/ mine=drawn/ other=elsewhere/ --out runs/mine
"""

from __future__ import annotations

import argparse
import sys

from common.command_line import exit_code_of, subcommand_parser
from evaluation import sets
from generation.options import positive_int, seed

DEVICES = ("auto", "cpu", "cuda")
KINDS = ("shards", "urls", "multiid", "folder")  # of sources

REFERENCES = """Make a folder of references, with a manifest of ids, URLs, hashes, licences, and what was left out and why.

references shards SHARDS      photos and captions of shards, in the order of their ids
references urls LIST          a URL a line, or CSV with the columns url, name, words, person, licence
references multiid FOLDER     MultiID-Bench: ID/ref_1.jpg, ID/ori.jpg, ID/meta.json, or its parquet files
references folder PHOTOS      photos, with captions anna.txt and targets/anna.jpg; or a folder for each person: the first
                              photo is the reference, the second the other photo of the same person

With --trained-on, photos that a model was trained on are left out: by their id, by their bytes, and near duplicates by
perceptual hash. How many were is printed, and stands in the head of every table. The same command again makes the same
set; of URLs, what failed is tried again.
"""

FREEZE = """Freeze the prompts and seeds of a comparison by one hash, before anything is drawn.

python -m evaluation freeze evaluation/prompts/own.yaml --seeds 42 43 --out runs/mine

OUT/asked.json keeps them, and the head of the table in OUT says the hash. Other prompts for the same OUT are refused;
`score` tells where it is given others, or finds pictures of others.
"""

SCORE = "Score folders of pictures against the references that they were drawn from.\n\n" + str(sets.__doc__)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    references = subcommand_parser(parsers, "references", REFERENCES)
    references.add_argument("kind", metavar="KIND", choices=KINDS, help=f"of the source: {', '.join(KINDS)}")
    references.add_argument("source", metavar="SOURCE", help="shards may be s3://...")
    references.add_argument("--out", required=True, help="a folder")
    references.add_argument("--count", type=positive_int, help="how many; without: all")
    references.add_argument(
        "--trained-on", metavar="RUN", help="the OUT of `make train`, or a folder of shards: none of these photos"
    )
    references.add_argument("--licence", default="", help="of the photos, where the source does not say")
    freeze = subcommand_parser(parsers, "freeze", FREEZE)
    freeze.add_argument("prompts", metavar="PROMPTS", help="YAML: NAME: words, or several of these under CATEGORY:")
    freeze.add_argument("--seeds", nargs="+", default=["42"], metavar="SEED", help="as pictures are named (42)")
    freeze.add_argument("--out", required=True, help="where the table will be")
    score = subcommand_parser(parsers, "score", SCORE)
    score.add_argument("references", metavar="REFERENCES", help="a folder of photos")
    score.add_argument(
        "pictures", metavar="[NAME=]PICTURES", nargs="+", help="a method's folder; default: its own name"
    )
    score.add_argument("--out", default="runs/score", help="a folder, or s3://...; of one comparison (%(default)s)")
    score.add_argument("--weights", help="a folder of model files, looked in first")
    score.add_argument(
        "--model-of", "--model", dest="model", action="append", default=[], metavar="ROLE=PLACE",
        help="of a metric: a folder, or a name of the hub that is in this machine's cache, for clip=, dino= and "
        "vlm=; a file for inception= and attributes=",
    )  # fmt: skip
    score.add_argument(
        "--prompts",
        metavar="FILE",
        help="YAML, NAME: words, of the prompts that pictures are filed under; default: the frozen ones",
    )
    score.add_argument(
        "--votes", action="append", default=[], metavar="FILE", help="of the page's blind mode; again for each voter"
    )
    score.add_argument("--seed", type=seed, default=0, help="of the draws behind the intervals (%(default)s)")
    score.add_argument("--device", choices=DEVICES, default="auto", help="of the networks (%(default)s)")
    score.add_argument(
        "--workers", type=positive_int, help="actors of Ray that score; default: few pictures are scored without, of more "
        "one a GPU or a CPU",
    )  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 nothing could be scored, 2 what a person has to change."""
    options = build_parser().parse_args(arguments)
    if options.step == "references":
        from evaluation.builders.build import ReferencesOptions, references_command

        wanted = ReferencesOptions(
            options.kind, options.source, options.out, options.count, options.trained_on, options.licence
        )
        return exit_code_of(lambda: references_command(wanted))
    from evaluation.command import ScoreOptions, freeze_command, score_command

    if options.step == "freeze":
        return exit_code_of(lambda: freeze_command(options.prompts, options.seeds, options.out))

    asked = ScoreOptions(
        options.references, options.pictures, options.out, options.weights, options.model, options.prompts, options.seed,
        options.votes, device=options.device, workers=options.workers,
    )  # fmt: skip
    return exit_code_of(lambda: score_command(asked))


if __name__ == "__main__":
    sys.exit(main())
