"""Copying against prompt-following as a plot: where a point stands, and what is said where there is none."""

from __future__ import annotations

import pytest

from evaluation.metrics.base import Figure, NotMeasured
from evaluation.report.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, plot_of
from evaluation.sets import Method
from evaluation.statistics import Estimate
from evaluation.table import Cell, Column, not_measured

METHODS = [Method(name, (), ()) for name in ("copy", "free", "none")]
NAN = float("nan")


def column(title, *values, protocol="sound", half=0.05):
    cells = [Cell(None if value is None else Estimate(value, value - half, value + half, 9)) for value in values]
    return Column(Figure(title, "x", protocol), dict(zip(("copy", "free", "none"), cells, strict=True)))


def test_a_copy_stands_at_the_upper_left_and_all_of_it_is_inside():
    columns = [
        column("CLIP-T", 0.1, 0.9, None, protocol="reconstructed"), column("CLIP-T", 0.20, 0.30, 0.25),
        column("FaceSim, dlib", 0.9, 0.5, None), column("copy-paste, dlib", 1.0, -0.2, None),
    ]  # fmt: skip
    plot = plot_of(columns)
    copy, free = plot.points
    assert (plot.x_title, plot.y_title) == ("CLIP-T", "copy-paste, dlib") and not plot.why
    assert copy.name == "copy" and copy.x < free.x and copy.y < free.y, "up is a smaller y"
    for point in plot.points:
        assert LEFT <= point.x_ends[0] < point.x < point.x_ends[1] <= WIDTH - RIGHT
        assert TOP <= point.y_ends[1] < point.y < point.y_ends[0] <= HEIGHT - BOTTOM
    assert copy.said == "copy: CLIP-T 0.200, copy-paste, dlib 1.000"


def test_without_other_photos_likeness_stands_for_copying():
    columns = [
        column("CLIP-T", 0.2, 0.3, None),
        column("copy-paste, dlib", None, None, None),
        column("FaceSim, dlib", 0.9, 0.5, 0.1),
    ]
    assert plot_of(columns).y_title == "FaceSim, dlib"


def test_one_method_with_one_reference_is_a_point_without_lines():
    (point,) = plot_of(
        [column("CLIP-T", 0.2, None, None, half=NAN), column("FaceSim, dlib", 0.9, None, None, half=NAN)]
    ).points
    assert point.x_ends == (point.x, point.x) and point.y_ends == (point.y, point.y)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (
            [not_measured(NotMeasured("CLIP", "sound", "no model"), METHODS), column("FaceSim, dlib", 1, 1, 1)],
            "no CLIP-T",
        ),
        ([column("CLIP-T", 1, 1, 1)], "no FaceSim"),
        ([], "no CLIP-T and FaceSim"),
        ([column("CLIP-T", 1, None, None), column("FaceSim, dlib", None, 1, None)], "No method has both numbers"),
    ],
)
def test_why_there_is_none(columns, why):
    assert why in plot_of(columns).why
