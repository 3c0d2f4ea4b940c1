"""The demo page: widgets and what happens when they are used. Keeps nothing of its users between two requests.

Each event brings all that it needs (the path of its own upload, the sliders' values), so that what is drawn is what was
set when the button was pressed, however long the queue (request_queue.py), and no user can get another's face.
"""

from __future__ import annotations

import json
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from generation.demo import face_panel, limits, texts
from generation.demo.drawing import DrawingRunner, DrawProgress
from generation.demo.faces import AnalysedPhoto, PhotoAnalyser
from generation.demo.request_queue import DRAWINGS, NO_QUEUE
from generation.loading import LoadedModel
from generation.photos import PhotoError
from generation.provenance import SavedPicture
from model.conditioning.faces import ChoicePolicy
from model.presets import PRESETS, Scales
from model.tokenizer import truncated_words

POLICIES = [("I pick it", "only"), ("The largest", "largest"), ("The surest", "highest_score")]
WAITING = "Waiting for your turn; what stands after “queue” below is your place."
STOPPED = texts.message("Stopped. Nothing was drawn.")
TOO_MANY_WAIT = "Too many people are waiting: nothing was drawn. Press Draw again in a minute."
OUT_OF_MEMORY = "The memory is too small for so many pictures at once: draw fewer."
FAILED = "The drawing failed, which is the program's fault; its terminal says where. You can try again."
FILE_CLEANUP = (600, 3600)  # seconds: how often files are looked through, and how old they may become


def build_page(model: LoadedModel, folder: Path) -> gr.Blocks:
    """The page. `folder`: where drawn files go, gradio's own (GRADIO_TEMP_DIR), set before this is called."""
    analyser, runner = PhotoAnalyser(model), DrawingRunner(model, folder)
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=FILE_CLEANUP) as page:
        gr.HTML(texts.header(model.notes))
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                first = face_panel.build("Photo of the face")
                policy = gr.Radio(POLICIES, value="only", label="Which face, if there are several", elem_id="policy")
                with gr.Accordion("Mix in a second face", open=False, elem_id="mixing"):
                    second = face_panel.build("Second photo")
                    alpha = gr.Slider(
                        0, 1, 0.5, step=0.05, label="Share of the second face", info="The pose stays the first's."
                    )
                preset, sliders, seed, new_seed, steps, count, record_prompt = _settings()
            with gr.Column(scale=1, min_width=320):
                prompt, negative = _prompts(model)
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
            face_panel.connect(analyser, panel, policy, status)

        preset.input(_fill_from_preset, [preset, negative], [*sliders, negative], **NO_QUEUE)
        started = draw.click(_show_started, new_seed, [seed, draw, stop, progress, status], **NO_QUEUE)
        drawing = started.then(
            _draw_handler(analyser, runner),
            [first.photo, first.pick, second.photo, second.pick, policy, alpha, prompt, negative, *sliders, seed,
             steps, count, record_prompt],
            [progress, status, gallery, files, record],
            show_progress="full", show_progress_on=gallery, **DRAWINGS,
        )  # fmt: skip
        drawing.then(_show_idle, None, [draw, stop, progress], **NO_QUEUE)
        # written in the browser at once: gradio counts a stopped drawing among those that failed
        stop.click(None, None, status, js=f"() => {json.dumps(STOPPED)}", cancels=drawing, **NO_QUEUE)
        # the handler says what goes wrong in it: what fails outside of it was stopped, or not taken
        for event in (started, drawing):
            event.failure(_show_not_taken, status, [draw, stop, progress, status], **NO_QUEUE)
    return page


def _prompts(model: LoadedModel) -> tuple[gr.Textbox, gr.Textbox]:
    """Prompt and negative prompt, what the model does not see of them, and prompts to begin with."""
    prompt = gr.Textbox(
        "", label="Prompt", lines=2, max_length=limits.MAX_PROMPT, placeholder="what is to be seen", elem_id="prompt"
    )
    with gr.Row(elem_id="examples"):
        for example in texts.EXAMPLES:
            button = gr.Button(example, size="sm", min_width=1)
            button.click(lambda text: text, button, prompt, **NO_QUEUE)
    negative = gr.Textbox(
        texts.NEGATIVE, label="Negative prompt", max_length=limits.MAX_PROMPT, placeholder="what is not to be seen",
        elem_id="negative",
    )  # fmt: skip
    cut = gr.HTML(elem_id="cut")

    def say_what_is_cut(*prompts: str) -> str:
        tokenizer = model.pipeline.tokenizer
        return texts.cut_prompts(*(truncated_words(tokenizer, text[: limits.MAX_PROMPT]) for text in prompts))

    gr.on(
        [prompt.change, negative.change],
        say_what_is_cut,
        [prompt, negative],
        cut,
        trigger_mode="always_last",
        **NO_QUEUE,
    )
    return prompt, negative


