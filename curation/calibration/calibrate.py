"""Thresholds are chosen, not guessed: on labelled photos, or against the published FaceCaptionHQ-4M.

Each filter's thresholds are chosen on one half of the photos (even last hex digit of the sha256) and reported on the
other, with 95 % Wilson intervals. Positive means *rejected*: precision is the share of the rejected that a person
would reject too, recall the share found of what a person would reject, loss the share of good photos thrown away.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from rich.console import Console
from rich.table import Table

from common.intervals import Quality, Rate
from common.settings import RecipeError, read_yaml
from curation.calibration.edits.make import made_edits
from curation.calibration.kept import configurations, print_kept
from curation.calibration.label_table import LabelError, read_labels
from curation.calibration.labels import (
    Labelled,
    Read,
    find_photos,
    motif_of,
    photos_of_folder,
    photos_of_run,
    photos_of_sample,
    score_photos,
)
from curation.filters.base import Filter, MetadataFilter
from curation.filters.evidence import PASS
from curation.filters.registry import Thresholds
from curation.pipeline import recipe_of
from curation.recipe.recipe import Recipe, load, parse
from curation.run_directory.run import Run
from curation.run_directory.snapshot import require_snapshot
from curation.run_directory.units import UnitScores, units_of
from curation.sample.photos import photos

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_RECIPE = ROOT / "curation" / "recipe" / "sample.yaml"
CLEAN_RECIPE = ROOT / "curation" / "recipe" / "facecaptionhq-4m-clean.yaml"
SAMPLE_LABELS = ROOT / "tests" / "labels" / "sample-photos.csv"
EDITS_LABELS = ROOT / "tests" / "labels" / "sample-edits.csv"
ABOUT = """Thresholds from labelled photos, with their precision and recall.

    python -m curation calibrate                                   on the sample's photos, and on edits of them
    python -m curation calibrate --photos FOLDER --labels my.csv   on your photos; `file`: a path in the folder
    python -m curation calibrate RUN --labels my.csv               on images of a run; `id`: as in the run's tables
    python -m curation calibrate RUN --reference                   fits a run to the published FaceCaptionHQ-4M

Labels have the columns of tests/labels/sample-photos.csv, one or more of them, in CSV, JSON lines or parquet. No Ray is
started: the filters run in this process.
"""


# -- choosing -------------------------------------------------------------------------------------------------------


def candidates(item: Filter, thresholds: Thresholds) -> Iterator[tuple[dict[str, Any], Thresholds]]:
    """Every combination of one filter's grid, put into the other thresholds."""
    for values in itertools.product(*item.grid.values()):
        setting = dict(zip(item.grid, values, strict=True))
        yield setting, _with(thresholds, item.name, setting)


def _with(thresholds: Thresholds, name: str, setting: dict[str, Any]) -> Thresholds:
    tree = thresholds.model_dump(mode="json")
    return Thresholds.model_validate({**tree, name: {**tree[name], **setting}})


def rejects(item: Filter, evidence: pa.Table, thresholds: Thresholds) -> np.ndarray:
    return item.verdict(evidence, getattr(thresholds, item.name)) != PASS


def choose(
    item: Filter, evidence: pa.Table, truth: np.ndarray, counts: np.ndarray, thresholds: Thresholds
) -> list[tuple[dict[str, Any], Thresholds, Quality]]:
    """All settings with their quality on the rows that count: fewest mistakes first, then fewest photos lost."""
    results = []
    for setting, changed in candidates(item, thresholds):
        results.append((setting, changed, Quality.of(rejects(item, evidence, changed), truth, counts)))
    return sorted(results, key=lambda entry: (entry[2].mistakes, entry[2].loss.hits))


def middle_of_best(results: list[tuple[dict[str, Any], Thresholds, Quality]]) -> tuple[dict[str, Any], Thresholds]:
    """Of the settings that are as good as the best, within one standard error, the one in the middle.

    A few photos cannot tell those apart; in the middle, its neighbours are as good as it is.
    """
    fewest = results[0][2].mistakes
    best = [entry for entry in results if entry[2].mistakes <= fewest + math.sqrt(fewest)]
    centre = {key: float(np.median([entry[0][key] for entry in best])) for key in best[0][0]}
    scale = {key: max(abs(value), 1e-9) for key, value in centre.items()}
    nearest = min(best, key=lambda e: sum(abs(e[0][k] - centre[k]) / scale[k] for k in centre))
    return nearest[0], nearest[1]


