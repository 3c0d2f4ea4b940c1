"""`make label`: which photos are labelled, into which table, and the page that asks."""

from __future__ import annotations

import argparse
import asyncio

from common.hashing import sha256_of_bytes
from common.paths import open_place
from common.progress import say
from curation.calibration.calibrate import SAMPLE_RECIPE
from curation.calibration.label_table import LabelError
from curation.calibration.labels import Read, listed, photos_of_folder, photos_of_run
from curation.labelling.answers import Answers, question_columns
from curation.labelling.opinions import Opinions
from curation.labelling.server import Labelling, start
from curation.pipeline import recipe_of
from curation.recipe.recipe import load
from curation.run_directory.run import Run

MANY = 20_000  # photos that one person does not look at
ABOUT = """A page to label photos with, in the browser: keys, undo, zoom; closed and opened again, it goes on.

    python -m curation label --photos FOLDER --labels anna.csv               writes each answer at once; `file` names it
    python -m curation label --photos FOLDER --labels anna.csv --ask keep    only whether it belongs in the set
    python -m curation label --photos FOLDER --labels ben.csv --beside anna.csv     the two agree so far; where not
    python -m curation label RUN --labels anna.csv --count 300               300 images of a run, the same each time

The table is what `calibrate` reads. What the filters say of a photo is hidden until it is asked for (key f), and so is
the other person's answer until one has given one's own. The page is on this machine alone.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--photos", metavar="FOLDER", help="the photos, in this folder and its sub-folders")
    parser.add_argument("--labels", metavar="TABLE", default="labels.csv", help="your table, a .csv (%(default)s)")
    parser.add_argument("--beside", metavar="TABLE", help="another person's table, to be compared with yours")
    parser.add_argument("--ask", default="", metavar="COLUMN,...", help="only these questions; default: all")
    parser.add_argument(
        "--count", type=int, metavar="N", help="only so many of the photos, chosen by their names' hash"
    )
    parser.add_argument("--port", type=int, default=0, help="of the page; default: a free one")


def chosen(there: dict[str, Read], count: int | None) -> dict[str, Read]:
    """In the order of their names; with `count` so many of them, always the same.

    Raises:
        LabelError: none; more than a person can look at.
    """
    named = {name: there[name] for name in sorted(there) if name.isprintable()}
    if unnamed := sorted(set(there) - set(named)):
        say("label", f"{len(unnamed):,} photos have names that no table can hold, and are left out: {listed(unnamed)}")
    if count is not None and count < 1:
        raise LabelError(f"--count {count} (COUNT=...): give 1 or more")
    if count is not None and count < len(named):
        first = sorted(named, key=lambda name: sha256_of_bytes(name.encode()))[:count]
        named = {name: named[name] for name in sorted(first)}
    if not named:
        raise LabelError("there is no photo to label: correct --photos (PHOTOS=...)")
    if len(named) > MANY:
        raise LabelError(
            f"{len(named):,} photos are more than a person looks at: say how many with --count (COUNT=300)"
        )
    return named


def open_labelling(options: argparse.Namespace) -> Labelling:
    """What was asked for, checked before the page is opened.

    Raises:
        LabelError: no photos, or a table that cannot be used.
        RecipeError: the recipe cannot be used.
    """
    if bool(options.photos) == bool(options.run):
        raise LabelError("whose photos? Give --photos FOLDER (PHOTOS=folder), or a run (RUN=...)")
    columns = question_columns([column.strip() for column in options.ask.split(",") if column.strip()])
    if options.run:
        run = Run(options.run)
        recipe, there = recipe_of(run, options.recipe, options.name, options.set), photos_of_run(run)
    else:
        recipe = load(options.recipe or SAMPLE_RECIPE, options.set)
        there = photos_of_folder(options.photos, options.labels)
        if options.beside:
            there.pop(_within(options.photos, options.beside), None)
    name = "id" if options.run else "file"
    beside = None
    if options.beside:
        if options.beside == options.labels:
            raise LabelError(f"--beside {options.beside}: is your own table: give another person's")
        beside = Answers(options.beside, name)
        if not beside.answered(columns):
            raise LabelError(f"--beside {options.beside}: holds no answer to what is asked")
    photos = chosen(there, options.count)
    answers = Answers(options.labels, name)
    if strange := sorted(answers.answered(columns) - set(there)):
        say("label", f"{options.labels}: {len(strange):,} rows are of other photos; they stay: {listed(strange)}")
    return Labelling(photos, columns, answers, Opinions(recipe), beside)


def _within(folder: str, table: str) -> str:
    """The table's path in the folder, as the folder's files are named."""
    return open_place(table)[1].removeprefix(open_place(folder)[1].rstrip("/") + "/")


def label_command(options: argparse.Namespace) -> None:
    """Serve the page until the person ends it.

    Raises:
        UserError: what has to be changed first.
    """
    labelling = open_labelling(options)
    for line in labelling.agreements():
        say("label", str(line))
    done = len(labelling.answers.answered(labelling.columns) & set(labelling.names))
    say("label", f"{done:,} of {len(labelling.names):,} photos have an answer in {labelling.answers.path}")

    async def serve() -> None:
        runner, address = await start(labelling, options.port)
        say("label", f"the page: {address}   (Ctrl-C ends it; every answer is written at once)")
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    asyncio.run(serve())
