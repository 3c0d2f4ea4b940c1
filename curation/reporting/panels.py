"""What the page shows of each measure: its histogram with the threshold, a movable threshold, the closest images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from curation.ledger.model import Ledger
from curation.reporting import figures
from curation.reporting.measures import MeasuredImages, Scores, check_passes, closest, passes_the_rest
from curation.reporting.thumbnails import Grid, Tile

CLOSEST = 12  # thumbnails on either side of a threshold


@dataclass(frozen=True)
class Slider:
    """A threshold that a reader can move over the edges 0 to `last` of a histogram.

    `at`: the edge where it stands; `kept`: images that are kept there; `data`: JSON for report.js, by edge.
    """

    last: int
    at: int
    kept: int
    data: str


@dataclass
class Panel:
    """One measure on the page; `figure` is empty where there is no evidence yet."""

    measure: MeasuredImages
    figure: Markup | str = ""
    slider: Slider | None = None
    grids: list[Grid] = field(default_factory=list)


def panel_of(measure: MeasuredImages, scores: Scores, ledger: Ledger) -> Panel:
    panel = Panel(measure)
    if not len(measure.values):
        return panel
    threshold = measure.threshold
    bins = figures.bins_of(measure.values, measure.scale, threshold, measure.above)
    edge = None if threshold is None else _edge_of(threshold, measure.scale, bins)
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
    panel.figure = figures.histogram(
        bins, layers, measure.title, measure.unit, edge, label, percent=measure.unit.startswith("share")
    )
    if edge is not None and measure.decides and ledger.has("verdicts"):
        always = int(ledger.tables.contains("kept", measure.without).sum())
        panel.slider = _slider(measure, bins, passes_the_rest(measure, scores, ledger), edge, always)
    if threshold is not None:
        passing, failing = closest(measure, CLOSEST)
        panel.grids = [
            Grid("Just rejected", [_tile(measure, index) for index in failing], "rejected"),
            Grid("Just passed", [_tile(measure, index) for index in passing], "kept"),
        ]
    return panel


def _edge_of(threshold: float, scale: str, bins: figures.Bins) -> int:
    """The edge between the bars of what passes and of what fails."""
    # counts are whole: what passes up to 10 and what fails from 11 on are parted at 10.5
    cut = float(np.float32(threshold + (0.5 if scale == "count" else 0)))
    return int(np.argmin(np.abs(bins.edges - cut)))


def _slider(measure: MeasuredImages, bins: figures.Bins, rest: np.ndarray, at: int, always: int) -> Slider:
    """`rest`: for each image 1 where it passes everything else, 0 where it does not, -1 where that is not known.

    `always`: how many are kept wherever the threshold stands.
    """
    bars, bar = len(bins.edges) - 1, bins.place(measure.values)

    def passing(chosen: np.ndarray) -> list[int]:
        """How many of the chosen images pass a threshold at each edge."""
        below = np.append(0, np.cumsum(np.bincount(bar[chosen], minlength=bars)))
        return (below[-1] - below if measure.above else below).tolist()

    kept = [always + number for number in passing(rest == 1)]
    edges = np.floor(bins.edges) if measure.scale == "count" else bins.edges
    data = {
        "kept": kept,
        "open": passing(rest == -1),
        "at": [measure.show(max(0, edge + (1 if measure.exclusive else 0))) for edge in edges],
        "x": [round(bins.x(edge), 1) for edge in range(bars + 1)],
    }
    return Slider(last=bars, at=at, kept=kept[at], data=json.dumps(data))


def _tile(measure: MeasuredImages, index: int) -> Tile:
    value = measure.show(measure.values[index])
    return Tile(int(measure.ids[index]), value, measure.check, f"image with {measure.unit} {value}")
