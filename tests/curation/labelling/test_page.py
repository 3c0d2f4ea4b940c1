"""The labelling page in a real browser, with real photos and real filters: keys, undo, zoom, what is hidden, resuming."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest

from curation.__main__ import build_parser
from curation.calibration.label_table import read_labels
from curation.labelling.label import open_labelling
from curation.labelling.server import start
from tests.real_photos import read


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for place, name in enumerate(("astronaut", "six")):
        (folder / f"{place}.jpg").write_bytes(read(name))
    (folder / "2.jpg").write_bytes(b"no picture at all")
    return folder


@contextmanager
def page(folder, *options):
    """The address of a page over the folder's photos, served by this process."""
    words = ["label", "--photos", str(folder), "--labels", str(folder.parent / "anna.csv"), *options]
    labelling = open_labelling(build_parser().parse_args(words))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner, address = asyncio.run_coroutine_threadsafe(start(labelling, 0), loop).result(20)
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)


@contextmanager
def visit(browser, address):
    context = browser.new_context()
    tab, asked, wrong = context.new_page(), [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(address)
    yield tab
    assert {urlparse(url).hostname for url in asked} == {"127.0.0.1"}, "the browser asked elsewhere"
    assert not wrong
    context.close()


def rows(folder):
    return {row["file"]: row for row in read_labels(folder.parent / "anna.csv", "file")}


def at(tab, text):
    tab.locator("#name").get_by_text(text, exact=True).wait_for()


def test_keys_answer_undo_takes_back_and_the_page_goes_on_where_it_was(browser, folder):
    with page(folder, "--ask", "keep,drawing") as address, visit(browser, address) as tab:
        at(tab, "1: 0.jpg")
        tab.locator("#progress").get_by_text("0 of 3 answered").wait_for()
        tab.keyboard.type("11")  # keep: yes, and the first kind of drawing: a photo; then the next one comes
        at(tab, "2: 1.jpg")
        assert rows(folder)["0.jpg"]["keep"] == "1" and rows(folder)["0.jpg"]["drawing"] == "photo"
        tab.keyboard.press("0")
        tab.keyboard.press("d")
        tab.locator("#doubtful[aria-pressed=true]").wait_for()
        tab.keyboard.press("n")
        tab.keyboard.type("a hat; 9")
        tab.keyboard.press("Enter")
        tab.locator("#progress").get_by_text("2 of 3 answered").wait_for()
        tab.wait_for_function("document.activeElement.tagName === 'BODY'")
        for _ in range(2):
            tab.keyboard.press("u")
        tab.locator("#doubtful[aria-pressed=false]").wait_for()
        assert rows(folder)["1.jpg"] == {**rows(folder)["1.jpg"], "keep": "0", "doubtful": "", "note": ""}
        tab.keyboard.press("ArrowDown")
        tab.keyboard.press("9")
        tab.get_by_text("drawing has no answer 9.").wait_for()
    with page(folder, "--ask", "keep,drawing") as address, visit(browser, address) as tab:
        at(tab, "3: 2.jpg")
        tab.get_by_text(re.compile("cannot be shown: not_an_image|cannot be shown: unknown")).wait_for()
        tab.keyboard.press("ArrowLeft")
        at(tab, "2: 1.jpg")
        tab.get_by_role("button", name="yes").click()
        tab.locator("fieldset").first.locator("button.chosen").get_by_text("yes").wait_for()
        assert rows(folder)["1.jpg"]["keep"] == "1"


def test_zoom_shows_all_pixels_and_what_the_filters_say_is_hidden_until_asked_for(browser, folder):
    with page(folder) as address, visit(browser, address) as tab:
        at(tab, "1: 0.jpg")
        picture = tab.locator("#photo")
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        tab.keyboard.press("z")
        tab.wait_for_function("document.getElementById('photo').src.endsWith('?full')")
        wide = picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.clientWidth])")
        assert wide[0] == wide[1], "a pixel of the photo is one of the screen"
        tab.keyboard.press("z")
        assert not tab.locator("#opinions").is_visible() and not tab.locator("#shapes polygon").count()
        tab.keyboard.press("f")
        tab.get_by_text(re.compile("faces keeps it; Prominent faces: 1 faces")).wait_for(timeout=60_000)
        assert tab.locator("#shapes polygon.counts").count() == 1, "the face is outlined"
        tab.keyboard.press("ArrowRight")
        at(tab, "2: 1.jpg")
        assert not tab.locator("#opinions").is_visible(), "and hidden again for the next one"


def test_the_others_answer_is_seen_after_ones_own_and_where_the_two_differ(browser, folder):
    (folder.parent / "ben.csv").write_text("file,keep\n0.jpg,0\n1.jpg,1\n")
    options = ["--ask", "keep", "--beside", str(folder.parent / "ben.csv")]
    with page(folder, *options) as address, visit(browser, address) as tab:
        at(tab, "1: 0.jpg")
        assert not tab.locator("#beside").is_visible()
        tab.keyboard.press("1")
        tab.locator("#beside").get_by_text(re.compile("ben.csv says: keep 0")).wait_for()
        tab.keyboard.press("ArrowRight")
        at(tab, "2: 1.jpg")
        tab.keyboard.press("1")
        tab.locator("#beside").get_by_text("says the same").wait_for()
        tab.get_by_text("How far the two agree").click()
        tab.get_by_text(re.compile(r"keep: equal 0\.500 .* apart on 0\.jpg")).wait_for()
        tab.locator("#which").select_option("apart")
        at(tab, "1: 0.jpg")
        tab.keyboard.press("ArrowRight")
        tab.get_by_text("This is the last one.").wait_for()


def test_a_table_that_changed_under_the_page_is_told_and_kept(browser, folder):
    with page(folder, "--ask", "keep") as address, visit(browser, address) as tab:
        at(tab, "1: 0.jpg")
        (folder.parent / "anna.csv").write_text("file,keep\n1.jpg,0\n")
        tab.keyboard.press("1")
        tab.get_by_text(re.compile("was changed by another program")).wait_for()
        assert set(rows(folder)) == {"1.jpg"}


def test_nobody_without_the_key_is_answered(folder):
    with page(folder) as address:
        assert urlopen(address).status == 200
        base = address.rsplit("/", 2)[0]
        for path in ("/", "/state", "/wrong/state", "/photos/0"):
            with pytest.raises(OSError, match="404"):
                urlopen(base + path)
        with pytest.raises(OSError, match="404"):
            urlopen(address + "photos/3")
        assert "default-src 'none'" in urlopen(address).headers["Content-Security-Policy"]
