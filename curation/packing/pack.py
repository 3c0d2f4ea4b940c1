"""Verdicts -> WebDataset shards: deterministic, exactly once.

Same snapshot, same scores, same content recipe: same bytes, for any number of workers, any order, any kill. The
plan says which sample stands where, once; a shard is a pure function of the plan, the scores and the fetched
bytes. Its sidecar is written last: readers trust only shards that have one.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.decode import as_jpeg, sha256
from common.hashing import canonical_json
from common.progress import Steps, say
from common.ray_runtime import tasks
from curation.annotation.annotate import annotations, encoder_fingerprint, key_of
from curation.cutting.cut import verdicts
from curation.filters.base import Filter
from curation.packing.card import dataset_card
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.units import UnitScores, read_image, units_of

PLAN = pa.schema({"id": pa.string(), "unit": pa.string(), "shard": pa.int32(), "slot": pa.int32()})


def make_plan(run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], units: list[dict[str, Any]]) -> pa.Table:
    """Which sample stands where: kept images in id order (a hash, hence a shuffle). Written once.

    Images that the identity encoder could not embed are left out; `no_identity.json` lists them.
    """
    path = f"cuts/{name}/plan.parquet"
    if run.exists(path):
        return run.read_table(path)
    table = verdicts(run, name)
    rows = table.filter(pc.equal(table["verdict"], "kept"))
    kept = dict(zip(rows["id"].to_pylist(), rows["unit"].to_pylist(), strict=True))
    without = _without_identity(run, recipe, name, units, filters) if recipe.annotate.identity != "none" else []
    ids = sorted(set(kept) - set(without))
    size = recipe.pack.samples_per_shard
    plan = pa.table(
        {
            "id": ids,
            "unit": [kept[text] for text in ids],
            "shard": [row // size for row in range(len(ids))],
            "slot": [row % size for row in range(len(ids))],
        },
        schema=PLAN,
    )
    run.write_json(f"cuts/{name}/no_identity.json", sorted(without))
    run.write_table(path, plan)
    return plan


def _without_identity(
    run: Run, recipe: Recipe, name: str, units: list[dict[str, Any]], filters: dict[str, Filter]
) -> list[str]:
    fingerprint = encoder_fingerprint(recipe)

    def of_unit(unit: dict[str, Any]) -> list[str]:
        known = UnitScores(run, unit, {"faces": filters["faces"]})
        chosen = _chosen_faces(run, name, unit["unit"], known)
        have = annotations(run, fingerprint, unit["unit"])
        return [text for text, (face, _) in chosen.items() if have[key_of(text, face["box"])]["identity"] is None]

    return [text for found in tasks(units, of_unit) for text in found]


def _chosen_faces(run: Run, name: str, unit: str, known: UnitScores) -> dict[str, tuple[dict[str, Any], int]]:
    """For each kept id the detection to train on, and which of the candidate's faces has its caption."""
    place = {text: row for row, text in enumerate(known.ids)}
    faces = known.evidence["faces"].table["boxes"].to_pylist()
    rows = run.read_table(f"cuts/{name}/verdicts/{unit}.parquet").to_pylist()
    return {
        row["id"]: (faces[place[row["id"]]][row["face"]], row["caption_face"])
        for row in rows
        if row["verdict"] == "kept"
    }


# -- a sample --------------------------------------------------------------------------------------------------


