"""Shards of made pictures in the format of curation/packing/pack.py (docs/run-directory.md): what tests of training read."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.hashing import sha256_of_bytes
from common.shard_format import publish_shard, write_tar
from common.storage import Storage
from training.data.index import ShardIndex

ENCODER = "dlib-0123456789ab"
CONTENT_HASH = "0123456789abcdef"

# left eye, right eye, nose, left and right corner of the mouth, as shares of the face box
POINTS = np.array([[0.31, 0.40], [0.69, 0.40], [0.50, 0.60], [0.35, 0.78], [0.65, 0.78]])


def face_picture(
    draw: np.random.Generator, side: int, grimace: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An oval with eyes, nose and mouth on a coloured ground: BGR uint8 (side, side, 3), box (4,), landmarks (5, 2).

    `grimace`: how far each landmark may stray, in face boxes; without, all faces have one pose.
    """
    ground = draw.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    picture = cv2.resize(ground, (side, side), interpolation=cv2.INTER_LINEAR)
    width = side * draw.uniform(0.4, 0.7)
    height = width * 1.25
    left, top = draw.uniform(0, side - width), draw.uniform(0, max(side - height, 1))
    strayed = POINTS + draw.uniform(-grimace, grimace, POINTS.shape) if grimace else POINTS
    landmarks = np.array([left, top]) + strayed * [width, height]
    skin = tuple(int(value) for value in draw.integers(90, 240, 3))
    centre = (int(left + width / 2), int(top + height / 2))
    cv2.ellipse(picture, centre, (int(width / 2), int(height / 2)), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x, y in landmarks[:2]:
        cv2.circle(picture, (int(x), int(y)), max(int(width / 12), 1), (20, 20, 20), -1, cv2.LINE_AA)
    mouth = [tuple(int(v) for v in point) for point in landmarks[3:]]
    cv2.line(picture, *mouth, (40, 40, 170), max(int(width / 16), 1), cv2.LINE_AA)
    return picture, np.array([left, top, left + width, min(top + height, side)]), landmarks


def sample(
    number: int, *, side: int = 64, identity_dim: int | None = 128, grimace: float = 0.0
) -> tuple[str, list[tuple[str, bytes]]]:
    """(id, [(extension, bytes)]) of sample `number`: a function of the arguments alone."""
    draw = np.random.default_rng([number, side])
    sample_id = hashlib.sha1(f"http://made.test/{number}.jpg".encode()).hexdigest()[:16]
    picture, box, landmarks = face_picture(draw, side, grimace)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    caption = f"a made face, number {number}, {'smiling' if number % 2 else 'serious'}"
    record = {
        "id": sample_id,
        "url": f"http://made.test/{number}.jpg",
        "caption": caption,
        "laion_caption": f"picture {number}",
        "image_caption": "",
        "image_short_caption": "",
        "source_id": str(number),
        "sample_id": str(number),
        "nsfw": "UNLIKELY",
        "license": "",
        "similarity": "0.3",
        "in_hq": "",
        "width": side,
        "height": side,
        "exif_orientation": 1,
        "source_format": "jpeg",
        "source_sha256": sha256_of_bytes(jpeg),
        "sha256": sha256_of_bytes(jpeg),
        "phash": f"{number:016x}",
        "face_box": box.tolist(),
        "face_landmarks": landmarks.ravel().tolist(),
        "face_score": 0.9,
        "caption_box": box.round().tolist(),
        "grayscale_std": 20.0,
        "text_boxes": "[]",
        "face_boxes": json.dumps([{"box": box.tolist(), "landmarks": landmarks.ravel().tolist(), "score": 0.9}]),
        "anime_hits": "[]",
        "fingerprints": "{}",
        "identity_encoder": ENCODER if identity_dim else "none",
        "content_hash": CONTENT_HASH,
    }
    members = [
        ("jpg", jpeg),
        ("json", json.dumps(record, sort_keys=True, separators=(",", ":")).encode()),
        ("txt", caption.encode()),
    ]
    if identity_dim:
        vector = draw.normal(size=identity_dim)
        file = io.BytesIO()
        np.save(file, (vector / np.linalg.norm(vector)).astype(np.float32), allow_pickle=False)
        members.append(("identity.npy", file.getvalue()))
    return sample_id, members


def write_shard(folder: Path, number: int, samples: Iterable[tuple[str, list[tuple[str, bytes]]]]) -> None:
    """NNNNN.tar and NNNNN.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tar = folder / f"{number:05d}.partial"
    with open(tar, "wb") as file:
        index = write_tar(file, samples)
    publish_shard(Storage(folder), f"{number:05d}", tar, index, shard=number, content_hash=CONTENT_HASH)


def make_shards(folder: Path, counts: Sequence[int], **how: Any) -> Path:
    """Shards with `counts` samples each, and sizes.json. Sample k of all has the number k: see `sample`, also for
    `how`."""
    number = 0
    for shard, count in enumerate(counts):
        numbers = range(number, number + count)
        write_shard(folder, shard, (sample(n, **how) for n in numbers))
        number += count
    (folder / "sizes.json").write_text(json.dumps({f"{shard:05d}.tar": count for shard, count in enumerate(counts)}))
    return folder


def members_of(folder: Path, index: ShardIndex, shard: int, position: int) -> dict[str, bytes]:
    data = (folder / index.names[shard]).read_bytes()
    return {name: data[at : at + size] for name, (at, size) in index.members(shard, position).items()}
