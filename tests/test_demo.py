"""The demo page, in a real browser, with the tiny model: what is shown, what is drawn, who waits, what leaves."""

from __future__ import annotations

import io
import ipaddress
import re
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from curation.image import decode
from curation.sample.photos import FACE_RECOGNITION, INSIGHTFACE
from jobs import demo
from jobs.demo_easel import Easel, Step, Wishes
from jobs.demo_faces import Eyes, PhotoError, SeveralFaces, read_photo
from model.presets import PRESETS
from model.provenance import read

LONG, SHORT = {"steps": 100, "count": 8}, {"steps": 3, "count": 1}
connected: list[object] = []


@pytest.fixture(scope="module")
def artist():
    from jobs.drawing import open_artist

    return open_artist("tiny")


@pytest.fixture(scope="module")
def portraits() -> dict[str, Path]:
    images = FACE_RECOGNITION.fetch() / "tests/test_images"
    return {name: images / f"{name}.jpg" for name in ("obama", "biden")}


@pytest.fixture(scope="module")
def group() -> Path:
    return INSIGHTFACE.fetch() / "insightface/data/images/t1.jpg"


@pytest.fixture(scope="module")
def page(artist, tmp_path_factory):
    sys.addaudithook(lambda event, args: connected.append(args[1]) if event == "socket.connect" else None)
    page = demo.serve(artist, tmp_path_factory.mktemp("page"))
    yield page
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield browser
        browser.close()


class Visitor:
    """Somebody at the page, in a browser context of their own."""

    def __init__(self, browser, url: str):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(30_000)
        self.asked: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(url)
        self.tab.locator("#draw").wait_for()
        self.status = self.tab.locator("#status")

    def bring(self, photo: Path, says: str, place: int = 0) -> None:
        if (old := self.tab.get_by_label("Remove Image")).count() > place:
            old.nth(place).click()
        self.tab.locator("input[type=file]").nth(place).set_input_files(photo)
        self.tab.get_by_text(says).nth(place).wait_for()

    def set(self, **values: object) -> None:
        for name, value in values.items():
            field = {
                "steps": "number input for Steps",
                "count": "number input for Pictures",
                "ip": "number input for ID scale",
                "guidance": "number input for Guidance scale",
                "alpha": "number input for Share of the second face",
                "seed": "Seed",
                "prompt": "Prompt",
            }[name]
            box = self.tab.get_by_label(field, exact=True)
            box.fill(str(value))
            box.press("Tab")
            assert box.input_value() == str(value)

    def open(self, section: str) -> None:
        self.tab.get_by_role("button", name=section).click()
        # gradio builds what is in it now, and for some frames overwrites what a robot types at once
        self.tab.wait_for_timeout(500)

    def draw(self) -> None:
        self.tab.locator("#draw").click()

    def progresses(self, text: str | re.Pattern) -> None:
        self.tab.locator("#progress").filter(has_text=text).wait_for()

    def says(self, text: str | re.Pattern) -> None:
        self.status.filter(has_text=text).wait_for()

    def download(self, folder: Path, place: int = 0) -> Path:
        with self.tab.expect_download() as started:
            self.tab.locator("#files a").nth(place).click()
        file = folder / started.value.suggested_filename
        started.value.save_as(file)
        return file


@pytest.fixture
def visitor(browser, page) -> Iterator[Callable[[], Visitor]]:
    visitors: list[Visitor] = []

    def come() -> Visitor:
        visitors.append(Visitor(browser, page.local_url))
        return visitors[-1]

    yield come
    for person in visitors:
        person.context.close()
        hosts = {urlparse(url).hostname for url in person.asked if urlparse(url).scheme not in ("data", "blob")}
        assert hosts == {"127.0.0.1"}, "the browser asked elsewhere"


def directly(artist, photo: Path, **options) -> np.ndarray:
    """The picture of a call of the pipeline without any page."""
    rgb = decode(photo.read_bytes(), full_size=True).rgb
    return np.asarray(artist.pipeline(options.pop("prompt", ""), photo=rgb, **options).images[0])


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


# -- the page ----------------------------------------------------------------------------------------------------