def choose_all(
    labelled: Labelled, filters: dict[str, Filter], thresholds: Thresholds, choosing: np.ndarray
) -> Thresholds:
    """Each filter's thresholds chosen on those rows; a filter of which they tell nothing keeps its own."""
    for name, item in filters.items():
        truth, counts = labelled.truth(item)
        counts = counts & choosing & labelled.counts & ~labelled.where("doubtful", "1")
        if item.grid and (truth & counts).any() and (~truth & counts).any():
            results = choose(item, labelled.evidence[name], truth, counts, thresholds)
            thresholds = middle_of_best(results)[1]
    return thresholds


def calibrate(labelled: Labelled, filters: dict[str, Filter], start: Thresholds, console: Console) -> Thresholds:
    """Choose each filter's thresholds on one half; print them, and their quality on the other."""
    single = labelled.counts
    doubtful = labelled.where("doubtful", "1")
    choosing, thresholds = labelled.choosing & single & ~doubtful, start
    reporting = ~labelled.choosing & single & ~doubtful
    motifs = len({motif_of(label) for label in labelled.labels})
    console.print(f"{len(labelled.labels)} photos of {motifs} motifs, {int(doubtful.sum())} doubtful, {int((~single).sum())} "
                  f"edits in the sample itself; chosen on {int(choosing.sum())}, reported on {int(reporting.sum())}")  # fmt: skip
    for name, item in filters.items():
        evidence = labelled.evidence[name]
        truth, counts = labelled.truth(item)
        bad, good = (int((kind & counts & choosing).sum()) for kind in (truth, ~truth))
        if not item.grid or not bad or not good:
            # of photos of one kind the best threshold is the one that rejects all of them, or none
            console.print(
                f"{name}: nothing to choose: it has no grid of thresholds" if not item.grid else
                f"{name}: nothing to choose: of the half to choose on it should reject {bad} photos and keep {good}; it "
                "needs some of each"
            )  # fmt: skip
            continue
        results = choose(item, evidence, truth, counts & choosing, thresholds)
        setting, chosen = middle_of_best(results)
        console.print(_sweep(name, item, evidence, truth, counts & reporting, chosen, setting, thresholds, start))
        thresholds = chosen
    print_kept(labelled, configurations(filters, start), choose_all, console)
    return thresholds


def _sweep(
    name: str, item: Filter, evidence: pa.Table, truth: np.ndarray, counts: np.ndarray, chosen: Thresholds,
    setting: dict[str, Any], others: Thresholds, start: Thresholds,
) -> Table:  # fmt: skip
    """The chosen setting among its neighbours: the first of its fields moved, the rest as chosen."""
    table = Table(title=f"{name} on the half not chosen on", title_justify="left")
    for heading in ("setting", "precision of rejecting", "recall of rejecting", "good photos lost"):
        table.add_column(heading, overflow="fold")
    for key in setting:
        values = item.grid[key]
        at = values.index(setting[key])
        for value in values[max(0, at - 3) : at + 4]:
            quality = Quality.of(rejects(item, evidence, _with(chosen, name, {key: value})), truth, counts)
            mark = "[bold]" if value == setting[key] else ""
            table.add_row(f"{mark}{key}={value}", *(f"{mark}{rate}" for rate in _rates(quality)))
        table.add_section()
    quality = Quality.of(rejects(item, evidence, start), truth, counts)
    table.add_row("as in the recipe", *map(str, _rates(quality)))
    return table


def _rates(quality: Quality) -> Iterable[Rate]:
    return quality.precision, quality.recall, quality.loss


# -- against the published set --------------------------------------------------------------------------------------


