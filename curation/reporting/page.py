"""The report as one page of HTML that needs nothing but itself: numbers, figures and thumbnails into a template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from curation.filters.registry import check_class
from curation.ledger.model import Ledger
from curation.reporting import figures, thumbnails
from curation.reporting.facts import Contents, Duplicates, contents, duplicates, web
from curation.reporting.funnel import NO_IDENTITY, funnel, label_of, published, rejection_of, rejections
from curation.reporting.measures import MeasuredImages, Scores, check_passes, nearest, others, read_scores
from curation.reporting.text import headline, images_text, notices_of, percent, time_text
from curation.reporting.thumbnails import Grid, Tile
from curation.run_directory.run import CODE_VERSION

TEMPLATES = Path(__file__).parent / "templates"
SIDE_BY_SIDE, KEPT = 12, 36


def build(ledger: Ledger) -> bytes:
    """The whole page, UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(n=lambda value: f"{value:,}", pct=percent, size=lambda value: decimal(round(value)))
    return environment.get_template("report.html").render(**context(ledger)).encode()


def context(ledger: Ledger) -> dict[str, Any]:
    scores = read_scores(ledger)
    panels = [_panel(measure, scores, ledger) for measure in scores.measures]
    rejects, kept = _rejects(ledger), Grid("At random", _tiles(ledger.kept[:KEPT].tolist()))
    same, inside, against = duplicates(ledger), contents(ledger), published(ledger, SIDE_BY_SIDE)
    doubles = _doubles(same)
    disagreements = []
    if against:
        lost = [Tile(number, label_of(reason)) for number, reason in against.rejected]
        extra = _tiles(against.extra)
        disagreements = [
            Grid("Published, rejected here", lost, "rejected"),
            Grid("Kept here, not published", extra, "kept"),
        ]
    grids = [grid for panel in panels for grid in panel["grids"]]
    thumbnails.fill(ledger, [*grids, *rejects, kept, *doubles, *disagreements])
    manifest, identity = ledger.manifest, ledger.manifest.get("identity") or {}
    return {
        "ledger": ledger,
        "title": ledger.run.root.rstrip("/").rsplit("/", 1)[-1],
        "created": time_text(str(manifest.get("created") or "")),
        "code_version": manifest.get("code_version") or CODE_VERSION,
        "verdict": headline(ledger),
        "notices": notices_of(ledger),
        "stages": _bars(funnel(ledger)),
        "rejections": rejections(ledger) if ledger.has("verdicts") else None,
        "why": {label_of(name): rejection_of(name) for name in (*ledger.checks, NO_IDENTITY)},
        "bar": figures.bar,
        "scores": scores,
        "panels": panels,
        "sizes": _sizes(ledger),
        "rejects": rejects,
        "kept": kept,
        "web": web(ledger),
        "inside": inside,
        "inside_figures": _inside(inside) if inside else [],
        "duplicates": same,
        "doubles": doubles,
        "against": against,
        "disagreements": disagreements,
        "identity": [identity[key] for key in ("name", "dimension", "channel_order") if identity.get(key)],
        "thresholds": _flat(ledger.thresholds.model_dump(mode="json")),
        "recipe": yaml.safe_dump(ledger.recipe, sort_keys=False, allow_unicode=True),
    }


def _bars(stages: list[Any]) -> list[dict[str, Any]]:
    top = next((stage.count for stage in stages if stage.count), 0)
    rows, before = [], None
    for stage in stages:
        row = {"stage": stage, "of_all": None, "of_before": None, "bar": ""}
        if stage.count is not None and top:
            ends = (stage.low / top, stage.high / top) if stage.estimated else (None, None)
            kind = "k" if stage.name == "kept" else "o"
            row |= {"of_all": stage.count / top, "bar": figures.bar(stage.count / top, *ends, kind)}
            row["of_before"] = min(1.0, stage.count / before) if before else None
            before = stage.count
        rows.append(row)
    return rows


# -- filters: a histogram with its threshold, and what stands closest to it ------------------------------------------


