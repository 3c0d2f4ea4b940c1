"""The evaluation as one page of HTML that needs nothing but itself: the table, the published figures apart, the pictures."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from common.decode import ImageLimits, Undecodable, decode
from evaluation.head import ABOUT, Head
from evaluation.metrics.base import NotMeasured
from evaluation.report.published import PUBLISHED
from evaluation.sets import Drawn, Method, Reference
from evaluation.table import Column, number

TEMPLATES = Path(__file__).parent / "templates"
SIDE, QUALITY = 128, 75
BUDGET = 6_000_000  # bytes of pictures in the page
LIMITS = ImageLimits(min_side=1, working_side=2 * SIDE)


def render(
    references: Sequence[Reference],
    methods: Sequence[Method],
    columns: Sequence[Column],
    scores: pd.DataFrame,
    head: Head,
) -> bytes:
    """`scores`: one row a picture, with every metric's numbers beside method, reference, prompt, seed and error."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    sorted_by: dict[str, str] = {}
    for column in columns:
        if column.scores in scores and scores[column.scores].notna().any():
            sorted_by.setdefault(column.scores, column.title)  # the first that shows these numbers
    pictures, left = _pictures(references, methods, scores, list(sorted_by))
    data = {"methods": [item.name for item in methods], "rows": pictures, "sortedBy": sorted_by}
    failed = scores[scores["error"] != ""][["method", "reference", "prompt", "seed", "error"]]
    return (
        environment.get_template("evaluation.html")
        .render(
            head=head, about=ABOUT, methods=methods, columns=columns, number=number, published=PUBLISHED, left=left,
            is_missing=lambda column: isinstance(column.figure, NotMeasured),
            failed=failed.to_dict("records"),
            data=Markup(json.dumps(data).replace("<", "\\u003c")),  # nothing in it may end the script
            style=Markup((TEMPLATES / "evaluation.css").read_text("utf-8")),
            script=Markup((TEMPLATES / "evaluation.js").read_text("utf-8")),
        )
        .encode(errors="backslashreplace")
    )  # fmt: skip


def _pictures(
    references: Sequence[Reference], methods: Sequence[Method], scores: pd.DataFrame, wanted: list[str]
) -> tuple[list[dict[str, Any]], int]:
    """A row for each reference, prompt and seed with every method's picture; and how many rows the page has no room for."""
    known = {
        (row["method"], row["reference"], row["prompt"], row["seed"]): row for row in scores.to_dict(orient="records")
    }
    drawn: dict[tuple[str, str], dict[tuple[str, str], Drawn]] = {}
    for method in methods:
        for item in method.drawn:
            drawn.setdefault((method.name, item.reference.name), {})[item.prompt, item.seed] = item
    rows, used, left = [], 0, 0
    for reference in references:
        asked = sorted({key for method in methods for key in drawn.get((method.name, reference.name), {})})
        for key in asked:
            row = {"reference": reference.name, "prompt": key[0], "seed": key[1], "shown": _thumbnail(reference.file)}
            row["cells"] = [
                _cell(drawn.get((method.name, reference.name), {}).get(key), method.name, known, wanted)
                for method in methods
            ]
            size = len(row["shown"] or "") + sum(len(cell["shown"] or "") for cell in row["cells"])
            if used + size > BUDGET:
                left += 1
                continue
            used += size
            rows.append(row)
    return rows, left


def _cell(
    item: Drawn | None, method: str, known: dict[tuple[str, ...], dict[str, Any]], wanted: list[str]
) -> dict[str, Any]:
    if item is None:
        return {"shown": None, "why": "not asked for", "scores": {}}
    row = known.get((method, item.reference.name, item.prompt, item.seed), {})
    numbers = {name: row[name] for name in wanted if isinstance(row.get(name), float) and math.isfinite(row[name])}
    shown = _thumbnail(item.file) if item.file else None
    return {"shown": shown, "why": row.get("error") or item.failure, "scores": numbers}


@lru_cache(maxsize=512)  # a reference stands in many rows
def _thumbnail(file: Path) -> str | None:
    """A data: URI; None where the file is no picture."""
    try:
        picture = decode(file.read_bytes(), LIMITS)
    except (OSError, Undecodable):
        return None
    out = io.BytesIO()
    Image.fromarray(picture.view(SIDE)).save(out, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
