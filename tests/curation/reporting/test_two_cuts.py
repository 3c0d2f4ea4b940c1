"""Two cuts of a run side by side: what each keeps alone and why the other does not, and which cut it is by default."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from curation.cutting.judge import verdict_schema
from curation.ledger.model import Ledger
from curation.ledger.other_cut import load_other_cut
from curation.ledger.read import read_ledger
from curation.report import main
from curation.reporting import two_cuts as reporting
from curation.reporting.page import render_page
from curation.run_directory.run import Run
from tests.curation import fake_run
from tests.curation.fake_run import CHECKS, FINGERPRINTS, SNAPSHOT_HASH

MORE_CHECKS = (*CHECKS, "drawing")
THRESHOLDS = {"grayscale": {"min_std": 0.5}, "text": {"max_boxes": 10}, "anime": {"min_neighbors": 5}}


def recut(run: Run, name: str = "clean", passed: str = "000002-000", snapshot: str = SNAPSHOT_HASH) -> list[list[str]]:
    """A cut by another recipe: it keeps what failed grayscale alone, rejects three as drawn and cannot embed a fourth.

    Returns:
        The ids of these, in that order.
    """
    rows = sorted(run.read_tables(f"{fake_run.VERDICTS}/*.parquet").to_pylist(), key=lambda row: row["id"])
    greys = [row for row in rows if row["failing"] == ["grayscale"]]
    drawn = [row for row in rows if row["verdict"] == "kept" and row["id"] != fake_run.name(*fake_run.NO_IDENTITY)][:4]
    faceless = drawn.pop()["id"]
    for row in rows:
        row |= {"drawing": min(row["anime"], 1)}
    for row in greys:
        row |= {"verdict": "kept", "reason": None, "failing": [], "grayscale": 1, "face": 0, "caption_face": 0}
    for row in drawn:
        row |= {"verdict": "rejected", "reason": "drawing", "failing": ["drawing"], "drawing": 0}
    run.write_table(
        f"cuts/{name}/verdicts/{passed}/00000.parquet", pa.Table.from_pylist(rows, verdict_schema(MORE_CHECKS))
    )
    run.write_json(f"cuts/{name}/verdicts/{passed}/funnel.json", {"kept": 0})
    run.write_json(f"cuts/{name}/no_identity.json", {"ids": [fake_run.name(*fake_run.NO_IDENTITY), faceless]})
    content = {"snapshot": snapshot, "fingerprints": FINGERPRINTS | {"drawing": "f" * 12}}
    recipe = {"thresholds": THRESHOLDS}
    run.write_json(f"cuts/{name}/content.json", {"content": content, "hash": "1" * 16, "recipe": recipe})
    return [[row["id"] for row in greys], [row["id"] for row in drawn], [faceless]]


@pytest.fixture(scope="module")
def one_cut(tmp_path_factory) -> Run:
    return fake_run.build(str(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture()
def run(one_cut: Run, tmp_path: Path) -> Run:
    shutil.copytree(one_cut.root, tmp_path / "copy")
    return Run(tmp_path / "copy")


def beside(run: Run, cut: str = "fake", other: str | None = None) -> Ledger:
    ledger = read_ledger(run, cut)
    load_other_cut(ledger, other)
    return ledger


def names(examples: list[tuple[int, str]]) -> dict[str, str]:
    return {f"{number:016x}": reason for number, reason in examples}


def test_what_each_keeps_alone_and_what_the_other_lost_it_to(run: Run):
    greys, drawn, faceless = recut(run)
    compared = reporting.two_cuts(beside(run))
    assert len(greys) >= 2 and (compared.name, compared.other) == ("fake", "clean")
    assert compared.here.lost_to == {"drawing": 3, "no_identity": 1}
    assert compared.there.lost_to == {"grayscale": len(greys)}
    assert names(compared.here.examples) == dict.fromkeys(drawn, "drawing") | dict.fromkeys(faceless, "no_identity")
    assert names(compared.there.examples) == dict.fromkeys(greys, "grayscale")
    taken = run.read_json("fetched/snapshot.json")["taken"]
    assert compared.both == 40 - 4, "kept by the one, but for what the other lost"
    assert compared.judged == taken == compared.both + compared.here.images + compared.there.images + compared.neither
    assert ("drawing, the filter", "no", "yes") in compared.settings
    assert ("grayscale.min_std", "5.0", "0.5") in compared.settings
    assert not any(key.startswith(("text", "toned", "faces")) for key, _, _ in compared.settings), "what is the same"


def test_the_other_way_round_it_is_the_same(run: Run):
    recut(run)
    one, other = reporting.two_cuts(beside(run)), reporting.two_cuts(beside(run, "clean"))
    assert (other.name, other.other, other.both, other.neither) == ("clean", "fake", one.both, one.neither)
    assert (other.here, other.there) == (one.there, one.here)


def test_a_rare_reason_is_seen_among_a_frequent_one(run: Run, monkeypatch):
    recut(run)
    monkeypatch.setattr(reporting, "SHOWN", 2)
    assert {reason for _, reason in reporting.two_cuts(beside(run)).here.examples} == {"drawing", "no_identity"}


def test_by_default_the_newest_other_cut_of_the_same_images(run: Run):
    assert beside(run).other is None, "there is no other"
    recut(run, "first", "000002-000")
    recut(run, "second", "000010-000")
    recut(run, "healed", "000011-000", snapshot="6" * 16)
    recut(run, "begun", "000012-000")
    Path(run.path("cuts/begun/verdicts/000012-000/funnel.json")).unlink()
    assert beside(run).other.name == "second" and beside(run, "second").other.name == "first"
    assert beside(run, other="first").other.name == "first"
    assert beside(run, "healed").other is None


def test_a_cut_that_cannot_stand_beside_is_one_message(run: Run, capsys):
    recut(run, "healed", snapshot="6" * 16)
    recut(run, "begun")
    Path(run.path("cuts/begun/verdicts/000002-000/funnel.json")).unlink()
    for name, words in {
        "fake": "beside itself", "begun": "is not finished", "healed": "of other images", "none": "no cut 'none'",
        "../x": "no slash",
    }.items():  # fmt: skip
        assert main([run.root, "--no-html", "--beside", name]) == 2
        error = capsys.readouterr().err
        assert words in error and "Traceback" not in error, error


def test_the_page_and_the_terminal_show_it(run: Run, capsys):
    assert 'id="two-cuts"' not in render_page(beside(run)).decode()
    greys, drawn, faceless = recut(run)
    assert main([run.root, "--beside", "clean"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"kept by both cuts: 36; by neither: {61 - 40 - len(greys)}" in out and "drawing 3, no identity 1" in out
    page = run.read_bytes("report.html").decode()
    section = page[page.index('<section id="two-cuts"') :]
    section = section[: section.index("</section>")]
    tiles = re.findall(r'<img src="data:[^"]+" alt="[^"]*" title="(\w+)".*?<figcaption>([^<]+)<', section, re.S)
    wanted = (
        dict.fromkeys(greys, "grayscale") | dict.fromkeys(drawn, "drawing") | dict.fromkeys(faceless, "no identity")
    )
    assert dict(tiles) == wanted
    assert "docs/filters.md" in section and section.index("Kept by fake alone") < section.index("Kept by clean alone")
