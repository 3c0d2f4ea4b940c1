"""The page in a real browser: the table, sorting by any metric of any method, failures, nothing from elsewhere."""

from __future__ import annotations

import shutil

import pytest

from evaluation.__main__ import main
from tests.evaluation.test_score import _without_arcface  # noqa: F401  (a fixture)
from tests.real_photos import read


@pytest.fixture
def page(sets, tmp_path):
    references = shutil.copytree(sets.references, tmp_path / "photos")
    mine = shutil.copytree(sets.swapped, tmp_path / "mine")
    shutil.copy(sets.copies / "obama.jpg", mine / "obama.jpg")
    (references / "wall.png").write_bytes(read("rocket"))
    methods = [f"mine={mine}", f"</script><b>copies={sets.copies}"]
    assert main(["score", str(references), *methods, "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "report.html"


def test_the_page(browser, page):
    context = browser.new_context(offline=True)
    tab, asked, wrong = context.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(f"file://{page}")
    assert tab.locator("#table tr", has_text="FaceSim, dlib, faces only").count() == 1
    assert tab.get_by_text("They cannot be compared with the table above").is_visible()
    names = tab.locator("#grid tr > td:nth-child(2)")
    tab.locator("#metric").select_option(label="FaceSim, dlib (sound)")
    assert names.all_inner_texts() == ["wall", "biden", "obama"], "without a number, then the swapped person"
    tab.get_by_label("best first").check()
    assert names.all_inner_texts() == ["obama", "biden", "wall"]
    assert tab.locator("#grid img.by").count() == 2, "the method that is sorted by is marked"
    assert tab.get_by_text("no face to recognise").first.is_visible()
    assert tab.locator("#of option").all_inner_texts() == ["mine", "</script><b>copies"], "a name is text"
    assert tab.locator("#failed tbody tr").count() == 2, "wall is no face, and neither has a picture of it"
    assert tab.locator("#failed img").first.evaluate("image => image.naturalWidth") > 0
    assert tab.get_by_text("There is no CLIP-T: the table says why.").is_visible()
    assert not wrong and {url.partition(":")[0] for url in asked} <= {"file", "data"}
    context.close()
