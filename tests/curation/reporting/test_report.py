"""The page: whole, offline, small, honest about what it does not know; on a local disk and in a bucket."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.filters.grayscale import Grayscale
from curation.ledger.read import read_ledger
from curation.report import main
from curation.reporting import figures
from curation.reporting.measures import read_scores
from curation.reporting.page import render_page
from curation.reporting.panels import panel_of
from curation.run_directory.run import Run
from tests.curation import fake_run
from tests.servers.bucket import s3_bucket

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return fake_run.build(str(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return render_page(read_ledger(run)).decode()


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_it_needs_nothing_but_itself(page: str):
    resources = re.findall(r"""(?:src|href|srcset|action|data)\s*=\s*["']([^"']*)""", page) + re.findall(
        r"url\(([^)]*)\)|@import\s+(\S+)", page
    )
    assert resources and all(isinstance(found, str) and found.startswith("data:") for found in resources)
    assert len(page.encode()) < 5_000_000


def test_what_a_reader_is_told(page: str):
    text = text_of(page)
    for words in (
        "40 kept of 80 candidates reconciles ✓", "2026-01-02 03:04:05", "stand-in, centerface",
        "Exact, in the paper's order",
        "candidates 80 100.0%", "grayscale 54", "kept 40", "Undecodable: 1 animated, 1 html, 1 truncated",
        "http_404 2", "0123456789abcdef", "min_std 5.0", "a & b".replace("&", "&amp;"), "recall", "Jaccard",
        "given up to X-Robots-Tag: 1 image (63 were fetched: 1.6% of these); fetch.optout: [] would ask for them",
        "Copies of the same bytes: 1, in 1 group.", "Reconciliation: 25 equations, 0 broken",
    ):  # fmt: skip
        assert words in text, words
    order = [page.index(f'<section id="{name}"') for name in (
        "funnel", "alone", "thresholds", "rejects", "kept", "fetch", "shards", "duplicates", "published", "made-of"
    )]  # fmt: skip
    assert order == sorted(order)


def test_only_the_opt_outs_that_cost_something_are_said(run: Run, page: str, capsys):
    assert main([run.root, "--no-html"]) == 0
    for text in (text_of(page), capsys.readouterr().out):
        assert text.count("given up to") == 1 and "fetch.robots_txt: false" not in text


def test_a_hostile_host_name_is_text(page: str):
    assert "<img onerror" not in page and "&lt;img onerror=alert(1)&gt;.test" in page


def test_an_image_that_has_no_value_is_lost_by_no_threshold(run: Run, monkeypatch):
    ledger, measures = read_ledger(run), Grayscale.measures
    scores = read_scores(ledger)
    whole = panel_of(scores["std"], scores, ledger)

    def with_holes(self, thresholds):
        (one,) = measures(self, thresholds)
        value_of = one.value_of
        one.value_of = lambda rows: np.where(np.arange(len(rows)) % 2, np.nan, value_of(rows))
        return [one]

    monkeypatch.setattr(Grayscale, "measures", with_holes)
    scores = read_scores(ledger)
    holed = panel_of(scores["std"], scores, ledger)
    assert len(holed.measure.values) + len(holed.measure.without) == len(whole.measure.values)
    assert whole.slider.kept == holed.slider.kept == 40
    strictest = [json.loads(panel.slider.data)["kept"][-1] for panel in (whole, holed)]
    assert strictest[0] == 0 < strictest[1] < 40


def test_pictures_are_pictures_of_what_they_say(run: Run, page: str):
    tiles = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)" title="([0-9a-f]{16})"', page)
    assert len(tiles) > 60 and "no picture" not in page
    greys = {fake_run.name(number) for number in fake_run.FAILS["grayscale"]}
    seen = set()
    for data, alt, title in tiles:
        if title in greys and "std over" in alt:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
            assert np.ptp(pixels, axis=2).mean() < 3 and max(pixels.shape) <= 112
            seen.add(title)
    assert seen == greys


def test_a_stand_in_is_only_named_where_there_is_one(tmp_path: Path):
    run = fake_run.build(str(tmp_path), stand_in=False, hq=False)
    text = text_of(render_page(read_ledger(run)).decode())
    assert "stand-in" not in text and "Jaccard" not in text


def test_an_estimate_is_called_one(tmp_path: Path, page: str, capsys):
    run = fake_run.build(str(tmp_path), audited=0.5)
    text = text_of(render_page(read_ledger(run)).decode())
    assert "Estimate. Filters stop at the first failure" in text and re.search(r"≈ \d+ \d+–\d+, estimate", text)
    assert "the audited ones" in text and "Exact, in the paper's order" not in text
    assert "estimate" not in text_of(page).lower()
    assert main([run.root, "--no-html"]) == 0
    assert "≈" in capsys.readouterr().out


def test_a_contradiction_is_on_top_and_exits_1(tmp_path: Path):
    run = fake_run.build(str(tmp_path), breaks="missing in shard")
    assert main([run.root]) == 1
    page = run.read_bytes("report.html").decode()
    assert "does not reconcile ✗" in page
    assert page.index("Does not reconcile: kept = packed") < page.index('id="funnel"')


def test_lost_bytes_leave_a_hole_not_a_traceback(tmp_path: Path):
    run = fake_run.build(str(tmp_path))
    Path(run.path("fetched/00/00000.tar")).unlink()
    assert main([run.root]) == 0
    assert "no picture" in run.read_bytes("report.html").decode()


def test_the_file_itself_can_be_run(run: Run, tmp_path: Path):
    """From any folder, also where the package is not installed."""
    command = [sys.executable, str(ROOT / "curation" / "report.py"), run.root, "--no-html"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "40 kept of 80 candidates" in done.stdout


def test_in_a_bucket(capsys):
    with s3_bucket("runs"):
        run = Run("s3://runs/fake")
        fake_run.build(run.root)
        assert main([run.root]) == 0
        assert "s3://runs/fake/report.html" in capsys.readouterr().out
        page = run.read_bytes("report.html").decode()
        assert "40 kept of 80 candidates" in page and page.count("data:image/jpeg") > 60


@pytest.mark.parametrize("scale", ["log", "linear", "count"])
@pytest.mark.parametrize("above", [True, False])
def test_the_threshold_parts_the_bars_exactly(scale: str, above: bool):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 30, 500).astype(float) if scale == "count" else np.append(rng.lognormal(0, 2, 500), [0, 5])
    threshold = 5.0
    passes = values >= threshold if above else values <= threshold
    cut = threshold + (-0.5 if above else 0.5) if scale == "count" else threshold
    bins = figures.bins_of(values, scale, threshold, above)
    at = int(np.argmin(np.abs(bins.edges - cut)))
    assert bins.edges[at] == pytest.approx(cut)
    right = bins.place(values) >= at
    assert (right == (passes if above else ~passes)).all()


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [3.0], [1e-9, 1e9]])
@pytest.mark.parametrize("scale", ["log", "linear", "count"])
def test_odd_values_make_a_histogram(values: list[float], scale: str):
    array = np.array(values)
    for threshold in (None, 0.0, 2.0):
        bins = figures.bins_of(array, scale, threshold)
        svg = figures.histogram(bins, {"plain": array}, "odd", "unit")
        assert svg.startswith("<svg") and "nan" not in svg and "inf" not in svg
