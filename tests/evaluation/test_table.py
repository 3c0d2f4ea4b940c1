"""The table's cells: means, distances between sets, what is too few to quote, what is left out, what is not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics.base import Figure, NotMeasured, SetFigure, stops_at_errors
from evaluation.metrics.distances import frechet_distance, kernel_distance
from evaluation.report.text import comma_separated, markdown, number
from evaluation.score import Scored
from evaluation.sets import Drawn, Method, Reference
from evaluation.table import by_category, column_of

REFERENCES = [Reference(f"r{n}", Path(f"r{n}.jpg")) for n in range(8)]


@pytest.fixture
def world():
    """Two methods, two prompts each; the first misses all pictures of r7."""
    rng = np.random.default_rng(0)
    methods, rows, features = [], [], {str(item.file): {"vector": rng.normal(size=4)} for item in REFERENCES}
    for name, level in (("good", 0.8), ("bad", 0.2)):
        drawn = []
        for reference in REFERENCES:
            for prompt in ("sea", "snow"):
                gone = name == "good" and reference.name == "r7"
                item = Drawn(reference, prompt, "", None if gone else Path(f"{name}/{reference.name}/{prompt}.png"))
                score = np.nan if gone else level + 0.01 * rng.normal()
                error = "not drawn" if gone else ""
                row = (name, reference.name, prompt, "", str(item.file or ""), error, score)
                rows.append(row)
                drawn.append(item)
                if not gone:
                    features[str(item.file)] = {"vector": rng.normal(size=4) + level}
        methods.append(Method(name, tuple(drawn), ()))
    columns = ["method", "reference", "prompt", "seed", "file", "error", "score"]
    return Scored(SimpleNamespace(name="made"), pd.DataFrame(rows, columns=columns), features), methods


def test_a_failure_counts_as_the_figure_says(world):
    kept = column_of(Figure("x", "score", of_failures=0.0), *world).cells["good"]
    left = column_of(Figure("x", "score"), *world).cells["good"]
    assert kept.estimate.value == pytest.approx(0.7, abs=0.01) and kept.estimate.n == 8 and kept.left_out == 0
    assert left.estimate.value == pytest.approx(0.8, abs=0.01) and left.estimate.n == 7 and left.left_out == 2
    assert kept.first == 1.0 and not kept.close


def test_copies_and_other_people_are_a_measure_and_do_not_compete(world):
    scored, (good, bad) = world
    third = replace(bad, name="third", drawn=bad.drawn)
    rows = scored.rows[scored.rows["method"] == "bad"].assign(method="third")
    scored = replace(scored, rows=pd.concat([scored.rows, rows], ignore_index=True))
    cells = column_of(Figure("x", "score"), scored, [replace(good, competes=False), bad, third]).cells
    assert cells["good"].first is None and not cells["good"].close and cells["good"].estimate.known
    assert cells["bad"].first == cells["third"].first == 0.5
    alone = column_of(Figure("x", "score"), scored, [replace(good, competes=False), bad]).cells
    assert alone["bad"].first is None and not alone["bad"].close, "one method leads nobody"


def test_with_one_reference_every_difference_is_marked_and_nobody_is_first(world):
    scored, methods = world
    scored.rows.drop(scored.rows.index[scored.rows["reference"] != "r0"], inplace=True)
    cells = column_of(Figure("x", "score"), scored, methods).cells
    assert [(cells[name].close, cells[name].first, cells[name].estimate.n) for name in ("good", "bad")] == [
        (False, None, 1), (True, None, 1)
    ]  # fmt: skip
    assert number(cells["bad"]).endswith("N=1 ~") and "P(best)" not in number(cells["good"])


def test_no_interval_goes_beyond_what_a_figure_can_be(world):
    scored, methods = world
    for bounds in ((0, 0.8), (0.8, 1)):
        told = column_of(Figure("x", "score", bounds=bounds), scored, methods).cells["good"].estimate
        assert told.low >= min(bounds[0], told.value) and told.high <= max(bounds[1], told.value)
        fid = column_of(SetFigure("FID", "vector", frechet_distance, bounds=(0, 0.1)), scored, methods).cells["bad"]
        assert 0 <= fid.estimate.low and fid.estimate.high == fid.estimate.value


def test_a_photo_that_stands_there_twice_counts_once(world):
    """Four photos twice each are no eight."""
    scored, methods = world
    twice = [
        replace(method, drawn=tuple(
            replace(item, reference=replace(item.reference, same_as=f"r{int(item.reference.name[1]) // 2 * 2}"))
            for item in method.drawn))
        for method in methods
    ]  # fmt: skip
    for figure in (Figure("x", "score"), SetFigure("KID", "vector", kernel_distance)):
        alone, same = (column_of(figure, scored, these).cells["bad"].estimate for these in (methods, twice))
        assert (alone.n, same.n) == (8, 4) and same.value == pytest.approx(alone.value)


def test_each_category_of_prompts_has_its_means_from_the_same_scores(world):
    """Pictures by the sea are 0.1 better: so says that row, and the table's number lies between the two."""
    scored, methods = world
    scored.rows.loc[scored.rows["prompt"] == "sea", "score"] += 0.1
    figures = [
        Figure("x", "score"),
        Figure("y", "never measured"),
        Figure("x", "score", "reconstructed"),
        SetFigure("KID", "vector", kernel_distance),
    ]
    parts = by_category(figures, scored, methods, {"snow": "weather", "sea": "place", "never drawn": "else"})
    assert [(part.figure.title, part.figure.protocol, part.category) for part in parts] == [
        ("x", "sound", "weather"), ("x", "sound", "place")
    ]  # fmt: skip
    weather, place = (part.cells["bad"].estimate for part in parts)
    whole = column_of(figures[0], scored, methods).cells["bad"].estimate
    assert place.value - weather.value == pytest.approx(0.1, abs=0.02) and weather.n == place.n == 8
    assert (weather.value + place.value) / 2 == pytest.approx(whole.value)
    assert parts[0].cells["good"].left_out == 1 and parts[0].cells["good"].estimate.n == 7
    text = markdown([], methods, ["# head"], parts=parts)
    assert "| figure | category | good | bad |" in text and "| x | weather | 0.8" in text
    (row,) = [row for row in comma_separated(parts, methods).splitlines() if row.startswith("x,sound,place,bad,")]
    assert float(row.split(",")[4]) == pytest.approx(place.value)
    assert by_category(figures, scored, methods, {"snow": "weather", "sea": "weather"}) == [], (
        "one category is the table"
    )


