"""Finds the faces of an uploaded photo for the demo page: numbered boxes, and what the model is given of one face."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from common.decode import Undecodable, decode
from generation.demo.limits import PHOTO
from generation.loading import LoadedModel
from generation.photos import PhotoError
from model.conditioning.faces import ChoicePolicy, Face, SeveralFacesError, choose_face
from model.conditioning.pose_map import POSE_COLOURS
from model.conditioning.views import FaceViews, face_views

ANOTHER = "take another JPEG, PNG or WebP photo"
SMALLER = "save a smaller copy of it, as JPEG, and add that"
REASONS = {
    "empty": f"The file is empty: {ANOTHER}.",
    "not_an_image": f"The file is no picture: {ANOTHER}.",
    "animated": f"The picture is animated: {ANOTHER}.",
    "too_many_pixels": f"The picture has more than {PHOTO.max_pixels // 1_000_000} megapixels: {SMALLER}.",
    "too_many_scans": f"The picture is built up in too many steps: {SMALLER}.",
    "too_much_memory": f"The picture takes too much memory: {SMALLER}.",
    "too_small": f"The picture is smaller than {PHOTO.min_side} pixels: {ANOTHER}.",
    "truncated": "The file ends in the middle of the picture: copy it anew from where it came, or take another photo.",
    "corrupt": f"The file is damaged: {ANOTHER}.",
}
OTHER_FORMAT = "{} files are not read: save the photo as JPEG or PNG, and add that."
SHOWN_SIDE = 1024  # pixels: longer side of the picture with boxes
CHOSEN, OTHER, DARK = (20, 184, 166), (250, 204, 21), (17, 24, 39)  # RGB


class NoFacePicked(SeveralFacesError):
    """Several faces, and none was picked. `photo`: the photo with all of them."""

    def __init__(self, photo: AnalysedPhoto):
        super().__init__(f"{len(photo.faces)} faces were found: pick one by its number, or click it in the picture.")
        self.photo = photo


@dataclass(frozen=True)
class AnalysedPhoto:
    """A photo and its faces.

    `rgb`: uint8 (h, w, 3), upright; `faces`: from left to right; `chosen`: an index into them, or None.
    `face`: the chosen one with its identity; `views`: what the model is given of it. None where none is chosen.
    """

    rgb: np.ndarray
    faces: list[Face]
    chosen: int | None = None
    face: Face | None = None
    views: FaceViews | None = None

    def annotated(self) -> np.ndarray:
        """The photo with boxes, numbers (where there are several) and the five points: uint8 (h, w, 3)."""
        height, width = self.rgb.shape[:2]
        ratio = min(1.0, SHOWN_SIDE / max(height, width))
        size = max(1, round(width * ratio)), max(1, round(height * ratio))
        canvas = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA)
        line = max(2, round(max(size) / 200))
        for index, face in enumerate(self.faces):
            colour = CHOSEN if index == self.chosen else OTHER
            left, top, right, bottom = (int(value) for value in face.box * ratio)
            cv2.rectangle(canvas, (left, top), (right, bottom), DARK, 2 * line + 1)
            cv2.rectangle(canvas, (left, top), (right, bottom), colour, line)
            radius = min(max(1, (right - left) // 25), line + 1)
            for point, point_colour in zip(face.landmarks * ratio, POSE_COLOURS, strict=True):
                centre = int(point[0]), int(point[1])
                cv2.circle(canvas, centre, radius + 1, DARK, -1)
                cv2.circle(canvas, centre, radius, point_colour, -1)
            if len(self.faces) > 1:
                _draw_number(canvas, str(index + 1), left, top, colour, max(size) / 800)
        return canvas

    def face_at(self, x: float, y: float) -> int | None:
        """The smallest face whose box has the point, in pixels of `annotated()`; None: no face is there."""
        scale = max(1.0, max(self.rgb.shape[:2]) / SHOWN_SIDE)
        at = np.array([x, y]) * scale
        hit = [i for i, face in enumerate(self.faces) if (at >= face.box[:2]).all() and (at < face.box[2:]).all()]
        return min(hit, key=lambda i: self.faces[i].area, default=None)


def _draw_number(
    canvas: np.ndarray, text: str, left: int, top: int, colour: tuple[int, int, int], scale: float
) -> None:
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    (width, height), _ = cv2.getTextSize(text, font, scale, weight)
    x, y = max(left, 0), max(top, height + 8)
    cv2.rectangle(canvas, (x, y - height - 8), (x + width + 8, y), colour, -1)
    cv2.putText(canvas, text, (x + 4, y - 4), font, scale, DARK, weight, cv2.LINE_AA)


def read_upload(path: str | Path) -> np.ndarray:
    """The pixels of an uploaded file: uint8 RGB (h, w, 3), upright.

    Raises:
        PhotoError: not a picture, or not one that is read here; a sentence for the user, with the remedy.
    """
    try:
        return decode(Path(path).read_bytes(), PHOTO, full_size=True).rgb
    except FileNotFoundError as error:
        raise PhotoError("The photo was deleted here, since it is old: add it again.") from error
    except Undecodable as error:
        raise PhotoError(REASONS.get(error.reason) or OTHER_FORMAT.format(error.reason.upper())) from error


class PhotoAnalyser:
    """Finds faces for all users of a page, one photo at a time (detectors hold state). Keeps nothing of them."""

    def __init__(self, model: LoadedModel):
        self._finder = model.pipeline.face_finder
        self._conditions = model.pipeline.config.conditions
        self._size = model.size
        self._lock = threading.Lock()

    def find_faces(self, path: str | Path) -> AnalysedPhoto:
        """All faces of a photo, none chosen.

        Raises:
            PhotoError: see `read_upload`.
        """
        rgb = read_upload(path)
        with self._lock:
            faces = self._finder(rgb)
        return AnalysedPhoto(rgb, sorted(faces, key=lambda face: float(face.box[0])))

    def choose_face(self, path: str | Path, policy: ChoicePolicy, picked: int | None = None) -> AnalysedPhoto:
        """The photo with one of its faces chosen. `picked`: its index from the left; else `policy` decides.

        Raises:
            PhotoError: see `read_upload`.
            NoFacePicked: several faces, the policy is `only`, and none was picked.
            NoFaceError: none, or too small to be recognised.
        """
        photo = self.find_faces(path)
        rgb, faces = photo.rgb, photo.faces
        if picked is not None and picked < len(faces):
            face = choose_face(faces, "match_box", faces[picked].box)
        elif policy == "only" and len(faces) > 1:
            raise NoFacePicked(photo)
        else:
            face = choose_face(faces, policy)
        chosen = next(index for index, known in enumerate(faces) if known is face)
        with self._lock:
            face = self._finder.embed(rgb, face)
        return AnalysedPhoto(rgb, faces, chosen, face, face_views(rgb, face, self._conditions, self._size))