def _panel(measure: MeasuredImages, scores: Scores, ledger: Ledger) -> dict[str, Any]:
    panel: dict[str, Any] = {"measure": measure, "figure": "", "slider": None, "grids": []}
    if not len(measure.values):
        return panel
    threshold = measure.threshold
    # counts are whole: what passes up to 10 and what fails from 11 on are parted at 10.5
    cut = None if threshold is None else threshold + (0.5 if measure.scale == "count" else 0)
    cut = None if cut is None else float(np.float32(cut))
    bins = figures.bins_of(measure.values, measure.scale, threshold, measure.above)
    place = bins.place(measure.values)
    at = None if cut is None else int(np.argmin(np.abs(bins.edges - cut)))
    rest = others(measure, scores, ledger)
    passes = measure.passes() if threshold is not None else check_passes(measure, ledger)
    kept = ledger.tables.contains("kept", measure.ids)
    layers = {
        "kept": measure.values[kept & passes],
        "other": measure.values[~kept & passes],
        "rejected": measure.values[~passes],
    }
    label = f"{'min' if measure.above else 'max'} {measure.show(threshold)}" if threshold is not None else ""
    if measure.exclusive:
        label = f"rejected from {threshold + 1:.0f}"
    panel["figure"] = figures.histogram(
        bins, layers, measure.title, measure.unit, at, label, percent=measure.unit.startswith("share")
    )
    if at is not None and measure.decides and ledger.has("verdicts"):
        panel["slider"] = _slider(measure, bins, place, rest, at)
    if threshold is not None:
        good, bad = nearest(measure, SIDE_BY_SIDE)
        panel["grids"] = [
            Grid(title, [_tile(measure, index) for index in chosen], side)
            for title, chosen, side in (("Just rejected", bad, "rejected"), ("Just passed", good, "kept"))
        ]
    return panel


def _slider(
    measure: MeasuredImages, bins: figures.Bins, place: np.ndarray, rest: np.ndarray, at: int
) -> dict[str, Any]:
    """What a movable threshold needs to know at each edge: how many would be kept, and how many are not known."""
    bars, found = len(bins.edges) - 1, {}
    for name, state in (("kept", 1), ("open", -1)):
        counts = np.append(0, np.cumsum(np.bincount(place[rest == state], minlength=bars)))
        found[name] = (counts[-1] - counts if measure.above else counts).tolist()
    edges = np.floor(bins.edges) if measure.scale == "count" else bins.edges
    found["at"] = [measure.show(max(0, edge + (1 if measure.exclusive else 0))) for edge in edges]
    found["x"] = [round(bins.x(edge), 1) for edge in range(bars + 1)]
    return {"first": 0, "last": bars, "at": at, "data": json.dumps(found), "kept": found["kept"][at]}


def _tile(measure: MeasuredImages, index: int) -> Tile:
    value = measure.show(measure.values[index])
    return Tile(int(measure.ids[index]), value, measure.check, f"image with {measure.unit} {value}")


def _tiles(ids: Iterable[int], check: str = "") -> list[Tile]:
    return [Tile(number, "", check) for number in ids]


def _rejects(ledger: Ledger) -> list[Grid]:
    """For each reason some rejected images in id order, which is random order."""
    if not ledger.has("verdicts"):
        return []
    grids, counts = [], ledger.rejected
    reasons = (
        *ledger.checks,
        *(reason for reason in counts if reason not in (*ledger.checks, NO_IDENTITY)),
        NO_IDENTITY,
    )
    for reason in (reason for reason in reasons if reason in counts):
        if reason == NO_IDENTITY:
            ids = ledger.no_identity[:SIDE_BY_SIDE].tolist()
        else:
            first = (
                f"SELECT id FROM verdicts WHERE verdict = 'rejected' AND reason = ? ORDER BY id LIMIT {SIDE_BY_SIDE}"
            )
            ids = [number for (number,) in ledger.tables.rows(first, reason)]
        check = check_class(reason)
        drawn = check.drawn if check and check.drawn else reason
        note = f"{images_text(counts[reason])}: {rejection_of(reason)}"
        grids.append(Grid(label_of(reason), _tiles(ids, drawn), "rejected", note))
    return grids


def _doubles(same: tuple[Duplicates, Duplicates] | None) -> list[Grid]:
    if same is None:
        return []
    same_bytes, same_look = (group.groups[:6] for group in same)
    copies = [Tile(ids[0], f"{len(ids)}×") for ids in same_bytes]
    pairs = [Tile(number) for ids in same_look for number in ids[:2]]
    grids = [Grid("Same bytes", copies), Grid("Same perceptual hash, other bytes", pairs)]
    return [grid for grid in grids if grid.tiles]


# -- plain histograms ----------------------------------------------------------------------------------------------


def _plain(values: np.ndarray, title: str, unit: str, scale: str) -> Markup:
    return figures.histogram(figures.bins_of(values, scale), {"plain": values}, title, unit)


def _sizes(ledger: Ledger) -> Markup | str:
    if not ledger.scored:
        return ""
    shorter, kept = ledger.tables.arrays(
        "SELECT least(width, height)::DOUBLE, id IN (FROM kept) FROM images WHERE status = 'ok'"
    )
    layers = {"kept": shorter[kept], "other": shorter[~kept]}
    return figures.histogram(figures.bins_of(shorter, "log"), layers, "Image size", "shorter side, pixels")


def _inside(inside: Contents) -> list[tuple[str, Markup]]:
    found = [
        ("Resolution", inside.short_sides.astype(float), "shorter side, pixels", "log"),
        ("Caption length", inside.words, "words", "count"),
        ("Captioned faces an image", inside.boxes, "faces", "count"),
    ]
    return [(title, _plain(values, title, unit, scale)) for title, values, unit, scale in found if len(values)]


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows
