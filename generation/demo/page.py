"""The demo page: widgets and what happens when they are used. Keeps nothing of its users between two requests.

Each event brings all that it needs (the path of its own upload, the sliders' values), so that what is drawn is what was
set when the button was pressed, however long the queue (request_queue.py), and no user can get another's face.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import torch

from generation.demo import texts
from generation.demo.drawing import DrawingRunner, DrawProgress, DrawRequest
from generation.demo.faces import AnalysedPhoto, NoFacePicked, PhotoAnalyser
from generation.demo.request_queue import DRAWINGS, NO_QUEUE, PHOTOS
from generation.loading import LoadedModel
from generation.photos import PhotoError
from generation.provenance import SavedPicture
from model.conditioning.faces import ChoicePolicy
from model.presets import PRESETS, Scales

POLICIES = [("I pick it", "only"), ("The largest", "largest"), ("The surest", "highest_score")]
MAX_STEPS, MAX_PICTURES, MAX_SEED = 100, 8, 2**31 - 1
MAX_PROMPT = 1000  # letters
WAITING = "Waiting for your turn; what stands after “queue” below is your place."
OUT_OF_MEMORY = "The memory is too small for so many pictures at once: draw fewer."
FAILED = "The drawing failed, which is the program's fault; its terminal says why. You can try again."
FILE_CLEANUP = (600, 3600)  # seconds: how often files are looked through, and how old they may become


class PhotoUpload(gr.Image):
    """An upload that reaches Python as the path of the file as it came: our own decoder is the first to open it."""

    is_template = True  # gradio's word for: in the browser it is the class that it inherits from

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class FacePanel(NamedTuple):
    """The widgets of one photo: its upload, and what is shown of it."""

    photo: PhotoUpload
    faces: gr.Image
    pick: gr.Radio
    message: gr.HTML
    views: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        return [self.faces, self.pick, self.message, self.views]


def build_page(model: LoadedModel, folder: Path) -> gr.Blocks:
    """The page. `folder`: where drawn files go, gradio's own (GRADIO_TEMP_DIR), set before this is called."""
    analyser, runner = PhotoAnalyser(model), DrawingRunner(model, folder)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=FILE_CLEANUP) as page:
        gr.HTML(texts.header(model.notes))
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
                    max_length=MAX_PROMPT,
                    placeholder="a portrait of a person in a red coat, snow",
                )
                sliders, negative, seed, steps, count, record_prompt = _settings()
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
        gr.HTML(texts.footer())

        for panel in (first, second):
            _connect_face_panel(analyser, panel, policy)

        started = draw.click(_show_started, None, [draw, stop, progress, status], **NO_QUEUE)
        drawing = started.then(
            _draw_handler(analyser, runner),
            [first.photo, first.pick, second.photo, second.pick, policy, alpha, prompt, negative, *sliders, seed,
             steps, count, record_prompt],
            [progress, status, gallery, files, record],
            show_progress="full", show_progress_on=gallery, **DRAWINGS,
        )  # fmt: skip
        drawing.then(_show_idle, None, [draw, stop, progress], **NO_QUEUE)
        stop.click(
            lambda: (*_show_idle(), texts.message("Stopped. Nothing was drawn.")),
            None, [draw, stop, progress, status], cancels=drawing, **NO_QUEUE,
        )  # fmt: skip
    return page


def _face_panel(label: str) -> FacePanel:
    with gr.Row(equal_height=True):
        photo = PhotoUpload(
            label=label, sources=["upload", "webcam", "clipboard"], height=260, min_width=150, buttons=[]
        )
        faces = gr.Image(
            label="Faces found", visible=False, interactive=False, height=260, min_width=150, buttons=["fullscreen"]
        )
    pick = gr.Radio([], label="Face, counted from the left", visible=False)
    message = gr.HTML()
    return FacePanel(photo, faces, pick, message, gr.HTML())


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
        negative = gr.Textbox("", label="Negative prompt", max_length=MAX_PROMPT, placeholder="what is not to be seen")
        with gr.Row():
            steps = gr.Slider(1, MAX_STEPS, 50, step=1, label="Steps", min_width=200, elem_id="steps")
            count = gr.Slider(1, MAX_PICTURES, 1, step=1, label="Pictures", min_width=200, elem_id="count")
        with gr.Row():
            seed = gr.Number(42, label="Seed", precision=0, minimum=0, maximum=MAX_SEED, min_width=150, elem_id="seed")
            another = gr.Button("Another seed", size="sm", min_width=120, elem_id="another")
        record_prompt = gr.Checkbox(False, label="Write the prompt into the files' record")
    sliders = [ip, control, guidance, shortcut]
    preset.input(lambda name: list(PRESETS[name]), preset, sliders, **NO_QUEUE)
    another.click(lambda: random.randrange(MAX_SEED), None, seed, **NO_QUEUE)
    return sliders, negative, seed, steps, count, record_prompt


