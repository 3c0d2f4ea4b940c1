"""For the tests of the demo page: one tiny model, real photos, and somebody with a browser."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from common.decode import decode
from curation.sample.photos import FACE_RECOGNITION, INSIGHTFACE
from generation.demo.texts import NEGATIVE

connected: list[object] = []  # every address that this process connected to since the page is up


@cache
def tiny_model():
    """One for all modules that ask."""
    from generation.loading import load_model
    from generation.options import ModelOptions

    return load_model(ModelOptions())


def portrait_files() -> dict[str, Path]:
    images = FACE_RECOGNITION.fetch() / "tests/test_images"
    return {name: images / f"{name}.jpg" for name in ("obama", "biden")}


def group_file() -> Path:
    """Six people."""
    return INSIGHTFACE.fetch() / "insightface/data/images/t1.jpg"


def directly(model, photo: Path, **options) -> np.ndarray:
    """The picture of a call of the pipeline without any page, with the page's negative prompt."""
    options.setdefault("negative_prompt", NEGATIVE)
    rgb = decode(photo.read_bytes(), full_size=True).rgb
    return np.asarray(model.pipeline(options.pop("prompt", ""), photo=rgb, **options).images[0])


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


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
        if "seed" in values:
            self.tab.get_by_label("A new seed for every drawing").uncheck()
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