class UnitSamples:
    """The samples of one unit, ready to be written."""

    def __init__(
        self, run: Run, recipe: Recipe, name: str, unit: dict[str, Any], filters: dict[str, Filter], hash_: str
    ):
        self.run, self.recipe, self.unit, self.content_hash = run, recipe, unit, hash_
        known = UnitScores(run, unit, filters)
        self.place = {text: row for row, text in enumerate(known.ids)}
        self.images = known.images
        self.candidates = known.candidates.to_pylist()
        self.evidence = {key: item.table.to_pylist() for key, item in known.evidence.items()}
        self.chosen = _chosen_faces(run, name, unit["unit"], known)
        self.encoder = encoder_fingerprint(recipe)
        self.annotations = annotations(run, self.encoder, unit["unit"])
        self.fingerprints = canonical_json({key: item.fingerprint for key, item in sorted(filters.items())})

    def members(self, sample_id: str) -> list[tuple[str, bytes]]:
        """(extension, bytes) of a sample, in the order in which they stand in the tar."""
        row = self.place[sample_id]
        unit, image = self.unit, self.images[row]
        assert image is not None
        data = read_image(self.run, unit["tar"], unit["offsets"][row], unit["sizes"][row], unit["hashes"][row])
        jpeg = as_jpeg(data, image["format"], self.recipe.pack.jpeg_quality, self.recipe.images)
        face, caption_face = self.chosen[sample_id]
        record = self._record(sample_id, row, face, caption_face, jpeg)
        caption = record[
            {"face": "caption", "image": "image_caption", "laion": "laion_caption"}[self.recipe.pack.caption]
        ]
        members = [
            ("jpg", jpeg),
            ("json", canonical_json(record).encode()),
            ("txt", caption.encode()),
        ]
        if self.encoder != "none":
            vector = io.BytesIO()
            identity = self.annotations[key_of(sample_id, face["box"])]["identity"]
            np.save(vector, np.array(identity, dtype=np.float32), allow_pickle=False)
            members.append(("identity.npy", vector.getvalue()))
        return members

    def _record(self, sample_id: str, row: int, face: dict[str, Any], caption_face: int, jpeg: bytes) -> dict[str, Any]:
        """ID.json: the same keys and types in every sample, no nulls, lists that may be empty as one JSON string."""
        image, candidate, unit = self.images[row], self.candidates[row], self.unit
        captioned = candidate["faces"][caption_face]
        transcoded = image["format"] != "jpeg"
        text = {key: _text(candidate[key]) for key in ("laion_caption", "image_caption", "image_short_caption")}
        evidence = {key: rows[row] for key, rows in self.evidence.items()}
        return {
            "id": sample_id,
            "url": candidate["url"],
            "caption": captioned["caption"],
            **text,
            "source_id": _text(captioned["source_id"]),
            "sample_id": _text(candidate["sample_id"]),
            "nsfw": _text(candidate["nsfw"]),
            "license": _text(candidate["license"]),
            "similarity": _text(candidate["similarity"]),
            "in_hq": _text(candidate["in_hq"]),
            "width": image["width"],
            "height": image["height"],
            "exif_orientation": 1 if transcoded else image["exif_orientation"],
            "source_format": image["format"],
            "source_sha256": unit["hashes"][row],
            "sha256": sha256(jpeg),
            "phash": image["phash"],
            "face_box": [float(value) for value in face["box"]],
            "face_landmarks": [float(value) for value in face["landmarks"]],
            "face_score": float(face["score"]),
            "caption_box": [float(value) for value in captioned["box"]],
            "grayscale_std": float(evidence["grayscale"]["std"]),
            "text_boxes": canonical_json(evidence["text"]["boxes"]),
            "face_boxes": canonical_json(evidence["faces"]["boxes"]),
            "anime_hits": canonical_json(evidence["anime"]["hits"]),
            "fingerprints": self.fingerprints,
            "identity_encoder": self.encoder,
            "content_hash": self.content_hash,
        }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return canonical_json(value) if not isinstance(value, str) else value


# -- a shard ---------------------------------------------------------------------------------------------------


def write_tar(file: BinaryIO, samples: Iterable[tuple[str, list[tuple[str, bytes]]]]) -> list[dict[str, Any]]:
    """A tar with nothing in it that changes from one run to the next. Holds one sample in memory at a time.

    Returns:
        For each sample {"id", "members": {extension: [offset, size]}}: where its bytes stand in the tar.
    """
    index = []
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample_id, members in samples:
            places = {}
            for extension, data in members:
                info = tarfile.TarInfo(f"{sample_id}.{extension}")
                info.size, info.mode = len(data), 0o644
                places[extension] = [file.tell() + tarfile.BLOCKSIZE, len(data)]
                tar.addfile(info, io.BytesIO(data))
            index.append({"id": sample_id, "members": places})
    return index


