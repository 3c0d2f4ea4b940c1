"""Drawings from photos that are never trained on, and what an evaluation that the caller gives says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from common.decode import ImageLimits, decode
from model.conditioning.faces import Face
from model.conditioning.views import crop_around
from model.pipeline import FaceMakeUpPipeline
from training.assembly import RunParts
from training.data.held_out import Place
from training.monitoring.validation import Panel, as_bytes
from training.recipe import Evaluation

SIDE = 512  # pixels of the photos that drawings are compared with: a recogniser sees more than the model draws

Seen = tuple[np.ndarray, Face]  # a square picture, uint8 (h, w, 3), and where the face in it is
Figures = Mapping[str, tuple[float | None, str]]  # by name: the number, None where there is none; what it is, or why
# evaluate(pictures, references, targets, prompts, conditioned_on), all but the last one alike in length: what was drawn,
# from which photo, another photo of the same person where one is known, by which words; and the model's own recogniser.
# The next reference is another person's. Named `X_others`, a figure is a yardstick for `X`, and drawn beside it.
Evaluate = Callable[[Sequence[np.ndarray], Sequence[Seen], Sequence[Seen | None], Sequence[str], str], Figures]


class HeldOutPanel:
    """The photos that are held out, drawn by each of the recipe's prompts. All ranks draw alike; rank 0 measures."""

    def __init__(self, parts: RunParts, asked: Evaluation, evaluate: Evaluate):
        self.parts, self.evaluate, self.words = parts, evaluate, asked.prompts
        self.panel = Panel(parts, 0, samples=parts.held_out.references)
        self._failed: set[str] = set()

    @cached_property
    def prompts(self) -> list[list[str]]:
        """For each of the recipe's prompts, the words for each photo: none at all where the recipe never gives the text."""
        own = self.panel.captions()
        if "text" not in self.panel.given:
            return [own]
        return [[words or caption for caption in own] for words in self.words]

    @cached_property
    def _photos(self) -> list[tuple[int, Seen, Seen | None]]:
        """Of each reference that can be read: its row in the panel, itself, another photo of its person."""
        held = self.parts.held_out
        return [
            (row, self._seen(photo), None if other is None else self._seen(other))
            for row, (photo, other) in enumerate(zip(held.references, held.targets, strict=True))
            if self.panel.batch.valid[row]
        ]

    def drawn(self, pipeline: FaceMakeUpPipeline, steps: int) -> list[np.ndarray]:
        """One array a prompt, float32 (B, H, W, 3) in 0..1. Under stage 3 a collective call."""
        return [self.panel.drawn(pipeline, steps, words) for words in self.prompts]

    def picture(self, drawn: Sequence[np.ndarray]) -> Image.Image:
        """Rows: the photos; columns: as they are, their pose map, drawn by each prompt."""
        return self.panel.picture(*drawn)

    def row(self, drawn: Sequence[np.ndarray]) -> dict[str, Any] | None:
        """What the log says: a number by each figure's name, None where there is none; `says`: what it is, or why it is
        not there. An evaluation that fails is no reason to end a run: `failed` says why, once, and None that it failed so again.
        """
        try:
            figures = self._figures(drawn)
        except Exception as error:  # noqa: BLE001  whatever a metric stumbles over, the run is worth more
            why = f"{type(error).__name__}: {error}"
            if why in self._failed:
                return None
            self._failed.add(why)
            return {"failed": why}
        numbers = {name: value for name, (value, _) in figures.items()}
        return {**numbers, "says": {name: says for name, (_, says) in figures.items()}}

    def _figures(self, drawn: Sequence[np.ndarray]) -> Figures:
        asked = [(place, *photo) for place in range(len(drawn)) for photo in self._photos]
        return self.evaluate(
            [as_bytes(drawn[place][row]) for place, row, _, _ in asked],
            [photo for _, _, photo, _ in asked],
            [other for _, _, _, other in asked],
            [self.prompts[place][row] for place, row, _, _ in asked],
            self.parts.config.conditions.identity_encoder,
        )

    def _seen(self, place: Place) -> Seen:
        """The crop that the model is trained on, larger, and the face in its pixels."""
        members = self.parts.shards.read(*place)
        facts = json.loads(members["json"])
        rgb = decode(members["jpg"], ImageLimits(), full_size=True).rgb
        face = Face(facts["face_box"], np.reshape(facts["face_landmarks"], (5, 2)), facts["face_score"])
        crop = crop_around(face, self.parts.config.conditions.model_dump(), rgb.shape[1], rgb.shape[0])
        box = crop.points(face.box.reshape(2, 2), SIDE).ravel()
        return crop.image(rgb, SIDE), Face(box, crop.points(face.landmarks, SIDE), face.score)
