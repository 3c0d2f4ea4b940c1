"""Faces of a photo, and choosing one of them.

All coordinates in this folder are continuous: (0, 0) is the upper left corner of the upper left pixel, and pixel (i, j)
covers [i, i+1) x [j, j+1). So a point lies in the pixel of its integer part, and a resize by r multiplies coordinates
by r. Landmarks are five rows of (x, y): left eye, right eye, nose, left and right corner of the mouth, as seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .checks import check_choice, finite_array

ChoicePolicy = Literal["only", "largest", "highest_score", "match_box"]
Box = Sequence[float] | np.ndarray  # x1 y1 x2 y2


class NoFaceError(ValueError):
    """A photo has no face that can be used."""


class SeveralFacesError(ValueError):
    """There are several faces, and the policy does not choose one."""


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face, in pixels of the upright photo.

    `box`: float32 (4,), x1 y1 x2 y2; `landmarks`: float32 (5, 2); `score`: the detector's confidence, 0..1;
    `identity`: float32 (D,), or None where it was not embedded.

    Raises:
        ValueError: an array of another shape, or with a number that is not finite.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    identity: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", finite_array("box", self.box, (4,)))
        object.__setattr__(self, "landmarks", finite_array("landmarks", self.landmarks, (5, 2)))
        if self.identity is not None:
            object.__setattr__(self, "identity", finite_array("identity", self.identity, (np.size(self.identity),)))

    @property
    def area(self) -> float:
        """Of the box, in square pixels."""
        return _area(self.box)


def choose_face(faces: Sequence[Face], policy: ChoicePolicy, box: Box | None = None, where: str = "") -> Face:
    """One face of a photo. `box` (x1 y1 x2 y2): for `match_box`, which takes the face of the highest IoU with it.

    Ties go to the higher score, then to the larger, the leftmost and the uppermost box: the order of `faces` does not
    count. `where` names the photo in errors.

    Raises:
        NoFaceError: no face, or with `match_box` none that overlaps the box.
        SeveralFacesError: several, with `only`.
        ValueError: an unknown policy, or `match_box` without a box.
    """
    check_choice("policy", policy, ChoicePolicy)
    place = f"{where}: " if where else ""
    if policy == "match_box" and box is None:
        raise ValueError(f"{place}the policy match_box needs a box (x1, y1, x2, y2) to match; give one")
    target = None if box is None else finite_array("box", box, (4,))
    if not faces:
        raise NoFaceError(f"{place}no face was found; take a photo where one face is seen from the front and not tiny")
    if policy == "only" and len(faces) > 1:
        choices = "choose by 'largest' or 'highest_score', or cut the photo to one face"
        raise SeveralFacesError(f"{place}{len(faces)} faces were found and the policy is 'only'; {choices}")
    measures = {"largest": lambda face: face.area, "match_box": lambda face: _iou(face.box, target)}
    measure = measures.get(policy, lambda face: face.score)
    best = max(faces, key=lambda face: (measure(face), face.score, face.area, *(-face.box).tolist()))
    if policy == "match_box" and measure(best) == 0:
        boxes = [face.box.round().astype(int).tolist() for face in faces]
        raise NoFaceError(f"{place}no face overlaps the box {target.tolist()}; give one of {boxes}")
    return best


def _area(box: np.ndarray) -> float:
    width, height = (box[2:] - box[:2]).astype(np.float64)
    return float(max(width, 0) * max(height, 0))


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    common = _area(np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])]))
    return common / (_area(first) + _area(second) - common) if common else 0.0
