"""Inline SVG: histograms with a threshold on them, and bars with intervals. Colours and fonts come from the page.

Bins are laid out from the threshold outwards, so that it always falls between two bars and what stands left and
right of the line is exactly what passes and what fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log10

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 196
LEFT, RIGHT, TOP, BOTTOM = 10, 10, 26, 38
BARS = 36  # about as many, where they are not whole numbers
ZERO_GAP = 8  # pixels between the bar of what is too small for a logarithm and the others


@dataclass(frozen=True)
class Bins:
    """Edges (bars + 1,), ascending. `first_is_rest`: the first bar holds all below the axis; `last_is_rest`: above."""

    edges: np.ndarray
    scale: str
    first_is_rest: bool
    last_is_rest: bool
    inclusive: bool  # a value on an edge belongs to the bar right of it

    def place(self, values: np.ndarray) -> np.ndarray:
        """The bar of each value."""
        bars = np.digitize(values, self.edges, right=not self.inclusive) - 1
        return np.clip(bars, 0, len(self.edges) - 2)

    def x(self, edge: int) -> float:
        """Pixel of an edge: bars are equally wide on any scale."""
        bars = len(self.edges) - 1
        gap = ZERO_GAP if self.first_is_rest else 0
        step = (WIDTH - LEFT - RIGHT - gap) / bars
        return LEFT + edge * step + (gap if edge > 0 else 0)


def bins_of(values: np.ndarray, scale: str, threshold: float | None = None, above: bool = True) -> Bins:
    """Bars for these values; the threshold, where there is one, is an edge. `scale`: "log", "linear" or "count"."""
    values = values[np.isfinite(values)]
    if scale == "count":
        return _count_bins(values, threshold or 0, above)
    if scale == "log" and (values > 0).any() and (threshold is None or threshold > 0):
        return _log_bins(values, threshold, above)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    step = (high - low or 1.0) / BARS
    anchor = low if threshold is None else threshold
    edges = anchor + step * np.arange(floor((low - anchor) / step + 1e-9), ceil((high - anchor) / step + 1e-9) + 1)
    return Bins(edges, "linear", False, False, above)


def _count_bins(values: np.ndarray, threshold: float, above: bool) -> Bins:
    """A bar for each number, up to one that holds all above it."""
    largest, most = (float(values.max()), float(np.quantile(values, 0.995))) if len(values) else (1.0, 1.0)
    last = min(ceil(max(most, threshold + 2, 4)), floor(threshold * 3 + 40))
    return Bins(np.arange(0, last + 2) - 0.5, "count", False, largest > last, above)


def _log_bins(values: np.ndarray, threshold: float | None, above: bool) -> Bins:
    """Bars over at most four decades, and one for all below them where there is anything."""
    positive = values[values > 0]
    high = float(positive.max())
    low = max(float(positive.min()), high / 2e4)
    if threshold is not None:
        low, high = min(low, threshold / 2), max(high, threshold * 2)
    high = max(high, low * 1.5)
    anchor, ratio = threshold or low, (high / low) ** (1 / BARS)
    first = floor(log(low / anchor) / log(ratio) + 1e-9)
    last = ceil(log(high / anchor) / log(ratio) - 1e-9) + (0 if threshold else 1)
    edges = anchor * ratio ** np.arange(first, last + 1)
    rest = bool(len(values) > len(positive) or (values < edges[0]).any())
    return Bins(np.append(0, edges) if rest else edges, "log", rest, False, above)


def histogram(
    bins: Bins,
    layers: dict[str, np.ndarray],
    title: str,
    unit: str,
    line_at: int | None = None,
    line_label: str = "",
    percent: bool = False,
) -> Markup:
    """Stacked bars. `layers`: {css class: values}, bottom first; `line_at`: the edge that is the threshold.

    `percent`: values are shares, shown as percentages.
    """
    bars = len(bins.edges) - 1
    counts = {name: np.bincount(bins.place(values), minlength=bars) for name, values in layers.items()}
    total = sum(counts.values(), np.zeros(bars, dtype=np.int64))
    peak, filled = int(total.max(initial=0)), total[total > 0]
    # one bar of pictures without any text would flatten all others
    root = len(filled) > 2 and peak > 12 * np.median(filled)
    floor_y, room = HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    parts = [f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor_y}" y2="{floor_y}"/>']
    for bar in np.flatnonzero(total):
        share = total[bar] / peak
        tall = max(1.5, room * (share**0.5 if root else share))
        y, left, right = float(floor_y), bins.x(bar), bins.x(bar + 1)
        if bar == 0 and bins.first_is_rest:
            right -= ZERO_GAP
        words = " + ".join(f"{counts[name][bar]:,} {name}" for name in layers if counts[name][bar] and name != "plain")
        parts.append(f"<g><title>{_interval(bins, bar, percent)}: {words or f'{total[bar]:,}'}</title>")
        for name in layers:
            part = tall * counts[name][bar] / total[bar]
            if part > 0:
                y -= part
                size = f'width="{max(0.8, right - left - 1):.1f}" height="{part:.1f}"'
                parts.append(f'<rect class="{name}" x="{left + 0.5:.1f}" y="{y:.1f}" {size}/>')
        parts.append("</g>")
    parts += _ticks(bins, percent)
    note = f"{unit}{' · log' if bins.scale == 'log' else ''} · tallest bar {peak:,}{' · root scale' if root else ''}"
    parts.append(f'<text class="unit" x="{LEFT}" y="{HEIGHT - 5}">{escape(note)}</text>')
    if line_at is not None:
        x = bins.x(line_at) - (ZERO_GAP / 2 if bins.first_is_rest and line_at == 1 else 0)
        anchor, nudge = ("end", -5) if x > WIDTH * 0.6 else ("start", 5)
        parts.append(
            f'<g class="line" transform="translate({x:.1f} 0)"><line y1="8" y2="{floor_y}"/>'
            f'<text x="{nudge}" y="17" text-anchor="{anchor}">{escape(line_label)}</text></g>'
        )
    label = escape(f"Histogram: {title}, {int(total.sum()):,} images. {line_label}")
    return Markup(f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">') + Markup(
        "".join(parts) + "</svg>"
    )


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.3g}%"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _interval(bins: Bins, bar: int, percent: bool) -> str:
    if bins.scale == "count":
        return f"{bins.edges[bar] + 0.5:.0f}{' or more' if bins.last_is_rest and bar == len(bins.edges) - 2 else ''}"
    if bar == 0 and bins.first_is_rest:
        return f"below {_number(bins.edges[1], percent)}"
    return f"{_number(bins.edges[bar], percent)} to {_number(bins.edges[bar + 1], percent)}"


def _ticks(bins: Bins, percent: bool) -> list[str]:
    """Numbers below the axis; those that would overlap are left out."""
    y, parts, last = HEIGHT - BOTTOM + 14, [], -99.0
    for x, text in _tick_places(bins, percent):
        if x - last >= 9 + 6 * len(text):
            inside = min(max(x, LEFT + 3 * len(text)), WIDTH - RIGHT - 3 * len(text))
            parts.append(f'<text class="tick" x="{inside:.1f}" y="{y}" text-anchor="middle">{escape(text)}</text>')
            last = x
    return parts


def _tick_places(bins: Bins, percent: bool) -> list[tuple[float, str]]:
    """(pixel, text), ascending."""
    edges = bins.edges
    if bins.scale == "count":
        last = len(edges) - 2
        return [
            ((bins.x(bar) + bins.x(bar + 1)) / 2, f"{bar}{'+' if bins.last_is_rest and bar == last else ''}")
            for bar in range(0, len(edges) - 1, ceil((len(edges) - 1) / 11))
        ]
    start = 1 if bins.first_is_rest else 0
    pixels = np.array([bins.x(edge) for edge in range(start, len(edges))])
    low, high = edges[start], edges[-1]
    if bins.scale == "log":
        steps = range(1, 10) if high / low < 8 else (1, 2, 5) if high / low < 300 else (1,)
        decades = range(floor(log10(low)), ceil(log10(high)) + 1)
        marks = [mark for power in decades for step in steps if low <= (mark := step * 10.0**power) <= high]
        places = np.interp(np.log(marks), np.log(edges[start:]), pixels)
    else:
        step = _nice((high - low) / 6)
        marks = step * np.arange(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
        places = np.interp(marks, edges, pixels)
    zero = [((bins.x(0) + bins.x(1) - ZERO_GAP) / 2, "0")] if bins.first_is_rest else []
    return zero + [(float(x), _number(mark, percent)) for x, mark in zip(places, marks, strict=True)]


def _nice(step: float) -> float:
    """1, 2 or 5 times a power of ten, not below `step`."""
    power = 10.0 ** floor(log10(step)) if step > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def bar(share: float, low: float | None = None, high: float | None = None, kind: str = "k") -> Markup:
    """A horizontal bar of `share` of the width; the interval of an estimate is drawn as a thin line with ends."""
    parts = [f'<rect class="{kind}" width="{100 * share:.2f}%" height="100%" rx="2"/>']
    if low is not None and high is not None:
        start, stop = (f"{100 * min(end, 0.998):.2f}%" for end in (low, high))
        parts.append(f'<line class="whisker" x1="{start}" x2="{stop}" y1="50%" y2="50%"/>')
        parts += [f'<line class="whisker" x1="{end}" x2="{end}" y1="25%" y2="75%"/>' for end in (start, stop)]
    return Markup(f'<svg class="bar" aria-hidden="true">{"".join(parts)}</svg>')