def test_what_is_seen_of_a_photo_before_drawing_and_what_is_downloaded_after(visitor, artist, portraits, tmp_path):
    person = visitor()
    tab = person.tab
    assert tab.get_by_text("Random weights (tiny)").is_visible(), "what the pictures are worth is said"
    assert tab.get_by_text("Use only photos of people who agreed").is_visible()
    person.bring(portraits["obama"], "One face was found")
    for view in ("Aligned face", "Pose map", "Cut-out"):
        shown = tab.get_by_alt_text(view)
        assert shown.is_visible() and shown.evaluate("image => image.naturalWidth") >= 64
    person.set(prompt="a person in the snow")
    person.draw()
    person.says("The picture is ready")
    tab.get_by_alt_text("seed 42").wait_for()
    assert tab.get_by_text("none: 64 x 64 is below 256").is_visible(), "what protects the file is said"
    file = person.download(tmp_path)
    record = read(file)
    assert record.seed == 42 and record.scales == PRESETS["realistic"]._asdict() and record.prompt is None
    assert (pixels(file) == directly(artist, portraits["obama"], prompt="a person in the snow")).all()


def test_the_face_is_boxed_where_the_finder_found_it(artist, portraits):
    sight = Eyes(artist).look(portraits["obama"], "only")
    clean, shown = sight.rgb, sight.picture()
    scale = shown.shape[0] / clean.shape[0]
    left, top, right, bottom = (sight.face.box * scale).astype(int)
    small = np.asarray(Image.fromarray(clean).resize(shown.shape[1::-1], Image.Resampling.BOX)).astype(int)
    changed = np.abs(shown - small).max(axis=2) > 60
    assert (
        changed[(top + bottom) // 2, left - 2 : left + 3].any()
        and changed[top - 2 : top + 3, (left + right) // 2].any()
    )
    margin = 12
    changed[top - margin : bottom + margin, left - margin : right + margin] = False
    assert changed.mean() < 0.01, "nothing is drawn elsewhere"


def test_no_face_is_a_sentence_and_the_next_drawing_works(visitor, portraits, tmp_path):
    grey = tmp_path / "grey.jpg"
    Image.new("RGB", (300, 200), (127, 127, 127)).save(grey)
    person = visitor()
    person.draw()
    person.says("There is no photo yet: add one first.")
    person.bring(grey, "No face was found; take a photo")
    person.draw()
    person.says("No face was found; take a photo where one face is seen from the front")
    assert "Traceback" not in person.tab.content() and "Error" not in person.tab.locator("body").inner_text()
    person.bring(portraits["obama"], "One face was found")
    person.open("Settings")
    person.set(**SHORT)
    person.draw()
    person.says("The picture is ready")


def test_one_of_several_faces_is_picked_by_number_or_by_click(visitor, artist, group, tmp_path):
    person = visitor()
    tab = person.tab
    person.bring(group, "6 faces were found: pick one")
    person.draw()
    person.says("6 faces were found: pick one by its number")
    tab.get_by_label("4", exact=True).check()
    tab.get_by_text("Face 4 of 6").wait_for()
    boxes = sorted((face.box for face in artist.pipeline.face_finder(read_photo(group))), key=lambda box: box[0])
    picture = tab.locator("img[alt='']").or_(tab.locator("button img")).last
    frame = picture.bounding_box()
    width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    scale = min(frame["width"] / width, frame["height"] / height)
    x, y = (boxes[1][:2] + boxes[1][2:]) / 2 * width / read_photo(group).shape[1] * scale
    offset = (frame["width"] - width * scale) / 2, (frame["height"] - height * scale) / 2
    picture.click(position={"x": float(x) + offset[0], "y": float(y) + offset[1]})
    tab.get_by_text("Face 2 of 6").wait_for()
    assert tab.get_by_label("2", exact=True).is_checked()
    person.open("Settings")
    person.set(**SHORT)
    person.draw()
    person.says("The picture is ready")
    drawn = pixels(person.download(tmp_path))
    expected = [
        directly(artist, group, policy="match_box", box=boxes[i], num_inference_steps=SHORT["steps"]) for i in (1, 3)
    ]
    assert (drawn == expected[0]).all() and (drawn != expected[1]).any()


def test_two_at_once_get_each_their_own_picture_and_the_second_sees_the_queue(visitor, artist, portraits, tmp_path):
    first, second = visitor(), visitor()
    first.bring(portraits["obama"], "One face was found")
    first.open("Mix in a second face")
    first.bring(portraits["biden"], "One face was found", place=1)
    second.bring(portraits["biden"], "One face was found")
    first.open("Settings")
    second.open("Settings")
    first.set(steps=24, count=4, ip=0.3, guidance=5, seed=7, alpha=0.25)
    second.set(steps=4, count=1, ip=0.9, guidance=2, seed=11)
    first.draw()
    first.progresses(re.compile(r"Step \d+ of 24"))
    second.draw()
    second.tab.locator("#pictures").get_by_text("queue: 1/1").wait_for()
    second.progresses("is your place")
    # what is set while waiting is for the next drawing
    second.set(seed=99)
    first.says("4 pictures are ready")
    second.says("The picture is ready")
    pipeline = artist.pipeline
    photos = {name: read_photo(path) for name, path in portraits.items()}
    mixed = pipeline.encode_faces(photos["obama"], mix_with=photos["biden"], alpha=0.25)
    expected = pipeline(
        "", face=mixed, ip_scale=0.3, guidance_scale=5, seed=7, num_inference_steps=24, num_images_per_prompt=4
    ).images
    for place, picture in enumerate(expected):
        assert (pixels(first.download(tmp_path, place)) == np.asarray(picture)).all()
    alone = directly(artist, portraits["biden"], ip_scale=0.9, guidance_scale=2, seed=11, num_inference_steps=4)
    assert (pixels(second.download(tmp_path)) == alone).all()


def test_a_stop_stops_for_one_and_frees_the_place_for_the_next(visitor, portraits):
    first, second = visitor(), visitor()
    for person, wishes in ((first, LONG), (second, SHORT)):
        person.bring(portraits["obama"], "One face was found")
        person.open("Settings")
        person.set(**wishes)
    first.draw()
    first.progresses(re.compile(r"Step \d+ of 100"))
    second.draw()
    second.progresses("Waiting for your turn")
    began = time.monotonic()
    first.tab.locator("#stop").click()
    second.says("The picture is ready")
    assert time.monotonic() - began < 10, "the drawing of 8 pictures in 100 steps takes more than 20 s"
    first.says("Stopped. Nothing was drawn.")
    assert not first.tab.locator("#progress").is_visible()
    first.set(**SHORT)
    first.draw()
    first.says("The picture is ready")


def test_presets_fill_the_sliders(visitor):
    person = visitor()
    person.open("Settings")
    person.tab.get_by_label("Strong style").check()
    ip = person.tab.get_by_label("number input for ID scale")
    person.tab.wait_for_function("box => box.value === '0.1'", arg=ip.element_handle())
    assert person.tab.get_by_label("number input for Guidance scale").input_value() == "10"


def test_on_a_phone_nothing_is_wider_than_the_screen(visitor, portraits):
    person = visitor()
    person.tab.set_viewport_size({"width": 390, "height": 844})
    person.bring(portraits["obama"], "One face was found")
    person.open("Settings")
    assert person.tab.evaluate("document.documentElement.scrollWidth") <= 390
    for button in ("#draw", "#stop"):
        assert person.tab.locator(button).bounding_box()["width"] > 100


def test_every_control_has_a_name(visitor, portraits):
    person = visitor()
    person.open("Settings")
    nameless = person.tab.evaluate(
        """() => [...document.querySelectorAll('button, input:not([type=file]), textarea')]
        .filter(e => e.offsetParent && !e.ariaLabel && !e.textContent.trim() && !e.labels?.length && !e.title)
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []


def test_a_file_of_the_machine_is_not_read_for_a_page_that_names_it(visitor, portraits):
    """A browser can send any path in the place of its upload's."""
    person, sent = visitor(), []

    def elsewhere(route):
        body, changed = re.subn(r'"path":"[^"]*"', f'"path":"{portraits["obama"]}"', route.request.post_data)
        sent.append(changed)
        route.continue_(post_data=body)

    person.tab.route("**/queue/join*", elsewhere)
    person.tab.locator("input[type=file]").first.set_input_files(portraits["biden"])
    person.tab.get_by_text("Error").first.wait_for(state="attached")
    assert sent == [1] and not person.tab.get_by_text("One face was found").is_visible()


def test_the_server_itself_asks_nobody(page, visitor, portraits):
    visitor().bring(portraits["obama"], "One face was found")
    hosts = {address[0] for address in connected if isinstance(address, tuple)}
    assert hosts and all(ipaddress.ip_address(host).is_loopback for host in hosts)


# -- its parts ---------------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A PNG of a hundred bytes that says to be 100,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def encoded(file_format: str, size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, file_format)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty: take another JPEG, PNG or WebP photo."),
        (b"hello", "The file is no picture: take another JPEG, PNG or WebP photo."),
        (bomb(), "The picture has more than 50 megapixels: take another JPEG, PNG or WebP photo."),
        (encoded("GIF"), "Pictures of this kind are not read: take another JPEG, PNG or WebP photo."),
        (encoded("PNG", (9, 9)), "The picture is smaller than 32 pixels: take another JPEG, PNG or WebP photo."),
        (encoded("JPEG", (640, 640))[:1500], "The file ends in the middle of the picture: take another"),
    ],
)
def test_a_file_that_is_no_photo_is_one_sentence(tmp_path, data, sentence):
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(PhotoError, match=re.escape(sentence)):
        read_photo(tmp_path / "photo.jpg")


def test_policies_choose_among_several(artist, group):
    eyes = Eyes(artist)
    with pytest.raises(SeveralFaces, match="6 faces were found: pick one") as raised:
        eyes.look(group, "only")
    faces = raised.value.sight.faces
    assert [face.box[0] for face in faces] == sorted(face.box[0] for face in faces), "counted from the left"
    largest, surest = eyes.look(group, "largest"), eyes.look(group, "highest_score")
    assert largest.face.area == max(face.area for face in faces)
    assert surest.face.score == max(face.score for face in faces)
    assert eyes.look(group, "largest", picked=4).chosen == 4
    centre = (faces[4].box[:2] + faces[4].box[2:]) / 2
    assert largest.face_at(*centre * largest.picture().shape[1] / largest.rgb.shape[1]) == 4
    assert largest.face_at(1, 1) is None


@pytest.fixture
def wishes() -> Wishes:
    return Wishes("", "", PRESETS["realistic"], seed=5, steps=20, count=1)


def test_progress_counts_the_steps_and_foresees_the_end(artist, portraits, tmp_path, wishes):
    sight = Eyes(artist).look(portraits["obama"], "only")
    heard: list[tuple[float, Step]] = []
    for news in Easel(artist, tmp_path).draw(sight, None, wishes):
        if isinstance(news, Step):
            heard.append((time.monotonic(), news))
    assert [step.done for _, step in heard] == list(range(21)) and news[0].path.is_file()
    assert heard[0][1].seconds_left is heard[1][1].seconds_left is None, "nothing is known yet"
    for moment, step in heard[2:]:
        so_far = (moment - heard[1][0]) / (step.done - 1)
        assert step.seconds_left == pytest.approx(so_far * (20 - step.done), rel=0.3, abs=0.1)


def test_a_drawing_that_nobody_waits_for_ends(artist, portraits, tmp_path, wishes):
    easel, sight = Easel(artist, tmp_path), Eyes(artist).look(portraits["obama"], "only")
    drawing = easel.draw(sight, None, wishes)
    assert [next(drawing).done for _ in range(3)] == [0, 1, 2]
    drawing.close()
    assert list(tmp_path.iterdir()) == [] and not easel._busy.locked()
    *_, files = easel.draw(sight, None, wishes)
    assert len(files) == 1


def test_what_the_pipeline_refuses_is_raised_to_who_asked(artist, portraits, tmp_path):
    sight = Eyes(artist).look(portraits["obama"], "only")
    with pytest.raises(ValueError, match="identity: this model takes 128 numbers, the face has none"):
        list(
            Easel(artist, tmp_path).draw(
                type(sight)(sight.rgb, sight.faces, 0, sight.faces[0]),
                None,
                Wishes("", "", PRESETS["realistic"], 1, 2, 1),
            )
        )


def test_another_address_is_said_to_be_open():
    assert not any("WARNING" in line for line in demo.greeting([], "http://127.0.0.1:7860/", "127.0.0.1"))
    lines = demo.greeting(["a note"], "http://0.0.0.0:7860/", "0.0.0.0")
    assert lines[0] == "a note" and "WARNING: --listen 0.0.0.0: no password" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--checkpoint", "model.bin"], "names no pretrained weights: a checkpoint needs the base"),
    ],
)
def test_a_mistake_is_said_before_anything_is_served(capsys, arguments, sentence):
    assert demo.main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
