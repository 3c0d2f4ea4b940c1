"""Texts and pieces of HTML of the demo page, its style sheet and script. Everything variable is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from generation.demo.drawing import DrawProgress
from generation.demo.faces import AnalysedPhoto
from generation.provenance import NOTICE, SavedPicture

TITLE = "Face-MakeUp"
CONSENT = "Use only photos of people who agreed to it, and say of every picture that a model drew it."
PRIVACY = (
    "Photos and pictures go only to the computer that this program runs on, and are deleted there an hour later, or "
    "when the program ends."
)
MARKS = (
    "Every download carries a record of how it was drawn (model, seed, scales; never the photo) and, from 256 pixels "
    "on, an invisible mark. Neither is signed: anybody can remove or forge them."
)
EXAMPLES = ["a person in the snow", "a person reading", "an oil painting of a person"]
# what users of Stable Diffusion 1.5 and IP-Adapter usually write there
NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"
FOLDER = Path(__file__).parent
CSS = (FOLDER / "page.css").read_text("utf-8")
SCRIPT = f"<script>{(FOLDER / 'page.js').read_text('utf-8')}</script>"


def header(notes: Sequence[str]) -> str:
    """Title, consent, and the model's notes; above them the place where page.js says that the connection is lost."""
    note_boxes = "".join(f'<p class="fm-say note" role="note">{html.escape(note)}</p>' for note in notes)
    return (
        '<p class="fm-say bad" id="notice" role="alert" hidden></p>'
        f'<div class="fm-head"><h1>{TITLE}</h1><p>A photo of a face and a sentence in, pictures of that face out.'
        f" {html.escape(CONSENT)}</p></div>{note_boxes}"
    )


def footer() -> str:
    """What the files carry, and where photos go."""
    return f'<div class="fm-foot"><p>{html.escape(MARKS)}</p><p>{html.escape(PRIVACY)}</p></div>'


def message(text: str, kind: str = "") -> str:
    """A sentence in a box; kind "bad" for what went wrong. Read out by screen readers."""
    role = "alert" if kind == "bad" else "status"
    return f'<p class="fm-say {kind}" role="{role}">{html.escape(text)}</p>' if text else ""


def error(raised: ValueError) -> str:
    """An error as a sentence in a box."""
    text = str(raised)
    return message(text[:1].upper() + text[1:] + ("" if text.endswith(".") else "."), "bad")


def progress(now: DrawProgress) -> str:
    """The steps that are done, in words and as a bar."""
    if now.done == now.total:
        text = f"All {now.total} steps are done: decoding and marking."
    elif now.seconds_left is None:
        text = f"Step {now.done} of {now.total}."
    else:
        text = f"Step {now.done} of {now.total}, {duration(now.seconds_left)} of steps left."
    bar = f'<progress max="{now.total}" value="{now.done}" aria-label="steps done"></progress>'
    return f'<div class="fm-say">{text}{bar}</div>'


def duration(seconds: float) -> str:
    """A rough duration, in words."""
    if seconds < 1.5:
        return "about a second"
    if seconds < 90:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min"


def model_views(photo: AnalysedPhoto) -> str:
    """The three pictures that the model is given of the chosen face."""
    views = photo.views
    shown = (
        (views.clip_view, "Aligned face", "what CLIP sees"),
        (views.pose_map, "Pose map", "five points, for the pose branch"),
        (views.image, "Cut-out", "as in training"),
    )
    figures = "".join(
        f'<figure><img src="{_inline(rgb)}" alt="{name}: {meaning}"><figcaption><b>{name}</b>, {meaning}'
        "</figcaption></figure>"
        for rgb, name, meaning in shown
    )
    return f'<div class="fm-views">{figures}</div>'


def _inline(rgb: np.ndarray) -> str:
    """A small PNG as a data URL."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((256, 256))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def chosen_face(photo: AnalysedPhoto) -> str:
    """Which of how many faces is chosen."""
    if len(photo.faces) == 1:
        return message(f"One face was found (score {photo.faces[0].score:.2f}).")
    return message(f"Face {photo.chosen + 1} of {len(photo.faces)} is drawn from (from the left).")


def cut_prompts(prompt_cut: str, negative_cut: str) -> str:
    """What the model does not see of the two prompts; "": it sees all."""
    cut = {"prompt": prompt_cut, "negative prompt": negative_cut}
    lines = [
        f"The end of the {name} is left out, since the model reads 77 tokens: “{end}”"
        for name, end in cut.items()
        if end
    ]
    return "".join(message(line, "note") for line in lines)


def record(saved: Sequence[SavedPicture]) -> str:
    """The record that is in the files, as a list; what differs between them as a range."""
    first, last = saved[0].record, saved[-1].record
    seeds = str(first.seed) if first.seed == last.seed else f"{first.seed} to {last.seed}, one each"
    marks = dict.fromkeys(file.record.watermark for file in saved)
    rows = {
        "drawn by": f"{first.software} {first.version}, {first.base_model}",
        "seed": seeds,
        "scales": ", ".join(f"{name} {value:g}" for name, value in first.scales.items()),
        "prompt": first.prompt or "not written into the files",
        "watermark": "; ".join(marks),
        "signed": "no",
    }
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in rows.items())
    return (
        f'<dl class="fm-record" aria-label="Record in the downloaded files">{lines}</dl>'
        f'<div class="fm-foot"><p>{html.escape(NOTICE)}</p></div>'
    )
