"""VLM-score: what an image-text model says, 0 to 100, when it is asked how real a face looks.

Sound: its likeliest answer, read whatever stands around the number; an answer without one is listed, and the share of answers
that could be read is a figure. Reconstructed (facts of the published avg_score_qwen2vl.py): answered as the model's own settings
say, drawn at random where they say so, which nobody can repeat, so here by a fixed seed; the answer must be bare JSON, others
are left out without a word; a bare number, or a score that is a string, ends the script.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.hashing import sha256_of_bytes
from evaluation.metrics.base import SHARE, AnyFigure, Features, Figure, Metric, Pair, Sources, Unavailable
from evaluation.metrics.hub_models import find_model, hashes_of
from evaluation.metrics.networks.image_text import ImageTextModel

DEFAULT = "Qwen/Qwen2-VL-7B-Instruct"  # of the published figure
PROMPT = Path(__file__).with_name("vlm_prompt.md")
SEED = 0  # of an answer that is drawn
LISTED = (".png", ".jpg", ".jpeg", ".bmp", ".gif")  # by the published script, in any case
NUMBER = r"[-+]?\d+(?:\.\d+)?"
SCALE = re.compile(r"/\s*100\b|\bout of 100\b|\b0\s*(?:-|–|to)\s*100\b|%", re.IGNORECASE)  # what it is a score of
SCALED = re.compile(rf"({NUMBER})\s*(?:/\s*100\b|out of 100\b|%)", re.IGNORECASE)
NAMED = re.compile(rf"""score["'*]*\s*(?:is|of|:|=)+\s*["'*]*({NUMBER})""", re.IGNORECASE)


class VlmScore(Metric):
    """VLM-score by one model."""

    name, version = "vlm", 1
    columns = (pa.field("answer", pa.string()), pa.field("published_answer", pa.string()))

    def __init__(self, sources: Sources):
        self.model, folder = find_model("vlm", DEFAULT, sources)
        self._prompt, self._hashes = PROMPT.read_text("utf-8").strip(), hashes_of(folder)
        try:
            self._asked = ImageTextModel(folder, sources.torch_device)
        except (ImportError, OSError, ValueError) as error:
            told = " ".join(str(error).split())
            raise Unavailable(f"{self.model}: transformers cannot open it here: {told[:300]}") from error

    def describe(self) -> dict[str, Any]:
        return {"model": self._hashes, "prompt": sha256_of_bytes(self._prompt.encode())}

    def features(self, rgb: np.ndarray) -> Features:
        answer = self._asked.answer(rgb, self._prompt)
        drawn = self._asked.answer(rgb, self._prompt, SEED) if self._asked.draws else answer
        return {"answer": answer, "published_answer": drawn}

    def remark(self, drawn: Features) -> str:
        answer = drawn["answer"]
        return "" if score_of(answer) is not None else f"the answer holds no score: {answer[:80]!r}"

    def scores(self, pair: Pair) -> dict[str, float | str | None]:
        score = score_of(pair.drawn["answer"])
        published, stops = published_score(pair.drawn["published_answer"])
        read = float(score is not None)
        return {"score": score, "read": read, "published": published, "stops": stops, "answer": pair.drawn["answer"]}

    def figures(self) -> Sequence[AnyFigure]:
        by = f"by {self.model}, asked {self._prompt!r}"
        listed = LISTED + tuple(suffix.upper() for suffix in LISTED)
        how = "drawn by a fixed seed" if self._asked.draws else "its settings draw nothing"
        return [
            Figure("VLM-score", "score", says=f"0 to 100; the likeliest answer; answers without a score left out; {by}", bounds=(0, 100)),
            Figure("VLM answers read", "read", says="share of the answers that hold a score", higher_is_better=None, bounds=SHARE),
            Figure(
                "VLM-score", "published", "reconstructed", suffixes=listed, stops=_stops,
                says=f"answers of bare JSON only, others left out; {how}; {by}",
            ),
        ]  # fmt: skip


def score_of(answer: str) -> float | None:
    """The score in an answer: in JSON, called so, out of 100, or the number alone; None if there is none, or several."""
    found = _in_json(answer)
    if found is None:
        words = SCALE.sub(" ", answer)
        numbers = set(NAMED.findall(words)) or set(SCALED.findall(answer))
        if not numbers and (
            SCALE.search(answer) or not re.search("[^\\W\\d_]", answer)
        ):  # the scale is said, or no word is
            numbers = set(re.findall(NUMBER, words))
        found = float(numbers.pop()) if len(numbers) == 1 else None
    return found if found is not None and 0 <= found <= 100 else None


def _in_json(answer: str) -> float | None:
    for start in (place.start() for place in re.finditer(r"\{", answer)):
        try:
            told, _ = json.JSONDecoder().raw_decode(answer[start:])
            value = {str(name).lower(): value for name, value in told.items()}["score"]
            return float(SCALE.sub("", value) if isinstance(value, str) else value)
        except (ValueError, TypeError, KeyError):
            continue  # another brace may begin it
    return None


def published_score(answer: str) -> tuple[float | None, str]:
    """The score as the published script reads it, None: left out; and why the script ends with an error, "" if not."""
    try:
        told = json.loads(answer.strip())
    except json.JSONDecodeError:
        return None, ""
    if not isinstance(told, dict):
        return None, f"the answer {answer[:80]!r} is no JSON object"
    score = told.get("score")
    if score is None or isinstance(score, int | float):
        return None if score is None else float(score), ""
    return None, f"the score {score!r} is no number"


def _stops(row: Mapping[str, Any]) -> str:
    return row["stops"] if isinstance(row.get("stops"), str) else ""
