"""A run directory up to the step fetch, of any number of images: the sample's photos over and over, each copy unique."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from common.decode import Undecodable, decode
from common.hashing import sha256_of_bytes
from curation.run_directory.attempts import images_file, part_name, unit_name
from curation.run_directory.run import Run
from curation.run_directory.schemas import FETCHED, SNAPSHOT
from curation.sample.boxes import stored_boxes
from curation.sample.photos import photos


@cache
def sample_photos() -> list[tuple[bytes, list[list[int]]]]:
    """(bytes, FaceCaption's boxes) of each photo of the sample that can be decoded."""
    found = []
    for photo in photos():
        data = photo.path.read_bytes()
        try:
            decode(data)
        except Undecodable:
            continue
        found.append((data, [list(box) for box, _ in stored_boxes().get(photo.sha256, [])]))
    return found


def photo_run(root: Path, count: int, part: int) -> tuple[Run, pa.Table]:
    """The run and its snapshot: `count` images in parts of `part`, which are the recipe's units."""
    run, known = Run(root), sample_photos()
    # which photo comes when is drawn: a part is as mixed as the web is
    turns = [np.random.default_rng(turn).permutation(len(known)) for turn in range(-(-count // len(known)))]
    which = np.concatenate(turns)[:count]
    taken = []
    for number, start in enumerate(range(0, count, part)):
        tar = f"{part_name(0, number)}-0.tar"
        rows, pieces, offset = [], [], 0
        for row in range(start, min(start + part, count)):
            data, boxes = known[which[row]]
            data += row.to_bytes(8, "big")  # behind the image's end: no two are the same bytes
            faces = [{"box": box, "caption": "A face.", "source_id": str(row)} for box in boxes]
            place = {"offset": offset, "size": len(data), "sha256": sha256_of_bytes(data)}
            rows.append({"id": f"{row:016x}", "url": f"https://photos.test/{row}.jpg", "faces": faces, **place})
            pieces.append(data)
            offset += len(data)
        run.write_bytes(tar, b"".join(pieces))
        run.write_table(images_file(tar), pa.Table.from_pylist(rows, schema=FETCHED))
        taken += [{**row, "tar": tar, "unit": unit_name(0, number)} for row in rows]
    columns = [{name: row[name] for name in SNAPSHOT.names} for row in taken]
    return run, pa.Table.from_pylist(columns, schema=SNAPSHOT)
