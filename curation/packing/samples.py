"""One kept image -> the members of its sample: picture, record, caption, identity vector."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import as_jpeg
from common.hashing import canonical_json, sha256_of_bytes
from curation.annotation.annotate import encoder_fingerprint, key_of, read_annotations
from curation.filters.base import Filter
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import Unit, UnitScores


class UnitSamples:
    """The samples that one shard has of a unit, ready to be written inside a `with`. `rows`: of the plan."""

    def __init__(
        self, run: Run, recipe: Recipe, unit: Unit, rows: list[dict[str, Any]], annotated: list[str],
        filters: dict[str, Filter], content_hash: str,
    ):  # fmt: skip
        self.recipe, self.filters, self.content_hash = recipe, filters, content_hash
        known = UnitScores(run, unit, filters)
        self.place = {text: row for row, text in enumerate(known.ids)}
        self.plan = {row["id"]: row for row in rows}
        self.images = known.images
        places = [self.place[row["id"]] for row in rows]
        taken, self.row = pa.array(places, pa.int64()), {place: number for number, place in enumerate(places)}
        self.candidates = known.fetched.take(taken).to_pylist()
        self.evidence = {name: scores.table.take(taken).to_pylist() for name, scores in known.evidence.items()}
        self.bytes = UnitBytes(run, unit.tar, known.fetched, places)
        self.encoder = encoder_fingerprint(recipe)
        self.annotations = read_annotations(run, annotated)
        self.fingerprints = canonical_json({key: item.fingerprint for key, item in sorted(filters.items())})

    def __enter__(self) -> UnitSamples:
        self.bytes.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bytes.__exit__(*error)

    def members(self, sample_id: str) -> list[tuple[str, bytes]]:
        """(extension, bytes) of a sample, in the order in which they stand in the tar."""
        row = self.place[sample_id]
        image = self.images[row]
        assert image is not None
        data = self.bytes.read(row)
        jpeg = as_jpeg(data, image["format"], self.recipe.pack.jpeg_quality, self.recipe.images)
        face = self.evidence["faces"][self.row[row]]["boxes"][self.plan[sample_id]["face"]]
        # a JPEG is packed as it was fetched, and reading compared its hash
        record = self._record(sample_id, row, face, None if jpeg is data else sha256_of_bytes(jpeg))
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

    def _record(self, sample_id: str, row: int, face: dict[str, Any], transcoded_hash: str | None) -> dict[str, Any]:
        """ID.json: the same keys and types in every sample, no nulls, lists that may be empty as one JSON string."""
        candidate = self.candidates[self.row[row]]
        image = self.images[row]
        captioned = candidate["faces"][self.plan[sample_id]["caption_face"]]
        transcoded = image["format"] != "jpeg"
        text = {key: _text(candidate[key]) for key in ("laion_caption", "image_caption", "image_short_caption")}
        evidence: dict[str, Any] = {}
        for name, item in self.filters.items():
            evidence |= item.in_sample(self.evidence[name][self.row[row]])
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
            "source_sha256": candidate["sha256"],
            "sha256": transcoded_hash or candidate["sha256"],
            "phash": image["phash"],
            "face_box": [float(value) for value in face["box"]],
            "face_landmarks": [float(value) for value in face["landmarks"]],
            "face_score": float(face["score"]),
            "caption_box": [float(value) for value in captioned["box"]],
            **evidence,
            "fingerprints": self.fingerprints,
            "identity_encoder": self.encoder,
            "content_hash": self.content_hash,
        }


def _text(value: Any) -> str:
    if value is None:
        return ""
    return canonical_json(value) if not isinstance(value, str) else value
