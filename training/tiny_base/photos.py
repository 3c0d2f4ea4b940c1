"""Pictures for a tiny base out of a folder of photos: each face twice, and the photo's squares."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np

import model.conditioning.views
from common.decode import Undecodable, decode
from common.hashing import sha256_of_bytes, sha256_of_file
from common.progress import ProgressBar, say
from common.storage import Storage
from model.conditioning.face_finder import FaceFinder
from model.conditioning.views import face_views
from model.config import ModelConfig
from training.tiny_base.pictures import PictureError, Pictures, distinct

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
WIDER = 1.5  # a second view of each face: its crop, so many times as wide


def pictures_in(folder: Path, config: ModelConfig, cache: Path) -> Pictures:
    """Pictures of every photo in `folder`, `config.resolution` pixels: each face twice, and the photo's squares.

    They are kept in `cache`: finding faces costs more than it takes to look whether the base is there.

    Raises:
        PictureError: no photos in the folder.
        WeightError: the face detector is not to be had.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in PHOTO_SUFFIXES)
    if not files:
        raise PictureError(
            f"{folder}: no photos ({', '.join(sorted(PHOTO_SUFFIXES))}) in it; `make sample` brings some"
        )
    finder = FaceFinder(identity=None)
    facts = [repr(finder.describe()), config.conditions.model_dump_json(), str(config.resolution)]
    facts += [sha256_of_file(code) for code in (__file__, model.conditioning.views.__file__)]
    facts += [sha256_of_file(file) for file in files]
    kept = cache / f"pictures-{sha256_of_bytes(' '.join(facts).encode())[:16]}.npz"
    if kept.is_file():
        try:
            with np.load(kept, allow_pickle=False) as stored:
                return Pictures(stored["pixels"], stored["photos"].tolist(), stored["faces"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            say("pictures", f"{kept} is damaged and made again: {error}")
    pixels, photos, faces, refused = [], [], [], 0
    with ProgressBar("pictures", len(files), "photos") as progress:
        for file in files:
            data = file.read_bytes()
            name = sha256_of_bytes(data)[:16]
            try:
                rgb = None if name in photos else decode(data).rgb
            except Undecodable:
                rgb, refused = None, refused + 1
            if rgb is not None:
                views, are_faces = _views(rgb, finder, config)
                pixels += views
                faces += are_faces
                photos += [name] * len(views)
            progress.advance(1)
    if not pixels:
        raise PictureError(f"{folder}: none of its {len(files)} files is a photo that can be decoded")
    pictures = distinct(Pictures(np.stack(pixels), photos, np.array(faces, bool)))
    say(
        "pictures",
        f"{len(pictures):,} of {len(set(pictures.photos))} photos; of {len(files)} files {refused} could not be "
        f"decoded, {len(set(photos)) - len(set(pictures.photos))} repeat another's motif",
    )
    buffer = io.BytesIO()
    np.savez(buffer, pixels=pictures.pixels, photos=np.array(pictures.photos), faces=pictures.faces)
    Storage(cache).write_bytes(kept.name, buffer.getvalue())
    return pictures


def _views(rgb: np.ndarray, finder: FaceFinder, config: ModelConfig) -> tuple[list[np.ndarray], list[bool]]:
    """Pictures of a photo, and which of them show a face as the model is trained on it."""
    conditions, size = config.conditions.model_dump(), config.resolution
    detected = finder(rgb)
    views = [
        face_views(rgb, face, conditions | {"crop_factor": conditions["crop_factor"] * wider}, size).image
        for wider in (1, WIDER)
        for face in detected
    ]
    height, width = rgb.shape[:2]
    side = min(height, width)
    for place in (0, 0.5, 1) if max(height, width) > 1.2 * side else (0.5,):
        top, left = int((height - side) * place), int((width - side) * place)
        square = rgb[top : top + side, left : left + side]
        views.append(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA))
    return views, [index < len(detected) for index in range(len(views))]
