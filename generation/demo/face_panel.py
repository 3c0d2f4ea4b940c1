"""The widgets of one photo on the demo page: its upload, and what is shown of it as soon as it is there."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from generation.demo import texts
from generation.demo.faces import AnalysedPhoto, NoFacePicked, PhotoAnalyser
from generation.demo.request_queue import NO_QUEUE, PHOTOS
from generation.photos import PhotoError
from model.conditioning.faces import ChoicePolicy

TOO_MANY_PHOTOS = "The photo was not looked at: too many people are waiting. Add it again in a minute."


class PhotoUpload(gr.Image):
    """An upload that reaches Python as the path of the file as it came: our own decoder is the first to open it."""

    is_template = True  # gradio's word for: in the browser it is the class that it inherits from

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class FacePanel(NamedTuple):
    """The widgets, in the order in which `build` makes them."""

    photo: PhotoUpload
    faces: gr.Image
    pick: gr.Radio
    message: gr.HTML
    views: gr.HTML


def build(label: str) -> FacePanel:
    """Make the widgets, inside the block that is open."""
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


def connect(analyser: PhotoAnalyser, panel: FacePanel, policy: gr.Radio, status: gr.HTML) -> None:
    """Show a photo's faces when it is uploaded, and again when another face is picked. A photo empties `status`."""

    def show(path: str | None, policy: ChoicePolicy, picked: int | None) -> tuple[Any, ...]:
        if path is None:  # also where `show` itself took a bad photo away: what it said stays
            return gr.skip(), *_no_faces(), gr.skip(), ""
        try:
            photo = analyser.choose_face(path, policy, picked)
        except PhotoError as error:
            return None, *_no_faces(), texts.error(error), ""
        except NoFacePicked as error:
            return gr.skip(), *_face_widgets(error.photo, picked), texts.message(str(error), "note"), ""
        except ValueError as error:
            return gr.skip(), *_face_widgets(analyser.find_faces(path), picked), texts.error(error), ""
        return gr.skip(), *_face_widgets(photo, picked), texts.chosen_face(photo), texts.model_views(photo)

    def show_anew(path: str | None, policy: ChoicePolicy) -> tuple[Any, ...]:
        return show(path, policy, None)

    def show_clicked(path: str | None, policy: ChoicePolicy, click: gr.SelectData) -> tuple[Any, ...]:
        return show(path, policy, analyser.find_faces(path).face_at(*click.index))

    def say_busy() -> tuple[Any, ...]:
        return None, *_no_faces(), texts.message(TOO_MANY_PHOTOS, "bad"), ""

    shown = list(panel)
    asked = [
        panel.photo.change(show_anew, [panel.photo, policy], shown, **PHOTOS),
        policy.change(show_anew, [panel.photo, policy], shown, **PHOTOS),
        panel.pick.input(show, [panel.photo, policy, panel.pick], shown, **PHOTOS),
        panel.faces.select(show_clicked, [panel.photo, policy], shown, **PHOTOS),
    ]
    for event in asked:
        event.failure(say_busy, None, shown, **NO_QUEUE)
    panel.photo.clear(lambda: "", None, panel.message, **NO_QUEUE)
    panel.photo.upload(lambda: "", None, status, **NO_QUEUE)


def _no_faces() -> tuple[gr.Image, gr.Radio]:
    return gr.Image(None, visible=False), gr.Radio([], value=None, visible=False)


def _face_widgets(photo: AnalysedPhoto, picked: int | None) -> tuple[gr.Image, gr.Radio]:
    """The photo with its faces numbered, and the choice of a number where there are several."""
    numbers = [(str(index + 1), index) for index in range(len(photo.faces))]
    several = len(numbers) > 1
    value = photo.chosen if several and photo.chosen is not None else (picked if several else None)
    return gr.Image(photo.annotated(), visible=True), gr.Radio(numbers, value=value, visible=several)