def test_what_has_no_direction_has_no_rank(world):
    cell = column_of(Figure("x", "score", higher_is_better=None), *world).cells["good"]
    assert cell.first is None and "P(best)" not in number(cell)


def test_a_distance_is_that_of_the_sets_and_few_pictures_are_not_to_be_quoted(world):
    scored, methods = world
    kid = column_of(SetFigure("KID", "vector", kernel_distance), scored, methods).cells["bad"]
    drawn = [scored.features[str(item.file)]["vector"] for item in methods[1].drawn]
    expected = kernel_distance([scored.features[str(item.file)]["vector"] for item in REFERENCES], drawn)
    assert kid.estimate.value == pytest.approx(expected) and kid.estimate.low < expected < kid.estimate.high
    fid = column_of(SetFigure("FID", "vector", frechet_distance, headline_at=2048), scored, methods).cells["bad"]
    assert not fid.quotable and "too few to quote" in number(fid)


def test_a_published_script_ends_with_an_error_where_a_picture_is_missing(world):
    figure = Figure("x", "score", "reconstructed", stops=stops_at_errors)
    cells = column_of(figure, *world).cells
    assert cells["good"].estimate is None and cells["bad"].estimate.n == 8
    assert cells["good"].why == "the published script ends with an error at r7: not drawn"


def test_a_published_script_lists_files_by_their_suffix_and_the_case_counts(world):
    """Of the first method all but one picture have another; of the other none is left."""
    (scored, methods), kept = world, "good/r0/sea.png"
    scored.rows["file"] = [name if name == kept else name.replace(".png", ".PNG") for name in scored.rows["file"]]
    cells = column_of(Figure("x", "score", suffixes=(".png",)), scored, methods).cells
    assert cells["good"].estimate.n == 1 and cells["good"].left_out == 15
    assert cells["bad"].why == "no picture has a number"
    assert (
        column_of(Figure("x", "score", suffixes=(".png",), of_none=0.0), scored, methods).cells["bad"].estimate.value
        == 0
    )
    fid = column_of(SetFigure("FID", "vector", frechet_distance, suffixes=(".jpg",)), scored, methods).cells["bad"]
    assert fid.estimate is None and fid.left_out == 16
    fid = column_of(SetFigure("FID", "vector", frechet_distance, suffixes=(".png",)), scored, methods).cells["bad"]
    assert "(0,) and (16, 4)" in fid.why, "the references, all .jpg, are listed by the same script"


def test_the_interval_of_a_slow_distance_is_that_of_a_fast_one(world):
    calls = []

    def slow(one, other):
        calls.append(len(one))
        return frechet_distance(one, other)

    cells = [
        column_of(figure, *world).cells["bad"].estimate
        for figure in (
            SetFigure("FID", "vector", slow, scatter=frechet_distance),
            SetFigure("FID", "vector", frechet_distance),
        )
    ]
    assert cells[0] == cells[1] and calls == [7, 8], "once a method"


def test_both_files_say_the_same_and_why_a_number_is_missing(world):
    scored, methods = world
    figures = [
        Figure("FaceSim", "score", says="what it is"),
        NotMeasured("CLIP-T", "reconstructed", "no code was published"),
    ]
    columns = [column_of(figure, scored, methods) for figure in figures]
    text = markdown(columns, methods, ["# head"])
    assert "| CLIP-T | reconstructed | n/a | n/a |" in text
    assert "- CLIP-T (reconstructed): n/a: no code was published" in text
    assert "- FaceSim (sound): what it is" in text and "| figure | protocol | good | bad |\n|---|---|---|---|" in text
    assert "could not be scored" not in text
    failed = pd.DataFrame(
        [("bad", f"r{n}", "sea", "42", "no face") for n in range(7)],
        columns=["method", "reference", "prompt", "seed", "error"],
    )
    text = markdown(columns, methods, ["# head"], failed)
    assert "- bad: no face: r0 sea 42, r1 sea 42, r2 sea 42, r3 sea 42, r4 sea 42 and 2 more, in scores/" in text
    renamed = [Method(method.name.replace("good", "a|b"), method.drawn, method.strange) for method in methods]
    columns[1].cells["a|b"] = columns[1].cells["good"]
    assert r"| figure | protocol | a\|b | bad |" in markdown(columns[1:], renamed, ["# head"])
    rows = comma_separated(columns, methods).splitlines()
    assert len(rows) == 5 and rows[1].startswith("FaceSim,sound,,good,0.8")
    assert rows[3].endswith("no code was published")
