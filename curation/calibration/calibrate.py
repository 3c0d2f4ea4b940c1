"""Thresholds are chosen, not guessed: on labelled photos, or against the published FaceCaptionHQ-4M.

Each filter's thresholds are chosen on one half of the photos (even last hex digit of the sha256) and reported on the
other, with 95 % Wilson intervals. Positive means *rejected*: precision is the share of the rejected that a person
would reject too, recall the share found of what a person would reject, loss the share of good photos thrown away.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from rich.console import Console
from rich.table import Table

from common.intervals import Quality, Rate
from common.settings import RecipeError
from curation.calibration.labels import VARIANT, Labelled, anime_labels, load_labels, score_photos
from curation.filters.base import Filter, MetadataFilter
from curation.filters.evidence import PASS
from curation.filters.registry import Thresholds
from curation.pipeline import open_curation
from curation.recipe.recipe import load
from curation.run_directory.units import UnitScores, units_of
from curation.sample.photos import photos

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_RECIPE = ROOT / "curation" / "recipe" / "sample.yaml"
SAMPLE_LABELS = ROOT / "tests" / "labels" / "sample-photos.csv"
ABOUT = """Thresholds from labelled photos, with their precision and recall.

    python -m curation calibrate                       on the sample's labelled photos
    python -m curation calibrate --labels my.csv       with your labels: columns as in tests/labels/sample-photos.csv
    python -m curation calibrate RUN --reference       fits a run to the published FaceCaptionHQ-4M (its `in_hq`)
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


def calibrate(labelled: Labelled, filters: dict[str, Filter], start: Thresholds, console: Console) -> Thresholds:
    """Choose each filter's thresholds on one half; print them, and their quality on the other."""
    single = np.array([not label.get("note", "").startswith(VARIANT) for label in labelled.labels])
    choosing, thresholds = labelled.choosing & single, start
    reporting = ~labelled.choosing & single
    console.print(f"{len(labelled.labels)} photos, {int(single.sum())} of them no edit of another; chosen on "
                  f"{int(choosing.sum())}, reported on {int(reporting.sum())}")  # fmt: skip
    for name, item in filters.items():
        evidence = labelled.evidence[name]
        truth, counts = labelled.truth(item)
        if not item.grid or not (counts & choosing).any():
            console.print(f"{name}: nothing to choose: it has no grid of thresholds, or no label speaks of it")
            continue
        results = choose(item, evidence, truth, counts & choosing, thresholds)
        setting, chosen = middle_of_best(results)
        console.print(_sweep(name, item, evidence, truth, counts & reporting, chosen, setting, thresholds, start))
        thresholds = chosen
    cartoons = np.array([label["drawing"] == "cartoon" for label in labelled.labels])
    if "anime" in filters:
        rejected = rejects(filters["anime"], labelled.evidence["anime"], thresholds) & cartoons
        console.print(f"western cartoons that the anime filter finds: {Rate(int(rejected.sum()), int(cartoons.sum()))}")
    photo = np.array([label["drawing"] == "photo" for label in labelled.labels])
    for what, which in (("with the recipe's thresholds", start), ("with those chosen", thresholds)):
        _print_kept(what, labelled, filters, which, reporting, console)
        _print_kept(f"{what}, drawings aside", labelled, filters, which, reporting & photo, console)
    return thresholds


def _sweep(
    name: str, item: Filter, evidence: pa.Table, truth: np.ndarray, counts: np.ndarray, chosen: Thresholds,
    setting: dict[str, Any], others: Thresholds, start: Thresholds,
) -> Table:  # fmt: skip
    """The chosen setting among its neighbours: the first of its fields moved, the rest as chosen."""
    table = Table(title=f"{name} on the half not chosen on", title_justify="left")
    for heading in ("setting", "precision of rejecting", "recall of rejecting", "good photos lost"):
        table.add_column(heading)
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


def _print_kept(
    what: str,
    labelled: Labelled,
    filters: dict[str, Filter],
    thresholds: Thresholds,
    counts: np.ndarray,
    console: Console,
) -> None:
    kept = ~np.any([rejects(filters[n], labelled.evidence[n], thresholds) for n in filters], axis=0)
    keep = np.array([label["keep"] == "1" for label in labelled.labels])
    quality = Quality.of(kept, keep, counts)
    console.print(f"kept set, {what}: precision {quality.precision}, recall {quality.recall}")


# -- against the published set --------------------------------------------------------------------------------------


def fit_reference(options: argparse.Namespace, console: Console) -> Thresholds:
    """Move one threshold after the other until no move raises the agreement (F1) with the published set."""
    curation = open_curation(options.run, options.recipe, options.name, options.set)
    filters = curation.filters
    evidence: dict[str, list[pa.Table]] = {name: [] for name in filters}
    published: list[bool] = []
    for unit in units_of(curation.snapshot()[0]):
        known = UnitScores(curation.run, unit, filters)
        flags = known.candidates["in_hq"].to_pylist()
        if flags and flags[0] is None:
            raise RecipeError(f"{options.run} was made without sources.hq4m: there is nothing to fit to")
        rows = [i for i in range(len(flags)) if all(known.evidence[n].seen[i] for n in filters)]
        published += [flags[i] for i in rows]
        for name in filters:
            evidence[name].append(known.evidence[name].table.take(pa.array(rows, pa.int64())))
    tables = {name: pa.concat_tables(parts).combine_chunks() for name, parts in evidence.items()}
    truth, everything = np.array(published), np.ones(len(published), bool)
    thresholds = curation.recipe.thresholds

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
    parser.add_argument("--labels", type=Path, default=SAMPLE_LABELS, help="a table of labels")
    parser.add_argument("--anime", type=Path, metavar="FOLDER", help="more pictures, every one of them anime")
    parser.add_argument("--reference", action="store_true", help="fit a run to the published set instead of labels")


def calibrate_command(options: argparse.Namespace) -> None:
    """Choose thresholds and print them, as YAML for a recipe.

    Raises:
        RecipeError: --reference without a run that was made with sources.hq4m.
    """
    console = Console()
    if options.reference:
        if not options.run:
            raise RecipeError("--reference needs a RUN, made with sources.hq4m")
        chosen = fit_reference(options, console)
    else:
        recipe = load(options.recipe or SAMPLE_RECIPE, options.set)
        opened = recipe.open_filters()
        filters = {name: item for name, item in opened.items() if not isinstance(item, MetadataFilter)}
        for name in set(opened) - set(filters):
            console.print(f"{name}: nothing to choose: it reads metadata, and labelled photos have none")
        labels, files = load_labels(options.labels), {p.sha256[:16]: p.path for p in photos()}
        if options.anime:
            more, where = anime_labels(options.anime)
            labels, files = labels + more, files | where
        labelled = score_photos(labels, files, filters, recipe)
        chosen = calibrate(labelled, filters, recipe.thresholds, console)
    console.print("thresholds:\n" + yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False), markup=False)
