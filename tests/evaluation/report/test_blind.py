"""The page's blind mode in a real browser: names hidden, keys to vote, a file that becomes a column of the table."""

from __future__ import annotations

import csv
import json

import pytest

from evaluation.__main__ import main
from tests.evaluation.test_score import _without_arcface  # noqa: F401  (a fixture)


@pytest.fixture
def scored(sets, tmp_path):
    """(the command, its page) of two methods on two people: copies, and the other person's photo."""
    command = ["score", str(sets.references), f"copies={sets.copies}", f"swapped={sets.swapped}"]
    command += ["--out", str(tmp_path / "out")]
    assert main(command) == 0
    return command, tmp_path / "out" / "report.html"


def test_votes_by_keys_are_exported_and_scored(browser, scored, tmp_path):
    command, page = scored
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    tab, wrong = context.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(f"file://{page}")
    assert tab.locator("#votes").inner_text() == "0 of 2 pairs" and tab.locator("#export").is_disabled()
    tab.locator("#begin").click()
    dialog = tab.locator("#blind")

    def same_as_the_reference():
        left, right, reference = (dialog.locator(f"#shown-{name}") for name in ("left", "right", "reference"))
        assert {left.get_attribute("alt"), right.get_attribute("alt")} == {"the left picture", "the right picture"}
        shown = [
            left.get_attribute("src") == reference.get_attribute("src"),
            right.get_attribute("src") == reference.get_attribute("src"),
        ]
        assert sorted(shown) == [False, True]
        return "1" if shown[0] else "ArrowRight"

    assert not any(name in dialog.inner_html() for name in ("copies", "swapped"))
    tab.keyboard.press(" ")
    assert tab.locator("#left-over").inner_text() == "2 of 2", "one key, one vote, whatever has the focus"
    tab.keyboard.press("Backspace")
    tab.keyboard.press(same_as_the_reference())
    tab.keyboard.press(same_as_the_reference())
    assert not dialog.is_visible() and tab.locator("#votes").inner_text() == "2 of 2 pairs, not exported yet"
    with tab.expect_download() as download:
        tab.locator("#export").click()
    file = tmp_path / "votes.json"
    download.value.save_as(file)
    told = json.loads(file.read_bytes())
    assert {vote["reference"] for vote in told["votes"]} == {"biden", "obama"}
    assert tab.locator("#votes").inner_text() == "2 of 2 pairs" and not wrong
    context.close()
    assert main([*command, "--votes", str(file)]) == 0
    with page.with_name("table.csv").open() as rows:
        cells = {row["method"]: row for row in csv.DictReader(rows) if row["figure"] == "preferred"}
    assert {name: float(row["value"]) for name, row in cells.items()} == {"copies": 1.0, "swapped": 0.0}
    assert "share of 2 blind votes by 1 people" in page.with_name("table.md").read_text()
