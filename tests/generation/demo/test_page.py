"""The demo page, in a real browser, with the tiny model: what is shown, what is drawn, who waits, what leaves."""

from __future__ import annotations

import ipaddress
import re
import time

import numpy as np

from generation.demo.faces import read_upload
from generation.demo.texts import NEGATIVE
from generation.provenance import read
from model.presets import PRESETS
from tests.generation.demo.demo_world import connected, directly, pixels

LONG, SHORT = {"steps": 100, "count": 8}, {"steps": 3, "count": 1, "seed": 42}


def test_what_is_seen_of_a_photo_before_drawing_and_what_is_downloaded_after(visitor, model, portraits, tmp_path):
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
    seed = int(tab.get_by_alt_text(re.compile("seed [0-9]+")).first.get_attribute("alt").removeprefix("seed "))
    assert tab.get_by_text("none: 64 x 64 is below 256").is_visible(), "what protects the file is said"
    person.open("Settings")
    assert tab.get_by_label("Seed", exact=True).input_value() == str(seed), "a new one for every drawing, and shown"
    file = person.download(tmp_path)
    record = read(file)
    assert record.seed == seed and record.scales == PRESETS["realistic"]._asdict() and record.prompt is None
    assert (pixels(file) == directly(model, portraits["obama"], prompt="a person in the snow", seed=seed)).all()


def test_one_of_several_faces_is_picked_by_number_or_by_click(visitor, model, group, tmp_path):
    person = visitor()
    tab = person.tab
    person.bring(group, "6 faces were found: pick one")
    person.draw()
    person.says("6 faces were found: pick one by its number")
    tab.get_by_label("4", exact=True).check()
    tab.get_by_text("Face 4 of 6").wait_for()
    boxes = sorted((face.box for face in model.pipeline.face_finder(read_upload(group))), key=lambda box: box[0])
    picture = tab.locator("img[alt='']").or_(tab.locator("button img")).last
    frame = picture.bounding_box()
    width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    scale = min(frame["width"] / width, frame["height"] / height)
    x, y = (boxes[1][:2] + boxes[1][2:]) / 2 * width / read_upload(group).shape[1] * scale
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
        directly(model, group, policy="match_box", box=boxes[i], num_inference_steps=SHORT["steps"]) for i in (1, 3)
    ]
    assert (drawn == expected[0]).all() and (drawn != expected[1]).any()


def test_two_at_once_get_each_their_own_picture_and_the_second_sees_the_queue(visitor, model, portraits, tmp_path):
    first, second = visitor(), visitor()
    first.bring(portraits["obama"], "One face was found")
    first.open("Mix in a second face")
    first.bring(portraits["biden"], "One face was found", place=1)
    second.bring(portraits["biden"], "One face was found")
    first.open("Settings")
    second.open("Settings")
    # so long that it draws still when the second has pressed the button, on a busy machine, too
    first.set(steps=72, count=4, ip=0.3, guidance=5, seed=7, alpha=0.25)
    second.set(steps=4, count=1, ip=0.9, guidance=2, seed=11, prompt="by the sea")
    second.tab.get_by_label("Write the prompt into the files' record").check()
    first.draw()
    first.progresses(re.compile(r"Step \d+ of 72"))
    second.draw()
    second.tab.locator("#pictures").get_by_text("queue: 1/1").wait_for()
    second.progresses("is your place")
    # what is set while waiting is for the next drawing
    second.set(seed=99)
    first.says("4 pictures are ready")
    second.says("The picture is ready")
    pipeline = model.pipeline
    photos = {name: read_upload(path) for name, path in portraits.items()}
    mixed = pipeline.encode_faces(photos["obama"], mix_with=photos["biden"], alpha=0.25)
    expected = pipeline(
        "",
        face=mixed,
        negative_prompt=NEGATIVE,
        ip_scale=0.3,
        guidance_scale=5,
        seed=7,
        num_inference_steps=72,
        num_images_per_prompt=4,
    ).images
    for place, picture in enumerate(expected):
        assert (pixels(first.download(tmp_path, place)) == np.asarray(picture)).all()
    wanted = {"prompt": "by the sea", "ip_scale": 0.9, "guidance_scale": 2, "seed": 11, "num_inference_steps": 4}
    alone = directly(model, portraits["biden"], **wanted)
    file = second.download(tmp_path)
    assert (pixels(file) == alone).all()
    assert (read(file).prompt, read(file).seed) == ("by the sea", 11)


def test_a_stop_stops_for_one_and_frees_the_place_for_the_next(visitor, portraits):
    first, second = visitor(), visitor()
    for person, settings in ((first, LONG), (second, SHORT)):
        person.bring(portraits["obama"], "One face was found")
        person.open("Settings")
        person.set(**settings)
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


def test_presets_fill_the_sliders_and_the_negative_prompt(visitor):
    person = visitor()
    person.open("Settings")
    person.tab.get_by_label("Strong style").check()
    ip = person.tab.get_by_label("number input for ID scale")
    person.tab.wait_for_function("box => box.value === '0.1'", arg=ip.element_handle())
    assert person.tab.get_by_label("number input for Guidance scale").input_value() == "10"
    negative = person.tab.get_by_label("Negative prompt", exact=True)
    assert negative.input_value() == ""
    negative.fill("hats")
    person.tab.get_by_label("Realistic").check()
    person.tab.wait_for_function("box => box.value === '0.6'", arg=ip.element_handle())
    assert negative.input_value() == "hats", "what somebody wrote stays"


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
    person.tab.get_by_text("The photo was not looked at").wait_for()
    assert sent[0] == 1 and not person.tab.get_by_text("One face was found").is_visible()


def test_the_server_itself_asks_nobody(page, visitor, portraits):
    visitor().bring(portraits["obama"], "One face was found")
    hosts = {address[0] for address in connected if isinstance(address, tuple)}
    assert hosts and all(ipaddress.ip_address(host).is_loopback for host in hosts)
