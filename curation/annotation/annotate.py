"""Kept images -> the face to train on, its five landmarks and its identity vector.

Everything here is a function of (bytes, chosen face, encoder): written once per encoder, read by any cut.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import decode
from common.progress import ProgressBar, say
from common.ray_runtime import map_with_tasks
from curation.annotation.encoder import build_encoder
from curation.cutting.cut import verdicts
from curation.filters.base import Filter, FilterBroken
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.schemas import ANNOTATION
from curation.run_directory.units import Unit, UnitScores, read_scores, score_file, units_of
from model.conditioning.identity import IdentityEncoder

Key = tuple[str, tuple[float, ...]]


def folder(fingerprint: str) -> str:
    return f"annotations/{fingerprint}"


def encoder_fingerprint(recipe: Recipe) -> str:
    encoder = build_encoder(recipe)
    return encoder.fingerprint if encoder else "none"


def annotations(run: Run, fingerprint: str, unit: str) -> dict[Key, dict[str, Any]]:
    """What is known of a unit: by id and chosen box, since another cut may choose another face."""
    table = read_scores(run, folder(fingerprint), unit)
    return {} if table is None else {key_of(row["id"], row["box"]): row for row in table.to_pylist()}


def key_of(candidate_id: str, box: list[float]) -> Key:
    return candidate_id, tuple(box)


@lru_cache(maxsize=1)
def _encoder(recipe_json: str) -> IdentityEncoder | None:
    """Loaded once a process: tasks of a process share it."""
    return build_encoder(Recipe.model_validate_json(recipe_json))


class Annotator:
    """Annotates the kept images of a unit. Cheap to make: the encoder is the process's."""

    def __init__(self, run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], fingerprint: str):
        self.run, self.recipe, self.name, self.filters = run, recipe, name, filters
        self.encoder = _encoder(recipe.model_dump_json())
        self.fingerprint = self.encoder.fingerprint if self.encoder else "none"
        if self.fingerprint != fingerprint:
            raise FilterBroken(
                f"on {socket.gethostname()} the identity encoder's files differ from the driver's: give every node the "
                "same folder (FACEMAKEUP_WEIGHTS)"
            )

    def __call__(self, unit: Unit) -> dict[str, Any]:
        known = UnitScores(self.run, unit, {"faces": self.filters["faces"]})
        faces = known.evidence["faces"].table["boxes"].to_pylist()
        verdict = self.run.read_table(f"cuts/{self.name}/verdicts/{unit.name}.parquet").to_pylist()
        known_faces = annotations(self.run, self.fingerprint, unit.name)
        place = {text: row for row, text in enumerate(known.ids)}
        kept = [item for item in verdict if item["verdict"] == "kept"]
        rows = []
        for item in kept:
            face = faces[place[item["id"]]][item["face"]]
            if key_of(item["id"], face["box"]) not in known_faces:
                rows.append(self._annotate(item["id"], face, unit, place[item["id"]]))
        if rows:
            path = score_file(self.run, folder(self.fingerprint), unit.name)
            self.run.write_table(path, pa.Table.from_pylist(rows, schema=ANNOTATION))
        return {"kept": len(kept), "new": len(rows)}

    def _annotate(self, candidate_id: str, face: dict[str, Any], unit: Unit, row: int) -> dict[str, Any]:
        vector = None
        if self.encoder:
            picture = decode(unit.read(self.run, row), self.recipe.images)
            scale = np.array(picture.scale)
            box = np.asarray(face["box"], np.float64) * np.tile(scale, 2)
            landmarks = np.asarray(face["landmarks"], np.float64).reshape(5, 2) * scale
            vector = self.encoder.embed(picture.rgb, box, landmarks)
        return {
            "id": candidate_id,
            "box": list(face["box"]),
            "landmarks": list(face["landmarks"]),
            "identity": None if vector is None else vector.tolist(),
        }


def annotate(run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter]) -> dict[str, int]:
    """Annotate what a cut keeps; what is known already is not done again. Needs a running Ray."""
    units = units_of(snapshot)
    fingerprint = encoder_fingerprint(recipe)
    kept_of: dict[str, int] = defaultdict(int)
    table = verdicts(run, name)
    for unit, verdict in zip(table["unit"].to_pylist(), table["verdict"].to_pylist(), strict=True):
        kept_of[unit] += verdict == "kept"
    work = [unit for unit in units if kept_of[unit.name]]
    encoder = build_encoder(recipe)
    if encoder and not run.exists(f"{folder(fingerprint)}/encoder.json"):
        run.write_json(f"{folder(fingerprint)}/encoder.json", encoder.describe())
    total = {"kept": 0, "new": 0}
    if work:
        with ProgressBar("annotate", sum(kept_of.values())) as progress:
            for row in map_with_tasks(work, lambda unit: Annotator(run, recipe, name, filters, fingerprint)(unit)):
                total["kept"] += row["kept"]
                total["new"] += row["new"]
                progress.advance(row["kept"])
    what = encoder.name if encoder else "no identity"
    say("annotate", f"{total['new']:,} faces ({what}), {total['kept'] - total['new']:,} not done again")
    return total
