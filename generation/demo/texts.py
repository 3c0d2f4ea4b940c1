"""Texts, style sheet and pieces of HTML of the demo page. Everything variable is escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

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
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto; }
.gradio-container, .gradio-container main { width: 100%; }
.gradio-container .html-container { padding: 0 !important; }
.gradio-container .hide-container:has(.prose:empty) { display: none; }
#pictures .grid-wrap { max-height: none; }
#pictures .meta-text { font-family: inherit; font-size: 1rem; font-weight: 600; }
.fm-head { margin: .6rem 0 .8rem; }
.fm-head h1 { font-size: 1.9rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .25rem; }
.fm-head p, .fm-foot p { margin: 0 0 .5rem; max-width: 48rem; color: var(--body-text-color-subdued); }
.fm-foot p { font-size: .9rem; }
.fm-say { border-radius: .5rem; padding: .6rem .9rem; margin: 0; line-height: 1.45; overflow-wrap: anywhere;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.fm-say.note { background: #fff3d6; border-color: #ecd9a2; color: #5b4300; }
.fm-say.bad { background: #fbe0da; border-color: #f0b5a8; color: #8a1f0b; }
.dark .fm-say.note { background: #3a3016; border-color: #5e4e22; color: #f0dca4; }
.dark .fm-say.bad { background: #471c14; border-color: #7a3425; color: #ffc9bc; }
.fm-say progress { display: block; width: 100%; height: .6rem; margin-top: .45rem;
  appearance: none; border: 0; border-radius: .3rem; overflow: hidden; background: var(--border-color-primary); }
.fm-say progress::-webkit-progress-bar { background: var(--border-color-primary); }
.fm-say progress::-webkit-progress-value { background: #0d9488; transition: width .2s; }
.fm-say progress::-moz-progress-bar { background: #0d9488; }
#another { align-self: center; }
.fm-views { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .6rem; }
.fm-views figure { margin: 0; } .fm-views img { width: 100%; aspect-ratio: 1; object-fit: contain;
  background: #111827; border-radius: .4rem; display: block; }
.fm-views figcaption { font-size: .8rem; line-height: 1.3; margin-top: .25rem; color: var(--body-text-color-subdued); }
.fm-record { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1rem; margin: 0 0 .6rem;
  font-size: .875rem; font-variant-numeric: tabular-nums; }
.fm-record dt { color: var(--body-text-color-subdued); } .fm-record dd { margin: 0; overflow-wrap: anywhere; }
"""


def header(notes: Sequence[str]) -> str:
    """Title, consent, and the model's notes."""
    note_boxes = "".join(f'<p class="fm-say note" role="note">{html.escape(note)}</p>' for note in notes)
    return (
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
