"""What a training run is told of its drawings from held-out photos: a callback that `jobs/train.py` hands to the trainer.

The evaluation's own metrics, as its table has them; and, since a young model draws what no detector takes for a face, the
same two where the face was asked for. One recogniser judges: another one than the model's own, where there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from common.hashing import sha256_of_bytes
from evaluation.metrics.base import Features, Figure, Metric, Pair, Sources, Unavailable
from evaluation.metrics.clip_similarity import DEFAULT, ClipSimilarity
from evaluation.metrics.face_similarity import FaceSimilarity, copy_paste
from evaluation.metrics.vectors import cosine
from model.conditioning.faces import Face
from model.conditioning.identity import EncoderName, IdentityEncoder, open_encoder

Seen = tuple[np.ndarray, Face]  # a picture, uint8 (h, w, 3), and where its face is
Told = dict[str, tuple[float | None, str]]  # by name: the number, None where there is none; what it is, or why
OTHERS = "_others"  # how the name of a yardstick ends: the figure with another person's photo
NO_TARGET = "no reference has another photo of its person: evaluation.other_photos names them"
NO_NUMBER = "no picture has this number"
NO_CLIP = f"no CLIP on this machine: `hf download {DEFAULT}`"


@dataclass(frozen=True)
class Drawings:
    """Alike in length: each picture, its reference, another photo of the person where there is one, the words."""

    pictures: Sequence[np.ndarray]
    references: Sequence[Seen]
    targets: Sequence[Seen | None]
    prompts: Sequence[str]

    @property
    def others(self) -> list[Seen | None]:
        """For each picture the next reference; None where that is the same."""
        following = [*self.references[1:], *self.references[:1]]
        return [None if one is other else other for one, other in zip(self.references, following, strict=True)]


class CurveMetrics:
    """Opens its models at the first call, so that it can travel to a worker; photos are looked at once.

    Called with what was drawn, and with the name of the recogniser that the model is conditioned on.
    """

    def __init__(self, sources: Sources | None = None):
        self._sources = sources or Sources()
        self._open: Callable[[Drawings], Told] | None = None

    def __call__(
        self,
        pictures: Sequence[np.ndarray],
        references: Sequence[Seen],
        targets: Sequence[Seen | None],
        prompts: Sequence[str],
        conditioned_on: str,
    ) -> Told:
        """Raises Unavailable: no recogniser is on this machine, or no face detector."""
        if self._open is None:
            self._open = self._opened(conditioned_on)
        return self._open(Drawings(pictures, references, targets, prompts))

    def _opened(self, conditioned_on: str) -> Callable[[Drawings], Told]:
        similarity = _recogniser(conditioned_on, self._sources)
        name = similarity.recogniser
        own = f"by {name}" + (
            ", which the model is conditioned on: it shows that the run learns, not how good it is"
            if name == conditioned_on
            else ", which the model is not conditioned on"
        )
        encoder = open_encoder(name, folder=self._sources.weights)
        try:
            clip: Metric | None = ClipSimilarity(self._sources)
        except Unavailable:
            clip = None
        of_photos = _OfPhotos()

        def tell(drawings: Drawings) -> Told:
            told = _at_pose(encoder, own, drawings, of_photos) | _of_metric(similarity, drawings, of_photos, own)
            if clip is None:
                told["clip_t"] = (None, NO_CLIP)
            else:
                told |= _of_metric(clip, drawings, of_photos)
            return told | _pixels(drawings)

        return tell


def _recogniser(conditioned_on: str, sources: Sources) -> FaceSimilarity:
    """One that the model is not conditioned on, if there is one."""
    names: list[EncoderName] = sorted(("arcface", "dlib"), key=lambda name: name == conditioned_on)
    for name in names[:-1]:
        try:
            return FaceSimilarity(name, sources)
        except Unavailable:
            continue  # the figures' own names say by whom they are
    return FaceSimilarity(names[-1], sources)


class _OfPhotos:
    """What was made of photos, each once: the same are compared with at every step."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def features(self, metric: Metric, seen: Seen) -> Features:
        return self._once(metric.name, seen, lambda: metric.features(seen[0]))

    def identity(self, encoder: IdentityEncoder, seen: Seen | None) -> np.ndarray | None:
        """Of the face where it is said to be; None also where there is no photo."""
        if seen is None:
            return None
        return self._once(
            f"identity by {encoder.name}", seen, lambda: encoder.embed(seen[0], seen[1].box, seen[1].landmarks)
        )

    def _once(self, what: str, seen: Seen, make: Callable[[], Any]) -> Any:
        key = what, sha256_of_bytes(seen[0].tobytes())
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


