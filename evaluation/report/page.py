"""The evaluation as one page of HTML that needs nothing but itself: the table, the published figures apart, the pictures."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from common.decode import ImageLimits, Undecodable, decode
from common.hashing import sha256_of_bytes
from evaluation.head import ABOUT, Head
from evaluation.metrics.base import NotMeasured
from evaluation.report.plot import plot_of
from evaluation.report.published import PUBLISHED
from evaluation.report.text import BY_CATEGORY, number, sorted_by_figure
from evaluation.sets import Drawn, Method, Reference
from evaluation.table import Column

TEMPLATES = Path(__file__).parent / "templates"
SIDE, QUALITY = 256, 75  # small in the grid, and large enough to vote on
BUDGET = 16_000_000  # bytes of pictures in the page
LIMITS = ImageLimits(min_side=1, working_side=2 * SIDE)


def render(
    references: Sequence[Reference],
    methods: Sequence[Method],
    columns: Sequence[Column],
    scores: pd.DataFrame,
    head: Head,
    parts: Sequence[Column] = (),
) -> bytes:
    """`scores`: one row a picture, with every metric's numbers beside method, reference, prompt, seed and error; `parts`: the
    columns of each category of prompts."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    sorted_by: dict[str, str] = {}
    for column in columns:
        if column.scores in scores and scores[column.scores].notna().any():
            sorted_by.setdefault(column.scores, column.title)  # the first that shows these numbers
    pictures = Pictures()
    drawn = [item for item in methods if not item.absent]
    rows, left = _rows(references, drawn, scores, list(sorted_by), pictures)
    data = {"methods": [item.name for item in drawn], "rows": rows, "sortedBy": sorted_by, "pictures": pictures.shown}
    return (
        environment.get_template("evaluation.html")
        .render(
            head=head, about=ABOUT, methods=methods, columns=columns, number=number, parts=sorted_by_figure(parts), by_category=BY_CATEGORY, published=PUBLISHED, left=left,
            plot=plot_of(columns), is_missing=lambda column: isinstance(column.figure, NotMeasured),
            failed=_failed(scores, rows, data["methods"]),
            data=Markup(json.dumps(data).replace("<", "\\u003c")),  # nothing in it may end the script
            style=_file("evaluation.css"), script=_file("evaluation.js"), blind_script=_file("blind.js"),
        )
        .encode(errors="backslashreplace")
    )  # fmt: skip


def _file(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text("utf-8"))


class Pictures:
    """The pictures of the page, each once however often it is shown. `shown`: data: URIs."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.size = 0
        self._places: dict[str, int] = {}

    def place(self, file: Path | None) -> tuple[int | None, str]:
        """Where the picture stands in `shown`, and its file's sha256; None where it cannot be read, "" where it is none."""
        if file is None:
            return None, ""
        try:
            data = file.read_bytes()
        except OSError:
            return None, ""
        key = sha256_of_bytes(data)
        if key not in self._places:
            shown = _thumbnail(data)
            if shown is None:
                return None, key
            self._places[key] = len(self.shown)
            self.shown.append(shown)
            self.size += len(shown)
        return self._places[key], key


def _rows(
    references: Sequence[Reference], methods: Sequence[Method], scores: pd.DataFrame, wanted: list[str],
    pictures: Pictures,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """A row for each reference, prompt and seed with every method's picture; and how many rows the page has no room for."""
    known = {
        (row["method"], row["reference"], row["prompt"], row["seed"]): row for row in scores.to_dict(orient="records")
    }
    drawn: dict[tuple[str, str], dict[tuple[str, str], Drawn]] = {}
    for method in methods:
        for item in method.drawn:
            drawn.setdefault((method.name, item.reference.name), {})[item.prompt, item.seed] = item
    rows, left = [], 0
    for reference in references:
        asked = sorted({key for method in methods for key in drawn.get((method.name, reference.name), {})})
        for prompt, seed in asked:
            if pictures.size > BUDGET:
                left += 1
                continue
            items = [drawn.get((method.name, reference.name), {}).get((prompt, seed)) for method in methods]
            rows.append({
                "reference": reference.name, "prompt": prompt, "seed": seed,
                "words": next((item.words for item in items if item and item.words), prompt),
                "shown": pictures.place(reference.file)[0],
                "cells": [_cell(item, method.name, known, wanted, pictures) for item, method in zip(items, methods, strict=True)],
            })  # fmt: skip
    return rows, left


def _cell(
    item: Drawn | None, method: str, known: dict[tuple[str, ...], dict[str, Any]], wanted: list[str],
    pictures: Pictures,
) -> dict[str, Any]:  # fmt: skip
    if item is None:
        return {"shown": None, "sha256": "", "why": "not asked for", "scores": {}}
    row = known.get((method, item.reference.name, item.prompt, item.seed), {})
    numbers = {name: row[name] for name in wanted if isinstance(row.get(name), float) and math.isfinite(row[name])}
    shown, sha256 = pictures.place(item.file)
    return {"shown": shown, "sha256": sha256, "why": row.get("error") or item.failure, "scores": numbers}


def _failed(scores: pd.DataFrame, rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """What could not be scored, with the pictures as far as they have room on the page."""
    shown = {(row["reference"], row["prompt"], row["seed"]): row for row in rows}
    failed = scores[scores["error"] != ""][["method", "reference", "prompt", "seed", "error"]].to_dict("records")
    for item in failed:
        row = shown.get((item["reference"], item["prompt"], item["seed"]))
        item["reference_shown"] = row["shown"] if row else None
        item["shown"] = row["cells"][methods.index(item["method"])]["shown"] if row else None
    return failed


def _thumbnail(data: bytes) -> str | None:
    """A data: URI; None where it is no picture."""
    try:
        picture = decode(data, LIMITS)
    except Undecodable:
        return None
    out = io.BytesIO()
    Image.fromarray(picture.view(SIDE)).save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