def fit_reference(options: argparse.Namespace, console: Console) -> Thresholds:
    """Move one threshold after the other until no move raises the agreement (F1) with the published set."""
    run = Run(options.run)
    recipe = recipe_of(run, options.recipe, options.name, options.set)
    filters = recipe.open_filters()
    evidence: dict[str, list[pa.Table]] = {name: [] for name in filters}
    published: list[bool] = []
    for unit in units_of(run, require_snapshot(run)):
        known = UnitScores(run, unit, filters)
        flags = known.candidates["in_hq"].to_pylist()
        if flags and flags[0] is None:
            raise RecipeError(f"{options.run} was made without sources.hq4m: there is nothing to fit to")
        rows = [i for i in range(len(flags)) if all(known.evidence[n].seen[i] for n in filters)]
        published += [flags[i] for i in rows]
        for name in filters:
            evidence[name].append(known.evidence[name].table.take(pa.array(rows, pa.int64())))
    tables = {name: pa.concat_tables(parts).combine_chunks() for name, parts in evidence.items()}
    truth, everything = np.array(published), np.ones(len(published), bool)
    thresholds = recipe.thresholds

    def agreement(item: Thresholds) -> Quality:
        gone = np.any([rejects(filters[n], tables[n], item) for n in filters], axis=0)
        return Quality.of(~gone, truth, everything)

    best = agreement(thresholds).f1
    moved = True
    while moved:
        moved = False
        for item in filters.values():
            for _, changed in candidates(item, thresholds):
                value = agreement(changed).f1
                if value > best + 1e-9:
                    best, thresholds, moved = value, changed, True
    quality = agreement(thresholds)
    console.print(f"{len(truth)} images with every score; agreement with the published set: recall {quality.recall}, "
                  f"precision {quality.precision}")  # fmt: skip
    return thresholds


# -- the command ----------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--labels", metavar="TABLE", help="a table of labels: .csv, .jsonl or .parquet")
    parser.add_argument("--photos", metavar="FOLDER", help="the photos that the labels are of; default: the sample's")
    parser.add_argument("--reference", action="store_true", help="fit a run to the published set instead of labels")


def labelled_photos(options: argparse.Namespace) -> tuple[list[dict[str, str]], list[Read], str, Recipe]:
    """The labels that were asked for, how to read each one's photo, the column with its name, and the recipe."""
    if (options.photos or options.run) and not options.labels:
        raise LabelError("photos of your own need --labels TABLE: what a person says of each of them")
    if options.photos and options.run:
        raise LabelError(f"labels are of the photos in {options.photos} or of the run {options.run}: give one of them")
    name = "id" if options.run else "file" if options.photos else "sha256"
    labels = read_labels(options.labels or SAMPLE_LABELS, name)
    if options.run:
        run = Run(options.run)
        recipe, there, place = recipe_of(run, options.recipe, options.name, options.set), photos_of_run(run), run.root
        return labels, find_photos(labels, name, there, place), name, recipe
    recipe = load(options.recipe, options.set) if options.recipe else sample_recipe(options.set)
    if options.photos:
        there, place = photos_of_folder(options.photos, options.labels), options.photos
        return labels, find_photos(labels, name, there, place), name, recipe
    place = "the sample (photos of your own: --photos FOLDER)"
    reads = find_photos(labels, name, photos_of_sample(), place)
    if not options.labels:
        edits = [{**label, "made": "1"} for label in read_labels(EDITS_LABELS, "file")]  # made of the photos
        made = made_edits(photos(), labels, [label["file"] for label in edits])
        labels, reads, name = [*labels, *edits], [*reads, *(made[label["file"]] for label in edits)], "file"
    return labels, reads, name, recipe


def sample_recipe(changes: Iterable[str]) -> Recipe:
    """The sample's recipe with the filters and thresholds of the clean one, which have all that there is to choose."""
    clean = read_yaml(CLEAN_RECIPE)
    sample = read_yaml(SAMPLE_RECIPE)
    filters = {**sample["filters"], **clean["filters"]}
    return parse({**sample, "filters": filters, "thresholds": clean["thresholds"]}, str(SAMPLE_RECIPE), changes)


def calibrate_command(options: argparse.Namespace) -> None:
    """Choose thresholds and print them, as YAML for a recipe.

    Raises:
        RecipeError: --reference without a run that was made with sources.hq4m.
        LabelError: the labels cannot be used, or do not belong to the photos.
    """
    console = Console() if sys.stdout.isatty() else Console(width=160)  # a file has room for whole tables
    if options.reference:
        if not options.run:
            raise RecipeError("--reference needs a RUN, made with sources.hq4m")
        chosen = fit_reference(options, console)
    else:
        labels, reads, name, recipe = labelled_photos(options)
        opened = recipe.open_filters()
        filters = {name: item for name, item in opened.items() if not isinstance(item, MetadataFilter)}
        for other in set(opened) - set(filters):
            console.print(f"{other}: nothing to choose: it reads metadata, and labelled photos have none")
        labelled = score_photos(labels, reads, name, filters, recipe)
        chosen = calibrate(labelled, filters, recipe.thresholds, console)
    console.print("thresholds:\n" + yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False), markup=False)