def _of_metric(metric: Metric, drawings: Drawings, of_photos: _OfPhotos, by: str = "") -> Told:
    """The metric's sound means, as the table has them: a photo that is unusable leaves its pictures out."""
    rows: list[Mapping[str, float | str | None]] = []
    beside: list[float | str | None] = []
    remarks: list[str] = []
    for picture, photo, target, prompt, other in zip(
        drawings.pictures, drawings.references, drawings.targets, drawings.prompts, drawings.others, strict=True
    ):
        reference = of_photos.features(metric, photo)
        if metric.unusable(reference):
            continue
        drawn = metric.features(picture)
        remarks += filter(None, [metric.remark(drawn)])
        pair = Pair(reference, drawn, target and of_photos.features(metric, target), prompt)
        rows.append(metric.scores(pair))
        if other is not None:
            beside.append(metric.scores(Pair(of_photos.features(metric, other), drawn)).get("similarity"))
    told: Told = {}
    for figure in metric.figures():
        if isinstance(figure, Figure) and figure.protocol == "sound":
            name = re.sub(r"\W+", "_", figure.title.lower())
            value = _mean([row[figure.column] for row in rows], figure.of_failures)
            says = "; ".join(filter(None, (figure.says, by)))
            if value is None:
                lacks_target = figure.column == "copy_paste" and not any(drawings.targets)
                says = NO_TARGET if lacks_target else ": ".join([NO_NUMBER, *remarks[:1]])
            told[name] = (value, says)
            if figure.column == "similarity" and figure.of_failures is not None:
                told[name + OTHERS] = (_mean(beside, figure.of_failures), "with another person's photo")
    return told


def _at_pose(encoder: IdentityEncoder, by: str, drawings: Drawings, of_photos: _OfPhotos) -> Told:
    """Likeness and copy-paste of the place where the face was asked for, without a detector."""
    like, unlike, copied = [], [], []
    for picture, photo, target, other in zip(
        drawings.pictures, drawings.references, drawings.targets, drawings.others, strict=True
    ):
        ratio = len(picture) / len(photo[0])
        asked = encoder.embed(picture, photo[1].box * ratio, photo[1].landmarks * ratio)
        reference, another, second = (of_photos.identity(encoder, seen) for seen in (photo, other, target))
        like.append(cosine(reference, asked))
        unlike.append(cosine(another, asked))
        copied.append(copy_paste(reference, asked, second))
    name, where = encoder.name, f"where the face was asked for, without a detector, so also of what is no face; {by}"
    likeness, copying = _mean(like), _mean(copied)
    return {
        f"likeness_at_pose_{name}": (likeness, NO_NUMBER if likeness is None else f"cosine {where}"),
        f"likeness_at_pose_{name}{OTHERS}": (_mean(unlike), "with another person's photo"),
        f"copy_paste_at_pose_{name}": (
            copying,
            f"1 a copy of the reference, -1 the other photo of the person; {where}"
            if copying is not None
            else NO_NUMBER if any(drawings.targets) else NO_TARGET,
        ),
    }  # fmt: skip


def _pixels(drawings: Drawings) -> Told:
    """How near the pictures are to the photos themselves: what a copy shows without any model."""
    near = [_correlation(*pair) for pair in zip(drawings.pictures, drawings.references, strict=True)]
    beside = [_correlation(*pair) for pair in zip(drawings.pictures, drawings.others, strict=True)]
    value = _mean(near)
    says = "of the grey levels of picture and reference; 1: the photo itself. It is no likeness of persons"
    return {
        "photo_correlation": (value, NO_NUMBER if value is None else says),
        f"photo_correlation{OTHERS}": (_mean(beside), "with another person's photo"),
    }


def _correlation(picture: np.ndarray, seen: Seen | None) -> float | None:
    if seen is None:
        return None
    photo = cv2.resize(seen[0], picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float64).ravel() for each in (picture, photo)]
    return float(np.corrcoef(*grey)[0, 1]) if min(each.std() for each in grey) > 0 else None


def _mean(values: Sequence[float | str | None], of_failures: float | None = None) -> float | None:
    known = [of_failures if value is None else value for value in values]
    numbers = [float(value) for value in known if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
