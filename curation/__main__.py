"""The command line of the curation: each step on its own, a report, thresholds from labelled photos.

    python -m curation select RUN --recipe my.yaml
    python -m curation score RUN                       goes on with the recipe that the run was started with
    python -m curation cut RUN --name strict --set thresholds.text.max_area=0.01
    python -m curation label --photos photos/ --labels my.csv
    python -m curation calibrate --photos photos/ --labels my.csv

`make curate` and `python jobs/curate.py` do all steps, one after the other. A step that is done says so and does nothing.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext

from common.cluster.runtime import connected
from common.command_line import exit_code_of, subcommand_parser

STEPS = {
    "select": "The sources' tables -> candidates, and the largest of them by resolution.",
    "fetch": "Download the selected candidates' images; what failed and may have healed is tried again.",
    "score": "Run every filter over what was fetched, as far as the thresholds need its evidence.",
    "cut": "Thresholds and scores -> verdicts. Runs no model, reads no image.",
    "annotate": "Of each kept image: the face to train on, its landmarks, its identity vector.",
    "pack": "What a cut keeps -> WebDataset shards.",
}


def add_run_arguments(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    parser.add_argument("run", nargs="?" if optional else None, help="the run directory: a folder, or s3://...")
    parser.add_argument("--recipe", help="a recipe file; default: the one in the run's manifest")
    parser.add_argument("--name", help="the cut; default: the recipe's name")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. score.workers=4")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m curation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsers = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, text in STEPS.items():
        add_run_arguments(subcommand_parser(parsers, name, text))
    parsers.choices["fetch"].add_argument("--again", action="store_true", help="one more round over what may heal")
    report = subcommand_parser(parsers, "report", "What a run did: a summary here, and RUN/report.html.")
    report.add_argument("rest", nargs=argparse.REMAINDER, help="as python curation/report.py --help says")
    from curation.packing.verify import ABOUT as VERIFY

    verify = subcommand_parser(parsers, "verify", VERIFY)
    verify.add_argument("run", help="the run directory: a folder, or s3://...")
    verify.add_argument("--name", help="the cut; default: the recipe's name")
    from curation.calibration.calibrate import ABOUT, add_arguments

    calibrate = subcommand_parser(parsers, "calibrate", ABOUT)
    add_run_arguments(calibrate, optional=True)
    add_arguments(calibrate)
    from curation.labelling.label import ABOUT as LABEL
    from curation.labelling.label import add_arguments as add_label_arguments

    label = subcommand_parser(parsers, "label", LABEL)
    add_run_arguments(label, optional=True)
    add_label_arguments(label)
    from curation.planning.command import ABOUT as PLAN
    from curation.planning.command import add_arguments as add_plan_arguments

    plan = subcommand_parser(parsers, "plan", PLAN)
    plan.add_argument("run", nargs="?", help="the run directory that it is for: forecast.json is written there")
    plan.add_argument("--recipe", required=True, help="a recipe file")
    plan.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="e.g. fetch.threads=64")
    add_plan_arguments(plan)
    return parser


def run_step(options: argparse.Namespace) -> None:
    from curation.pipeline import open_curation
    from curation.run_directory.driver import only_driver

    curation = open_curation(options.run, options.recipe, options.name, options.set)
    again = getattr(options, "again", False)
    done = curation.is_done(options.step) and not again
    with only_driver(curation.run) as curation.epoch, nullcontext() if done else connected():
        if not done:
            curation.require_nodes()
        with curation.followed([options.step]):
            curation.do(options.step, again)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 (report) the numbers do not agree, 2 what a person has to change."""
    options = build_parser().parse_args(arguments)
    if options.step == "report":
        from curation.report import main as report

        return report(options.rest)
    if options.step == "verify":
        from curation.packing.verify import verify_command

        return exit_code_of(lambda: verify_command(options))
    if options.step == "calibrate":
        from curation.calibration.calibrate import calibrate_command

        return exit_code_of(lambda: calibrate_command(options))
    if options.step == "plan":
        from curation.planning.command import plan_command

        return exit_code_of(lambda: plan_command(options))
    if options.step == "label":
        from curation.labelling.label import label_command

        return exit_code_of(lambda: label_command(options))
    return exit_code_of(lambda: run_step(options))


if __name__ == "__main__":
    sys.exit(main())
