"""The page comes back by itself: from a full queue, a lost connection, a restart and a bad upload, in a real browser."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from PIL import Image

from generation.demo.request_queue import MAX_WAITING
from tests.generation.demo.demo_world import Visitor

LONG = {"steps": 100, "count": 8}
SHORT = {"steps": 2, "count": 1}


def ready_to_draw(person: Visitor, photo, settings: dict[str, object]) -> Visitor:
    person.bring(photo, "One face was found")
    person.open("Settings")
    person.set(**settings)
    return person


def test_a_full_queue_is_said_and_draw_can_be_pressed_again(page, visitor, portraits, monkeypatch):
    assert page._queue.max_size == MAX_WAITING
    person = ready_to_draw(visitor(), portraits["obama"], SHORT)
    monkeypatch.setattr(page._queue, "max_size", 0)  # as if so many were waiting
    person.draw()
    person.says("Too many people are waiting: nothing was drawn. Press Draw again in a minute.")
    assert person.tab.locator("#draw").is_enabled() and not person.tab.locator("#progress").is_visible()
    person.bring(
        portraits["obama"], "The photo was not looked at: too many people are waiting. Add it again in a minute."
    )
    monkeypatch.undo()
    person.bring(portraits["obama"], "One face was found")
    person.draw()
    person.says("The picture is ready")


class Wire:
    """Between browsers and the server: passes all on until it is cut, and again when it is mended."""

    def __init__(self, port: int):
        self._to, self._sockets = port, []
        self._ear = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._ear.getsockname()[1]}/"
        self.whole = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._ear.accept()
            except OSError:
                return  # closed
            if not self.whole:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()  # cut, or one side went away: the other learns of it
            sink.close()

    def cut(self) -> None:
        self.whole = False
        for end in self._sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed before

    def close(self) -> None:
        self.cut()
        self._ear.close()


@pytest.fixture
def wire(page) -> Iterator[Wire]:
    wire = Wire(page.server_port)
    yield wire
    wire.close()


def test_a_lost_connection_is_said_and_the_page_is_usable_when_it_is_back(wire, visitor, portraits):
    person = ready_to_draw(visitor(wire.url), portraits["obama"], {**LONG, "prompt": "a person in the snow"})
    person.draw()
    person.progresses(re.compile(r"Step \d+ of 100"))
    wire.cut()
    notice = person.tab.locator("#notice")
    notice.filter(has_text="The program does not answer. This page comes back by itself").wait_for()
    wire.whole = True
    notice.filter(has_text="The connection was lost and is back. Add the photo again").wait_for()
    assert person.tab.locator("#draw").is_enabled()
    assert person.tab.get_by_label("Prompt", exact=True).input_value() == "a person in the snow"
    ready_to_draw(person, portraits["obama"], SHORT).draw()
    person.says("The picture is ready")
    assert not notice.is_visible()


def test_a_page_of_a_program_that_was_started_anew_is_loaded_anew(visitor, portraits):
    person = visitor()
    person.bring(portraits["obama"], "One face was found")
    person.set(prompt="by the sea")
    with person.tab.expect_event("load"):
        person.tab.route("**/app_id", lambda route: route.fulfill(json={"app_id": 1}), times=1)
    person.tab.locator("#draw").wait_for()
    assert not person.tab.get_by_text("One face was found").is_visible()
    person.tab.wait_for_function("document.querySelector('#prompt textarea')?.value === 'by the sea'")


def test_a_bad_photo_is_a_sentence_without_a_broken_picture_and_a_good_one_takes_it_away(visitor, portraits, tmp_path):
    grey, broken, large = tmp_path / "grey.jpg", tmp_path / "photo.heic", tmp_path / "large.jpg"
    Image.new("RGB", (300, 200), (127, 127, 127)).save(grey)
    broken.write_bytes(b"\0\0\0\x10ftypheic\0\0\0\0")
    large.write_bytes(bytes(21_000_000))
    person = visitor()
    tab, upload = person.tab, person.tab.locator("input[type=file]").first
    person.draw()
    person.says("There is no photo yet: add one first.")
    upload.set_input_files(large)
    notice = tab.locator("#notice")
    notice.filter(
        has_text="The photo has more than 20 MB: save a smaller copy of it, as JPEG, and add that."
    ).wait_for()
    upload.set_input_files(broken)
    tab.get_by_text("HEIC files are not read: save the photo as JPEG or PNG, and add that.").wait_for()
    tab.get_by_label("Remove Image").wait_for(state="detached")
    assert tab.evaluate("[...document.images].every(image => !image.checkVisibility() || image.naturalWidth)")
    person.bring(grey, "No face was found; take a photo")
    assert person.status.inner_text().strip() == "", "there is a photo now"
    person.draw()
    person.says("No face was found; take a photo where one face is seen from the front")
    assert "Traceback" not in tab.content() and "Error" not in tab.locator("body").inner_text()
    person.bring(portraits["obama"], "One face was found")
    assert not tab.get_by_text("No face was found").is_visible() and not notice.is_visible()
    person.open("Settings")
    person.set(**SHORT)
    person.tab.get_by_label("Prompt", exact=True).press("Control+Enter")
    person.says("The picture is ready")


def test_what_the_model_does_not_see_of_a_prompt_is_said_beside_it(visitor):
    person = visitor()
    cut = person.tab.locator("#cut")
    person.tab.get_by_role("button", name="a person reading").click()
    prompt = person.tab.get_by_label("Prompt", exact=True)
    person.tab.wait_for_function("box => box.value === 'a person reading'", arg=prompt.element_handle())
    assert "left out" not in cut.inner_text()
    prompt.fill("a " * 75 + "red hat")
    cut.filter(has_text="The end of the prompt is left out, since the model reads 77 tokens: “red hat”").wait_for()
    prompt.fill("a red hat")
    cut.filter(has_text="left out").wait_for(state="detached")
