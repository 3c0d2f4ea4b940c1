"""What a forecast says follows from its pilot: figures, the neck, what the sort will do, what nobody can know."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from common.settings import RecipeError
from curation.pipeline import STEPS
from curation.planning.costs import Target
from curation.planning.forecast import Forecast, forecast
from curation.planning.pilot import Pilot
from curation.planning.prices import Prices, load_prices
from curation.planning.show import show
from curation.recipe.recipe import Recipe
from tests.bench.forecast import figures_of, truth_of
from tests.curation.planning.made_pilot import made_cost, made_pilot, made_recipe

FREE = Prices(core_hour=0, gpu_hour=0, download_gb=0, egress_gb=0, storage_gb_month=0, months=0)


MACHINES = Target(32, 4)


def told(
    pilot: Pilot | None = None, recipe: Recipe | None = None, target: Target = MACHINES, prices: Prices = FREE
) -> Forecast:
    return forecast(recipe or made_recipe(), pilot or made_pilot(), target, prices, 0)


def shown(planned: Forecast) -> str:
    text = io.StringIO()
    show(planned, None, Console(file=text, width=200, soft_wrap=True, highlight=False))
    return text.getvalue()


def test_a_third_of_13_million_dead_leaves_fewer_than_ten_million():
    planned = told()
    assert 2 / 3 in planned.living
    assert planned.selection.startswith("The resolution sort selects nothing away: 67% of the links live, 8,8")
    assert "wants 10,000,000" in planned.selection and "nothing away" in shown(planned)
    assert planned.of("select").images.value == 13e6 and planned.of("score").images.high < 10e6


def test_where_most_live_the_sort_selects():
    planned = told(made_pilot(dead=0.1))
    assert planned.selection.startswith("The resolution sort keeps 10,000,000 of 11,9")
    assert planned.of("score").images.value == 10_000_000


def test_where_too_few_are_fetched_more_can_be():
    planned = told(recipe=made_recipe(count=5_000_000, overprovision=1.2))
    assert "raise select.overprovision to 1.5" in planned.selection


def test_by_metadata_the_dead_are_not_made_up_for():
    planned = told(recipe=made_recipe(count=10_000_000, rank_over="metadata"))
    assert "takes 10,000,000 of 13,200,000 candidates, living or not" in planned.selection
    assert 10e6 * 2 / 3 in planned.of("score").images


def test_work_divides_among_cores_and_is_paid_by_the_clock():
    prices = FREE.model_copy(update={"core_hour": 1.0})
    small, large = (told(target=Target(2, nodes), prices=prices) for nodes in (1, 10))
    score, faster = small.of("score"), large.of("score")
    assert score.core_hours.value == pytest.approx(0.1 * score.images.value / 3600, rel=0.02)
    # 0.05 s of the clock an image on two cores
    assert score.hours.value == pytest.approx(0.05 * score.images.value / 3600, rel=0.02)
    assert faster.hours.value == pytest.approx(score.hours.value / 10, rel=0.02)
    assert score.dollars.value == pytest.approx(2 * score.hours.value, rel=0.02)
    assert small.whole.hours.value == pytest.approx(sum(small.of(step).hours.value for step in STEPS), rel=0.05)


def test_a_slow_web_is_the_neck_and_connections_are_the_remedy():
    planned = told(made_pilot(wait=20.0))
    assert planned.neck == "fetch" and "more connections (fetch.threads) help" in shown(planned)
    # 13.2M attempts of 20 s on 256 tasks of 64 connections, and what the pilot took beyond its waiting
    assert planned.of("fetch").hours.value == pytest.approx(13.2e6 * 20 / (256 * 64) / 3600, rel=0.25)
    assert told(made_pilot(wait=0.01)).neck == "score"


def test_on_gpus_that_the_pilot_had_not_nothing_is_said():
    planned = told(target=Target(32, 4, 1))
    assert planned.of("score").hours is None and planned.whole.hours is None and planned.whole.dollars is None
    text = shown(planned)
    assert "unknown on 4 GPUs, as the pilot had no GPU" in text and "unknown" in text
    measured = told(made_pilot(gpus=1.0), target=Target(2, 4, 1), prices=FREE.model_copy(update={"gpu_hour": 2.0}))
    score = measured.of("score")
    assert score.hours.value == pytest.approx(0.05 * score.images.value / 4 / 3600, rel=0.02)
    assert score.dollars.value == pytest.approx(2.0 * score.gpu_hours.value, rel=0.02)


def test_what_was_not_measured_is_a_default_and_said_to_be():
    planned = told()
    cut = planned.of("cut")
    assert cut.basis == "default" and cut.hours.high / cut.hours.value > 2
    assert planned.of("score").basis == "measured" and "cut: too few images" in shown(planned)


def test_what_a_row_takes_needs_more_rows_than_the_pilot():
    assert told().of("select").hours is not None
    planned = told(made_pilot(faces=20_000))
    assert planned.of("select").hours is None and "what a row takes was not measured" in shown(planned)


def test_an_interval_is_wider_where_a_step_was_uneven():
    even = told().of("score").core_hours
    uneven = made_cost(200, 0.05, 0.1)
    uneven.pieces[::2, 2] *= 1.9
    uneven.pieces[1::2, 2] *= 0.1
    costs = made_pilot().costs | {"score": uneven}
    other = told(made_pilot(costs=costs)).of("score").core_hours
    assert other.high - other.low > 3 * (even.high - even.low)


def test_prices_are_checked(tmp_path):
    assert load_prices(None).core_hour > 0
    (tmp_path / "mine.yaml").write_text("core_hour: 1\ngpu_hours: 2\n")
    with pytest.raises(
        RecipeError, match=r"mine\.yaml has \d mistakes(.|\n)*gpu_hours: no such field; did you mean `gpu_hour`"
    ):
        load_prices(str(tmp_path / "mine.yaml"))


def test_the_bench_compares_every_figure_that_there_is():
    pilot = made_pilot()
    assert set(truth_of(pilot.facts, pilot.costs)) <= set(figures_of(told()))
