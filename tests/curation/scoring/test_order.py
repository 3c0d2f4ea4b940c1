"""In which order filters are tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from curation.scoring.order import Costs, cheapest_order

PAPER = ["grayscale", "text", "faces", "anime"]
FREE = {name: () for name in PAPER}


def measured(figures: dict[str, tuple[float, float]], images: int = 1000) -> Costs:
    """Costs that saw every filter at (seconds an image, pass rate)."""
    costs = Costs(list(figures))
    for name, (seconds, rate) in figures.items():
        passing = np.arange(images) < rate * images
        costs.note(name, 99.0, passing[:0], passing[:0])
        costs.note(name, seconds * images, passing, np.zeros(images, bool))
    return costs


def expected_cost(order, figures) -> float:
    total, share = 0.0, 1.0
    for name in order:
        seconds, rate = figures[name]
        total, share = total + share * seconds, share * rate
    return total


def test_nothing_measured_is_the_papers_order():
    assert cheapest_order(Costs(PAPER), FREE, PAPER) == PAPER


def test_no_permutation_is_cheaper():
    draw = np.random.default_rng(3)
    for _ in range(50):
        figures = {name: (draw.uniform(0.001, 0.2), draw.uniform(0.05, 0.95)) for name in PAPER}
        best = min(expected_cost(order, figures) for order in itertools.permutations(PAPER))
        chosen = expected_cost(cheapest_order(measured(figures), FREE, PAPER), figures)
        assert chosen <= best * 1.01


def test_a_filter_comes_after_what_it_needs():
    figures = {"grayscale": (0.001, 0.9), "text": (0.1, 0.8), "faces": (0.03, 0.5), "anime": (0.0001, 0.1)}
    assert cheapest_order(measured(figures), FREE, PAPER)[0] == "anime"
    order = cheapest_order(measured(figures), {**FREE, "anime": ("faces",)}, PAPER)
    assert order.index("anime") == order.index("faces") + 1


def test_loading_the_model_is_no_cost_of_an_image():
    costs = measured({"text": (0.1, 0.5)})
    assert abs(costs.cost("text") - 0.1) < 1e-9


def test_what_others_hide_is_told_by_audited_images():
    """Of two filters that reject the same images the cheap one goes first, also where it came second until now and so
    never rejected anything."""
    costs, images = Costs(["dear", "cheap"]), 2000
    rejects, audited = np.arange(images) % 2 == 0, np.arange(images) % 100 < 2
    for name, came in (("dear", np.ones(images, bool)), ("cheap", ~rejects | audited)):
        costs.note(name, 0.0, rejects[:0], rejects[:0])
        costs.note(name, {"dear": 0.05, "cheap": 0.01}[name] * came.sum(), ~rejects[came], audited[came])
    assert costs.pass_rate("dear") == pytest.approx(0.5, abs=0.01)
    assert 0.5 < costs.pass_rate("cheap") < 0.95  # of those that came 0.98 passed
    needs = {"dear": (), "cheap": ()}
    assert cheapest_order(costs, needs, ["dear", "cheap"]) == ["cheap", "dear"]


def test_few_audited_images_do_not_overrule_many():
    costs, passing = Costs(["text"]), np.arange(1000) < 900
    costs.note("text", 1.0, passing, np.arange(1000) >= 998)
    assert costs.pass_rate("text") == pytest.approx(0.88, abs=0.01)