def _connect_face_panel(analyser: PhotoAnalyser, panel: FacePanel, policy: gr.Radio) -> None:
    """Show a photo's faces when it is uploaded, and again when another face is picked."""

    def show(path: str | None, policy: ChoicePolicy, picked: int | None) -> tuple[Any, ...]:
        if path is None:
            return gr.Image(None, visible=False), gr.Radio([], value=None, visible=False), "", ""
        try:
            photo = analyser.choose_face(path, policy, picked)
        except PhotoError as error:
            return gr.Image(None, visible=False), gr.Radio([], value=None, visible=False), _error_html(error), ""
        except NoFacePicked as error:
            return *_face_widgets(error.photo, picked), texts.message(str(error), "note"), ""
        except ValueError as error:
            return *_face_widgets(analyser.find_faces(path), picked), _error_html(error), ""
        return *_face_widgets(photo, picked), texts.chosen_face(photo), texts.model_views(photo)

    def show_anew(path: str | None, policy: ChoicePolicy) -> tuple[Any, ...]:
        return show(path, policy, None)

    def show_clicked(path: str | None, policy: ChoicePolicy, click: gr.SelectData) -> tuple[Any, ...]:
        return show(path, policy, analyser.find_faces(path).face_at(*click.index))

    panel.photo.change(show_anew, [panel.photo, policy], panel.shown, **PHOTOS)
    policy.change(show_anew, [panel.photo, policy], panel.shown, **PHOTOS)
    panel.pick.input(show, [panel.photo, policy, panel.pick], panel.shown, **PHOTOS)
    panel.faces.select(show_clicked, [panel.photo, policy], panel.shown, **PHOTOS)


def _face_widgets(photo: AnalysedPhoto, picked: int | None) -> tuple[gr.Image, gr.Radio]:
    """The photo with its faces numbered, and the choice of a number where there are several."""
    numbers = [(str(index + 1), index) for index in range(len(photo.faces))]
    several = len(numbers) > 1
    value = photo.chosen if several and photo.chosen is not None else (picked if several else None)
    return gr.Image(photo.annotated(), visible=True), gr.Radio(numbers, value=value, visible=several)


def _draw_handler(analyser: PhotoAnalyser, runner: DrawingRunner) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """What the Draw button runs. Arguments and results are widgets' values, in the order of `build_page`."""

    def draw(
        photo: str | None,
        pick: int | None,
        other: str | None,
        other_pick: int | None,
        policy: ChoicePolicy,
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
        record_prompt: bool,
    ) -> Iterator[tuple[Any, ...]]:
        unchanged = gr.skip(), gr.skip(), gr.skip(), gr.skip()
        no_picture = gr.skip(), gr.skip(), gr.skip()
        try:
            if photo is None:
                raise PhotoError("There is no photo yet: add one first.")
            if seed is None:
                raise ValueError("There is no seed: give a whole number, or press “Another seed”.")
            _check_limits(prompt, negative, int(steps), int(count), int(seed))
            yield texts.message("Looking at the photo."), *unchanged
            first = _choose_face(analyser, photo, policy, pick, "")
            second = None if other is None else _choose_face(analyser, other, policy, other_pick, "Second photo: ")
            request = DrawRequest(
                prompt.strip(), negative.strip(), Scales(ip, control, guidance, shortcut), int(seed), int(steps),
                int(count), alpha, record_prompt,
            )  # fmt: skip
            with closing(runner.draw(first, second, request)) as events:
                for event in events:
                    if isinstance(event, DrawProgress):
                        yield texts.progress(event), *unchanged
                    else:
                        yield _show_finished(event)
        except ValueError as error:
            yield "", _error_html(error), *no_picture
        except torch.OutOfMemoryError:
            yield "", texts.message(OUT_OF_MEMORY, "bad"), *no_picture
        except Exception:
            yield "", texts.message(FAILED, "bad"), *no_picture
            raise

    return draw


def _check_limits(prompt: str, negative: str, steps: int, count: int, seed: int) -> None:
    """The limits of the widgets, which hold in the browser only.

    Raises:
        ValueError: one of them is exceeded.
    """
    if max(len(prompt), len(negative)) > MAX_PROMPT:
        raise ValueError(f"A prompt has at most {MAX_PROMPT} letters: shorten it.")
    if not (1 <= steps <= MAX_STEPS and 1 <= count <= MAX_PICTURES and 0 <= seed <= MAX_SEED):
        raise ValueError(f"Take 1 to {MAX_STEPS} steps, 1 to {MAX_PICTURES} pictures, and a seed up to {MAX_SEED}.")


def _show_finished(files: list[SavedPicture]) -> tuple[str, str, gr.Gallery, gr.Files, str]:
    """The pictures, their downloads and their record."""
    paths = [str(file.path) for file in files]
    drawn = [(path, f"seed {file.record.seed}") for path, file in zip(paths, files, strict=True)]
    done = "The picture is ready." if len(files) == 1 else f"{len(files)} pictures are ready."
    shown = gr.Gallery(drawn, columns=1 if len(files) == 1 else 2)
    return "", texts.message(done), shown, gr.Files(paths, visible=True, interactive=False), texts.record(files)


def _choose_face(
    analyser: PhotoAnalyser, path: str, policy: ChoicePolicy, pick: int | None, where: str
) -> AnalysedPhoto:
    """The photo with its face chosen; `where` names the photo in errors."""
    try:
        return analyser.choose_face(path, policy, pick)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def _show_started() -> tuple[gr.Button, gr.Button, gr.HTML, str]:
    """Draw disabled, Stop enabled, waiting for its turn."""
    return gr.Button(interactive=False), gr.Button(interactive=True), gr.HTML(texts.message(WAITING), visible=True), ""


def _show_idle() -> tuple[gr.Button, gr.Button, gr.HTML]:
    """Draw enabled, Stop disabled, no progress."""
    return gr.Button(interactive=True), gr.Button(interactive=False), gr.HTML(visible=False)


def _error_html(error: ValueError) -> str:
    """An error as a sentence in a box."""
    text = str(error)
    return texts.message(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), "bad")
