"""The report as one page of HTML that needs nothing but itself: numbers, figures and thumbnails into a template."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.filesize import decimal

from common.settings import flattened
from common.version import VERSION
from curation.filters.registry import check_class
from curation.ledger.model import Ledger
from curation.reporting import figures, thumbnails
from curation.reporting.facts import Contents, Duplicates, contents, duplicates, web
from curation.reporting.funnel import NO_IDENTITY, funnel, label_of, published, rejection_of, rejections
from curation.reporting.measures import read_scores
from curation.reporting.panels import panel_of
from curation.reporting.text import given_up_text, headline, images_text, notices_of, percent, time_text
from curation.reporting.thumbnails import Grid, Tile
from curation.reporting.two_cuts import two_cuts

TEMPLATES = Path(__file__).parent / "templates"
IN_A_GRID, KEPT = 12, 36  # thumbnails


def render_page(ledger: Ledger) -> bytes:
    """The whole page, UTF-8; a name that is no text is shown with its bytes."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(n=lambda value: f"{value:,}", pct=percent, size=lambda value: decimal(round(value)))
    environment.filters["given_up"] = given_up_text
    return environment.get_template("report.html").render(**_context(ledger)).encode(errors="backslashreplace")


def _context(ledger: Ledger) -> dict[str, Any]:
    scores = read_scores(ledger)
    panels = [panel_of(measure, scores, ledger) for measure in scores.measures]
    rejects, kept = _rejects(ledger), Grid("At random", _tiles(ledger.kept[:KEPT].tolist()))
    same, inside, comparison = duplicates(ledger), contents(ledger), published(ledger, IN_A_GRID)
    same_grids = _duplicate_grids(same)
    disagreements = []
    if comparison:
        lost = [Tile(number, label_of(reason)) for number, reason in comparison.rejected]
        disagreements.append(Grid("Published, rejected here", lost, "rejected"))
        disagreements.append(Grid("Kept here, not published", _tiles(comparison.extra), "kept"))
    grids = [grid for panel in panels for grid in panel.grids]
    compared = two_cuts(ledger)
    compared_grids = [compared.here.grid(), compared.there.grid()] if compared else []
    thumbnails.fill(ledger, [*compared_grids, *grids, *rejects, kept, *same_grids, *disagreements])
    manifest, identity = ledger.manifest, ledger.manifest.get("identity") or {}
    return {
        "ledger": ledger,
        "title": ledger.run.root.rstrip("/").rsplit("/", 1)[-1],
        "created": time_text(str(manifest.get("created") or "")),
        "code_version": manifest.get("code_version") or VERSION,
        "verdict": headline(ledger),
        "notices": notices_of(ledger),
        "stages": funnel(ledger),
        "rejections": rejections(ledger) if ledger.has("verdicts") else None,
        "why": {label_of(name): rejection_of(name) for name in (*ledger.checks, NO_IDENTITY)},
        "bar": figures.bar,
        "compared": compared,
        "compared_grids": compared_grids,
        "scores": scores,
        "panels": panels,
        "sizes": _sizes(ledger),
        "rejects": rejects,
        "kept": kept,
        "web": web(ledger),
        "inside": inside,
        "inside_figures": _contents_figures(inside) if inside else [],
        "duplicates": same,
        "duplicate_grids": same_grids,
        "comparison": comparison,
        "disagreements": disagreements,
        "identity": [identity[key] for key in ("name", "dimension", "channel_order") if identity.get(key)],
        "thresholds": flattened(ledger.thresholds.model_dump(mode="json")).items(),
        "recipe": yaml.safe_dump(ledger.recipe, sort_keys=False, allow_unicode=True),
    }


def _tiles(ids: Iterable[int], check: str = "") -> list[Tile]:
    return [Tile(number, "", check) for number in ids]


def _rejects(ledger: Ledger) -> list[Grid]:
    """For each reason some rejected images in id order, which is random order."""
    if not ledger.has("verdicts"):
        return []
    grids, counts = [], ledger.rejected
    others = [reason for reason in counts if reason not in (*ledger.checks, NO_IDENTITY)]
    for reason in (reason for reason in (*ledger.checks, *others, NO_IDENTITY) if reason in counts):
        if reason == NO_IDENTITY:
            ids = ledger.no_identity[:IN_A_GRID].tolist()
        else:
            first = f"SELECT id FROM verdicts WHERE verdict = 'rejected' AND reason = ? ORDER BY id LIMIT {IN_A_GRID}"
            ids = [number for (number,) in ledger.tables.rows(first, reason)]
        check = check_class(reason)
        drawn = check.drawn if check and check.drawn else reason
        note = f"{images_text(counts[reason])}: {rejection_of(reason)}"
        grids.append(Grid(label_of(reason), _tiles(ids, drawn), "rejected", note))
    return grids


def _duplicate_grids(same: tuple[Duplicates, Duplicates] | None) -> list[Grid]:
    if same is None:
        return []
    same_bytes, same_look = (group.groups[:6] for group in same)
    copies = [Tile(ids[0], f"{len(ids)}×") for ids in same_bytes]
    pairs = [Tile(number) for ids in same_look for number in ids[:2]]
    grids = [Grid("Same bytes", copies), Grid("Same perceptual hash, other bytes", pairs)]
    return [grid for grid in grids if grid.tiles]


# -- plain histograms ----------------------------------------------------------------------------------------------


def _sizes(ledger: Ledger) -> Markup | str:
    if not ledger.scored:
        return ""
    shorter, kept = ledger.tables.arrays(
        "SELECT least(width, height)::DOUBLE, id IN (FROM kept) FROM images WHERE status = 'ok'"
    )
    layers = {"kept": shorter[kept], "other": shorter[~kept]}
    return figures.histogram(figures.bins_of(shorter, "log"), layers, "Image size", "shorter side, pixels")


def _contents_figures(inside: Contents) -> list[tuple[str, Markup]]:
    histograms = [
        ("Resolution", inside.short_sides.astype(float), "shorter side, pixels", "log"),
        ("Caption length", inside.words, "words", "count"),
        ("Captioned faces an image", inside.boxes, "faces", "count"),
    ]
    return [
        (title, figures.histogram(figures.bins_of(values, scale), {"plain": values}, title, unit))
        for title, values, unit, scale in histograms
        if len(values)
    ]