def _settings() -> tuple[Any, ...]:
    """The preset, the sliders that it fills (in the order of `Scales`), and what else a drawing is made of."""
    start = PRESETS["realistic"]
    names = [(name.replace("_", " ").capitalize(), name) for name in PRESETS]
    preset = gr.Radio(
        names, value="realistic", label="Preset", elem_id="preset",
        info="Fills the four scales of the settings. Styles go without the usual negative prompt.",
    )  # fmt: skip
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row():
            ip = gr.Slider(0, 1, start.ip, step=0.05, label="ID scale", info="The face", min_width=200)
            control = gr.Slider(
                0, 1, start.controlnet, step=0.05, label="Control scale", info="Its pose", min_width=200
            )
        with gr.Row():
            guidance = gr.Slider(
                0, limits.MAX_GUIDANCE, start.guidance, step=0.5, label="Guidance scale", info="Prompt and face",
                min_width=200,
            )  # fmt: skip
            shortcut = gr.Slider(
                0, 1, start.shortcut, step=0.05, label="Shortcut scale", info="CLIP's part in the face", min_width=200
            )
        with gr.Row():
            steps = gr.Slider(1, limits.MAX_STEPS, 50, step=1, label="Steps", min_width=200, elem_id="steps")
            count = gr.Slider(1, limits.MAX_PICTURES, 1, step=1, label="Pictures", min_width=200, elem_id="count")
        with gr.Row():
            seed = gr.Number(
                42, label="Seed", precision=0, minimum=0, maximum=limits.MAX_SEED, min_width=150, elem_id="seed"
            )
            new_seed = gr.Checkbox(True, label="A new seed for every drawing", min_width=150)
        record_prompt = gr.Checkbox(False, label="Write the prompt into the files' record")
    sliders = [ip, control, guidance, shortcut]
    return preset, sliders, seed, new_seed, steps, count, record_prompt


def _fill_from_preset(name: str, negative: str) -> tuple[float | str, ...]:
    """The four scales, and the negative prompt; the user's own stays."""
    usual = texts.NEGATIVE if name == "realistic" else ""
    return *PRESETS[name], usual if negative in ("", texts.NEGATIVE) else negative


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
                raise ValueError("There is no seed: give a whole number, or tick “A new seed for every drawing”.")
            request = limits.DrawRequest(
                prompt.strip(), negative.strip(), Scales(ip, control, guidance, shortcut), int(seed), int(steps),
                int(count), alpha, record_prompt,
            )  # fmt: skip
            limits.check(request)
            yield texts.message("Looking at the photo."), *unchanged
            first = _choose_face(analyser, photo, policy, pick, "")
            second = None if other is None else _choose_face(analyser, other, policy, other_pick, "Second photo: ")
            with closing(runner.draw(first, second, request)) as events:
                for event in events:
                    if isinstance(event, DrawProgress):
                        yield texts.progress(event), *unchanged
                    else:
                        yield _show_finished(event)
        except ValueError as error:
            yield "", texts.error(error), *no_picture
        except torch.OutOfMemoryError:
            yield "", texts.message(OUT_OF_MEMORY, "bad"), *no_picture
        except Exception as error:  # noqa: BLE001 - raised again, it would be printed whole
            _print_failure(error)
            yield "", texts.message(FAILED, "bad"), *no_picture

    return draw


def _print_failure(error: Exception) -> None:
    """Where a drawing failed. A message is printed if it is torch's or the disk's: others may quote the prompt."""
    message = f": {error}" if isinstance(error, RuntimeError | OSError) else ""
    where = "".join(traceback.format_tb(error.__traceback__))
    print(f"{where}{type(error).__name__}{message}", file=sys.stderr)


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


def _show_started(new_seed: bool) -> tuple[Any, ...]:
    """The seed to draw with; Draw disabled, Stop enabled, waiting for its turn."""
    seed = random.randrange(limits.MAX_SEED) if new_seed else gr.skip()
    waiting = gr.HTML(texts.message(WAITING), visible=True)
    return seed, gr.Button(interactive=False), gr.Button(interactive=True), waiting, ""


def _show_idle() -> tuple[gr.Button, gr.Button, gr.HTML]:
    """Draw enabled, Stop disabled, no progress."""
    return gr.Button(interactive=True), gr.Button(interactive=False), gr.HTML(visible=False)


def _show_not_taken(said: str) -> tuple[Any, ...]:
    """Idle, and why nothing was drawn unless that is `said` already."""
    return *_show_idle(), gr.skip() if said else texts.message(TOO_MANY_WAIT, "bad")