def write_shard(
    run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], content_hash: str, row: dict[str, Any]
) -> dict[str, Any]:
    """One shard and, last, its sidecar. `row`: `shard`, `plan`, and the aligned `ids` and `units_of_ids`; `units`."""
    stem = f"shards/{name}/{row['shard']:05d}"
    units = {unit["unit"]: UnitSamples(run, recipe, name, unit, filters, content_hash) for unit in row["units"]}
    samples = (
        (sample_id, units[unit].members(sample_id))
        for sample_id, unit in zip(row["ids"], row["units_of_ids"], strict=True)
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "shard.tar"
        with open(path, "wb") as file:
            index = write_tar(file, samples)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        run.put_file(path, f"{stem}.tar")
    sidecar = {
        "shard": row["shard"],
        "samples": len(index),
        "bytes": size,
        "sha256": digest,
        "revision": 0,
        "content_hash": content_hash,
        "plan": row["plan"],
        "index": index,
    }
    # not canonical: members are listed in the order in which they stand
    run.write_bytes(f"{stem}.json", json.dumps(sidecar, separators=(",", ":")).encode())
    return {"shard": row["shard"], "samples": len(index)}


def pack(
    run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter], content_hash: str
) -> dict[str, int]:
    """Write the shards that the plan describes; those that stand there whole are not written again."""
    units = units_of(snapshot)
    plan = make_plan(run, recipe, name, filters, units)
    rows = plan.to_pylist()
    by_name = {unit["unit"]: unit for unit in units}
    todo, done = [], 0
    size = recipe.pack.samples_per_shard
    for number, start in enumerate(range(0, len(rows), size)):
        part = rows[start : start + size]
        ids = [row["id"] for row in part]
        key = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
        if _stands(run, f"shards/{name}/{number:05d}", key, content_hash):
            done += 1
        else:
            names = [row["unit"] for row in part]
            needed = [by_name[unit] for unit in sorted(set(names))]
            todo.append({"shard": number, "ids": ids, "units_of_ids": names, "units": needed, "plan": key})
    if todo:
        write = partial(write_shard, run, recipe, name, filters, content_hash)
        with Steps("pack", sum(len(row["ids"]) for row in todo), "samples") as steps:
            for row in tasks(todo, write):
                steps.advance(row["samples"])
    shards = -(-len(rows) // recipe.pack.samples_per_shard)
    sizes = {f"{number:05d}.tar": min(recipe.pack.samples_per_shard, len(rows) - number * recipe.pack.samples_per_shard)
             for number in range(shards)}  # fmt: skip
    run.write_json(f"shards/{name}/sizes.json", sizes)
    run.write_bytes(f"shards/{name}/README.md", dataset_card(run, recipe, name, rows, content_hash).encode())
    say("pack", f"{len(rows):,} samples in {shards:,} shards; {len(todo):,} written, {done:,} not written again")
    return {"samples": len(rows), "shards": shards, "written": len(todo)}


def _stands(run: Run, stem: str, plan: str, content_hash: str) -> bool:
    if not run.exists(f"{stem}.json") or not run.exists(f"{stem}.tar"):
        return False
    sidecar = run.read_json(f"{stem}.json")
    whole = run.fs.size(run.path(f"{stem}.tar")) == sidecar["bytes"]
    return whole and sidecar["plan"] == plan and sidecar["content_hash"] == content_hash


def main() -> None:
    from curation.pipeline import step_arguments, step_main

    parser = argparse.ArgumentParser(prog="python -m curation.packing.pack", description=__doc__)
    step_main("pack", step_arguments(parser).parse_args())


if __name__ == "__main__":
    main()
