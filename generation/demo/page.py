"""The demo page: widgets and what happens when they are used. Keeps nothing of its users between two requests.

Each event brings all that it needs (the address of its own upload, the sliders as they stand), so that what is drawn
is what was set when the button was pressed, however long the queue, and no user can meet another's face.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch

from generation.demo import texts
from generation.demo.easel import Easel, Step, Wishes
from generation.demo.faces import Eyes, PhotoError, SeveralFaces, Sight
from generation.drawing import Artist
from generation.provenance import Saved
from model.presets import PRESETS, Scales

POLICIES = [("I pick it", "only"), ("The largest", "largest"), ("The surest", "highest_score")]
MOST_STEPS, MOST_PICTURES, LARGEST_SEED = 100, 8, 2**31 - 1
WAITING = "Waiting for your turn; what stands after “queue” below is your place."
TOO_MANY = "The memory is too small for so many pictures at once: draw fewer."
FAILED = "The drawing failed, which is the program's fault; its terminal says why. You can try again."
KEPT = (600, 3600)  # seconds: how often files are looked through, and how old they may become
PRIVATE = {"api_visibility": "private"}  # of every event: this is a page, not an interface for programs
AT_ONCE = {"queue": False, "show_progress": "hidden", **PRIVATE}


class Photograph(gr.Image):
    """An upload that reaches Python as the path of the file as it came: our own decoder is the first to open it."""

    is_template = True  # gradio's word for: in the browser it is the class that it inherits from

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class FacePanel(NamedTuple):
    """A photo, and what is shown of it as soon as it is there."""

    photo: Photograph
    found: gr.Image
    pick: gr.Radio
    message: gr.HTML
    views: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        return [self.found, self.pick, self.message, self.views]


def build_page(artist: Artist, folder: Path) -> gr.Blocks:
    """The page. `folder`: where drawn files go, gradio's own (GRADIO_TEMP_DIR), set before this is called."""
    eyes, easel = Eyes(artist), Easel(artist, folder)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=KEPT) as page:
        gr.HTML(texts.head(artist.notes))
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                first = _face_panel("Photo of the face")
                policy = gr.Radio(POLICIES, value="only", label="Which face, if there are several", elem_id="policy")
                with gr.Accordion("Mix in a second face", open=False, elem_id="mixing"):
                    second = _face_panel("Second photo")
                    alpha = gr.Slider(
                        0, 1, 0.5, step=0.05, label="Share of the second face", info="The pose stays the first's."
                    )
                prompt = gr.Textbox(
                    value="",
                    label="Prompt",
                    lines=2,
                    max_length=1000,
                    placeholder="a portrait of a person in a red coat, snow",
                )
                sliders, negative, seed, steps, count, name_prompt = _settings()
            with gr.Column(scale=1, min_width=320):
                with gr.Row():
                    draw = gr.Button("Draw", variant="primary", elem_id="draw", min_width=140)
                    stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=140)
                # apart, and hidden by a stop: news that is still on its way then overwrites nothing
                progress = gr.HTML(visible=False, elem_id="progress")
                status = gr.HTML(elem_id="status")
                gallery = gr.Gallery(
                    label="Pictures", columns=2, height="auto", object_fit="contain", elem_id="pictures",
                    buttons=["download", "fullscreen"], interactive=False,
                )  # fmt: skip
                files = gr.Files(label="Downloads", visible=False, interactive=False, elem_id="files")
                record = gr.HTML(elem_id="record")
        gr.HTML(texts.foot())

        for panel in (first, second):
            _show_faces(eyes, panel, policy)

        begun = draw.click(_begun, None, [draw, stop, progress, status], **AT_ONCE)
        drawing = begun.then(
            _drawing(eyes, easel),
            [first.photo, first.pick, second.photo, second.pick, policy, alpha, prompt, negative, *sliders, seed,
             steps, count, name_prompt],
            [progress, status, gallery, files, record],
            concurrency_limit=1, concurrency_id="drawing", show_progress="full", show_progress_on=gallery, **PRIVATE,
        )  # fmt: skip
        drawing.then(_at_rest, None, [draw, stop, progress], **AT_ONCE)
        stop.click(
            lambda: (*_at_rest(), texts.say("Stopped. Nothing was drawn.")),
            None, [draw, stop, progress, status], cancels=drawing, **AT_ONCE,
        )  # fmt: skip
    return page


def _face_panel(label: str) -> FacePanel:
    with gr.Row(equal_height=True):
        photo = Photograph(
            label=label, sources=["upload", "webcam", "clipboard"], height=260, min_width=150, buttons=[]
        )
        found = gr.Image(
            label="Faces found", visible=False, interactive=False, height=260, min_width=150, buttons=["fullscreen"]
        )
    pick = gr.Radio([], label="Face, counted from the left", visible=False)
    message = gr.HTML()
    return FacePanel(photo, found, pick, message, gr.HTML())


