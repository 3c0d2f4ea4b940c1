"""The face finder of an exported folder, from the files in its `face_finder/` (model/finder_files.py writes them).

Exported folders carry this file. It does what `FaceFinder` does with CenterFace, without this project.
"""

import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .detectors.centerface import CenterFace
from .detectors.detections import suppress
from .faces import Face, NoFaceError
from .identity_networks import arcface_identity, dlib_identity, open_dlib


class FolderFinder:
    """Finds the faces of a photo, and embeds one. `folder`: has settings.json and the model files that it names."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.settings = json.loads((folder / "settings.json").read_text())

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """The faces of an upright photo, uint8 (h, w, 3), best score first, without identities."""
        (found,) = self._detector([rgb], self.settings["min_confidence"])
        height, width = rgb.shape[:2]
        return [
            Face(found.boxes[i].clip(0, [width, height] * 2), found.landmarks[i].reshape(5, 2), float(found.scores[i]))
            for i in suppress(found.boxes, found.scores, self.settings["nms_iou"])
        ]

    def embed(self, rgb: np.ndarray, face: Face) -> Face:
        """The face with its identity. `rgb`: the photo that it was found in.

        Raises:
            NoFaceError: it cannot be embedded: it is too small, or its points lie in one place.
            ValueError: the encoder's file is not in the folder.
        """
        missing = [name for name in self.settings["encoder_files"] if not (self.folder / name).is_file()]
        if missing:
            raise ValueError(
                f"{self.folder}: {', '.join(missing)} of the encoder {self.settings['encoder']} is not there"
            )
        if self.settings["encoder"] == "dlib":
            vector = dlib_identity(self._encoder, rgb, face.box)
        else:
            vector = arcface_identity(self._encoder, rgb, face.landmarks, self.settings["channel_order"])
        if vector is None:
            raise NoFaceError(
                f"the face at {face.box.round().astype(int).tolist()} (x1 y1 x2 y2) is too small or too unclear to embed; "
                "take a photo where it is larger"
            )
        return replace(face, identity=vector)

    @cached_property
    def _detector(self) -> CenterFace:
        return CenterFace(_session(self.folder / "centerface.onnx"), self.settings["input_side"])

    @cached_property
    def _encoder(self) -> Any:
        files = [self.folder / name for name in self.settings["encoder_files"]]
        return open_dlib(*map(str, files)) if self.settings["encoder"] == "dlib" else _session(files[0])


def finder_in(folder: str | Path | None) -> FolderFinder | None:
    """The finder of an exported folder; None where it has none."""
    place = Path(folder or ".", "face_finder")
    return FolderFinder(place) if folder and (place / "settings.json").is_file() else None


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # or it warns of parameters that the network does not use
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
