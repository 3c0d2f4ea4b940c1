"""The bench of the score step measures what it says: its bare models find what the filters find, its best order is the best."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from common.decode import decode
from tests.bench.scoring import full_recipe
from tests.bench.scoring.bare import BareModels, bare_decode
from tests.bench.scoring.orders import best_order, cost_of
from tests.bench.scoring.photo_run import photo_run, sample_photos
from tests.bench.scoring.spent import core_seconds_of


def test_the_bare_models_find_what_the_filters_find():
    recipe = full_recipe("facecaptionhq-4m-clean")
    filters = recipe.open_filters()
    models = BareModels(filters, recipe.images)
    for data, _ in sample_photos()[:6]:
        picture, bare = decode(data, recipe.images), bare_decode(data, recipe.images)
        assert np.array_equal(picture.rgb, bare.rgb) and picture.scale == bare.scale
        evidence = {}
        for name, item in filters.items():
            evidence[name] = item.score([picture], {need: evidence[need] for need in item.needs})
        rows = {name: table.to_pylist()[0] for name, table in evidence.items()}
        models(data, ())
        found = {name: model(filters[name], bare) for name, model in models.models.items()}
        assert found["grayscale"] == pytest.approx(rows["grayscale"]["std"], abs=1e-4)
        boxes, scores = found["text"]
        assert sorted(scores) == pytest.approx(sorted(box["score"] for box in rows["text"]["boxes"]), abs=1e-3)
        assert len(boxes) == len(scores)
        # x, y, width and height
        corners = found["faces"][:, :4] @ np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
        expected = [box["box"] for box in rows["faces"]["boxes"]]
        inside = np.clip(corners, 0, [bare.width, bare.height] * 2)
        assert inside == pytest.approx(np.array(expected).reshape(-1, 4), abs=1)
        assert len(found["anime"][0]) == len(rows["anime"]["hits"])
        assert found["drawing"][0] == pytest.approx(list(rows["drawing"].values()), abs=1e-4)


def test_no_permutation_is_cheaper_than_the_best_order():
    draw = np.random.default_rng(1)
    needs = {"a": (), "b": ("c",), "c": (), "d": (), "e": ("b",)}
    for _ in range(20):
        seconds = {name: draw.uniform(0.1, 9) for name in needs}
        common = draw.random(200) < 0.3  # filters that reject the same images
        rejects = {name: (draw.random(200) < draw.random()) | (common & (draw.random() < 0.5)) for name in needs}
        valid = [
            order
            for order in itertools.permutations(needs)
            if all(order.index(need) < order.index(name) for name in needs for need in needs[name])
        ]
        order = best_order(seconds, rejects, needs)
        assert tuple(order) in valid
        cheapest = min(cost_of(order, seconds, rejects) for order in valid)
        assert cost_of(order, seconds, rejects) == pytest.approx(cheapest)


def test_the_core_seconds_of_a_process_whose_parent_is_gone_count(tmp_path):
    flag = tmp_path / "burnt"
    burn = f"import time\nwhile time.process_time() < 1.5: pass\nopen({str(flag)!r}, 'w').close(); time.sleep(2)"
    # it lives long enough to be seen, and is gone while its child is at work
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {burn!r}]); time.sleep(1)"
    wait = f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.1)\ntime.sleep(1.5)"
    whole = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {parent!r}])\n{wait}"
    assert 1.4 < core_seconds_of([sys.executable, "-c", whole]) < 2.8


def test_every_image_of_the_run_is_unique(tmp_path):
    count = len(sample_photos()) + 10
    run, snapshot = photo_run(tmp_path, count, 100)
    assert snapshot.num_rows == len(set(snapshot["sha256"].to_pylist())) == count
    assert len(run.glob("fetched/00/*.tar")) == 4