def _settings() -> tuple[Any, ...]:
    """The preset, the sliders that it fills (in the order of `Scales`), and what else a drawing is made of."""
    start = PRESETS["realistic"]
    names = [(name.replace("_", " ").capitalize(), name) for name in PRESETS]
    preset = gr.Radio(
        names, value="realistic", label="Preset", info="Fills the four scales of the settings.", elem_id="preset"
    )
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row():
            ip = gr.Slider(0, 1, start.ip, step=0.05, label="ID scale", info="The face", min_width=200)
            control = gr.Slider(
                0, 1, start.controlnet, step=0.05, label="Control scale", info="Its pose", min_width=200
            )
        with gr.Row():
            guidance = gr.Slider(
                0, 10, start.guidance, step=0.5, label="Guidance scale", info="Prompt and face", min_width=200
            )
            shortcut = gr.Slider(
                0, 1, start.shortcut, step=0.05, label="Shortcut scale", info="CLIP's part in the face", min_width=200
            )
        negative = gr.Textbox("", label="Negative prompt", max_length=1000, placeholder="what is not to be seen")
        with gr.Row():
            steps = gr.Slider(1, MOST_STEPS, 50, step=1, label="Steps", min_width=200, elem_id="steps")
            count = gr.Slider(1, MOST_PICTURES, 1, step=1, label="Pictures", min_width=200, elem_id="count")
        with gr.Row():
            seed = gr.Number(
                42, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=150, elem_id="seed"
            )
            another = gr.Button("Another seed", size="sm", min_width=120, elem_id="another")
        name_prompt = gr.Checkbox(False, label="Write the prompt into the files' record")
    sliders = [ip, control, guidance, shortcut]
    preset.input(lambda name: list(PRESETS[name]), preset, sliders, **AT_ONCE)
    another.click(lambda: random.randrange(LARGEST_SEED), None, seed, **AT_ONCE)
    return sliders, negative, seed, steps, count, name_prompt


def _show_faces(eyes: Eyes, panel: FacePanel, policy: gr.Radio) -> None:
    def look(path: str | None, policy: str, picked: int | None) -> tuple[Any, ...]:
        if path is None:
            return gr.Image(None, visible=False), gr.Radio([], value=None, visible=False), "", ""
        try:
            sight = eyes.look(path, policy, picked)
        except PhotoError as error:
            return gr.Image(None, visible=False), gr.Radio([], value=None, visible=False), _bad(error), ""
        except SeveralFaces as error:
            return *_found(error.sight, picked), texts.say(str(error), "note"), ""
        except ValueError as error:
            return *_found(eyes.faces(path), picked), _bad(error), ""
        return *_found(sight, picked), texts.found(sight), texts.views(sight)

    def look_anew(path: str | None, policy: str) -> tuple[Any, ...]:
        return look(path, policy, None)

    def look_at_click(path: str | None, policy: str, click: gr.SelectData) -> tuple[Any, ...]:
        return look(path, policy, eyes.faces(path).face_at(*click.index))

    looking = {"concurrency_limit": 1, "concurrency_id": "looking", "show_progress": "minimal", **PRIVATE}
    panel.photo.change(look_anew, [panel.photo, policy], panel.shown, **looking)
    policy.change(look_anew, [panel.photo, policy], panel.shown, **looking)
    panel.pick.input(look, [panel.photo, policy, panel.pick], panel.shown, **looking)
    panel.found.select(look_at_click, [panel.photo, policy], panel.shown, **looking)


def _found(sight: Sight, picked: int | None) -> tuple[gr.Image, gr.Radio]:
    numbers = [(str(index + 1), index) for index in range(len(sight.faces))]
    several = len(numbers) > 1
    value = sight.chosen if several and sight.chosen is not None else (picked if several else None)
    return gr.Image(sight.picture(), visible=True), gr.Radio(numbers, value=value, visible=several)


def _drawing(eyes: Eyes, easel: Easel) -> Any:
    def draw(
        photo: str | None,
        pick: int | None,
        other: str | None,
        other_pick: int | None,
        policy: str,
        alpha: float,
        prompt: str,
        negative: str,
        ip: float,
        control: float,
        guidance: float,
        shortcut: float,
        seed: int | None,
        steps: int,
        count: int,
        name_prompt: bool,
    ) -> Iterator[tuple[Any, ...]]:
        unchanged = gr.skip(), gr.skip(), gr.skip(), gr.skip()
        no_picture = gr.skip(), gr.skip(), gr.skip()
        try:
            if photo is None:
                raise PhotoError("There is no photo yet: add one first.")
            if seed is None:
                raise ValueError("There is no seed: give a whole number, or press “Another seed”.")
            yield texts.say("Looking at the photo."), *unchanged
            first = _seen(eyes, photo, policy, pick, "")
            second = None if other is None else _seen(eyes, other, policy, other_pick, "Second photo: ")
            wishes = Wishes(
                prompt.strip(), negative.strip(), Scales(ip, control, guidance, shortcut), int(seed), int(steps),
                int(count), alpha, name_prompt,
            )  # fmt: skip
            with closing(easel.draw(first, second, wishes)) as progress:
                for news in progress:
                    yield (texts.step(news), *unchanged) if isinstance(news, Step) else _finished(news)
        except ValueError as error:
            yield "", _bad(error), *no_picture
        except torch.OutOfMemoryError:
            yield "", texts.say(TOO_MANY, "bad"), *no_picture
        except Exception:
            yield "", texts.say(FAILED, "bad"), *no_picture
            raise

    return draw


def _finished(files: list[Saved]) -> tuple[Any, ...]:
    paths = [str(file.path) for file in files]
    drawn = [(path, f"seed {file.record.seed}") for path, file in zip(paths, files, strict=True)]
    done = "The picture is ready." if len(files) == 1 else f"{len(files)} pictures are ready."
    shown = gr.Gallery(drawn, columns=1 if len(files) == 1 else 2)
    return "", texts.say(done), shown, gr.Files(paths, visible=True, interactive=False), texts.record(files)


def _seen(eyes: Eyes, path: str, policy: str, pick: int | None, where: str) -> Sight:
    try:
        return eyes.look(path, policy, pick)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def _begun() -> tuple[Any, ...]:
    return gr.Button(interactive=False), gr.Button(interactive=True), gr.HTML(texts.say(WAITING), visible=True), ""


def _at_rest() -> tuple[Any, ...]:
    return gr.Button(interactive=True), gr.Button(interactive=False), gr.HTML(visible=False)


def _bad(error: ValueError) -> str:
    text = str(error)
    return texts.say(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), "bad")
