"""In which order filters are tried."""

from __future__ import annotations

import itertools

import numpy as np

from curation.scoring.order import Costs, cheapest_order

PAPER = ["grayscale", "text", "faces", "anime"]
FREE = {name: () for name in PAPER}


def measured(figures: dict[str, tuple[float, float]], images: int = 1000) -> Costs:
    """Costs that saw every filter at (seconds an image, pass rate)."""
    costs = Costs(list(figures))
    for name, (seconds, rate) in figures.items():
        passing = np.arange(images) < rate * images
        costs.note(name, 99.0, 1, passing[:0])
        costs.note(name, seconds * images, images, passing)
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
