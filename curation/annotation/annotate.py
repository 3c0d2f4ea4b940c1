"""Kept images -> the face to train on, its five landmarks and its identity vector.

Everything here is a function of (bytes, chosen face, encoder): written once per encoder, read by any cut.
"""

from __future__ import annotations

import socket
from collections import Counter
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from common.decode import decode
from common.progress import ProgressBar, say
from common.ray_runtime import map_with_tasks
from curation.cutting.cut import kept_images
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
    return fingerprint_of(recipe.open_encoder())


def fingerprint_of(encoder: IdentityEncoder | None) -> str:
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
    return Recipe.model_validate_json(recipe_json).open_encoder()


def chosen_faces(run: Run, name: str, known: UnitScores) -> dict[str, tuple[dict[str, Any], int]]:
    """For each kept id the detection to train on, and which of the candidate's faces has its caption."""
    place = {text: row for row, text in enumerate(known.ids)}
    faces = known.evidence["faces"].table["boxes"].to_pylist()
    rows = run.read_table(f"cuts/{name}/verdicts/{known.name}.parquet").to_pylist()
    return {
        row["id"]: (faces[place[row["id"]]][row["face"]], row["caption_face"])
        for row in rows
        if row["verdict"] == "kept"
    }


def annotate_unit(
    run: Run, recipe: Recipe, name: str, filters: dict[str, Filter], fingerprint: str, unit: Unit
) -> dict[str, int]:
    """Annotate the images of a unit that a cut keeps; returns how many it keeps, and how many were new.

    Raises:
        FilterBroken: this machine's encoder is not the driver's.
    """
    encoder = _encoder(recipe.model_dump_json())
    if fingerprint_of(encoder) != fingerprint:
        raise FilterBroken(
            f"on {socket.gethostname()} the identity encoder's files differ from the driver's: give every node the "
            "same folder (FACEMAKEUP_WEIGHTS)"
        )
    known = UnitScores(run, unit, {"faces": filters["faces"]})
    place = {text: row for row, text in enumerate(known.ids)}
    known_faces = annotations(run, fingerprint, unit.name)
    chosen = chosen_faces(run, name, known)
    rows = []
    for text, (face, _) in chosen.items():
        if key_of(text, face["box"]) not in known_faces:
            vector = None
            if encoder:
                picture = decode(unit.read(run, place[text]), recipe.images)
                scale = np.array(picture.scale)
                box = np.asarray(face["box"], np.float64) * np.tile(scale, 2)
                landmarks = np.asarray(face["landmarks"], np.float64).reshape(5, 2) * scale
                vector = encoder.embed(picture.rgb, box, landmarks)
            identity = None if vector is None else vector.tolist()
            rows.append({"id": text, "box": face["box"], "landmarks": face["landmarks"], "identity": identity})
    if rows:
        path = score_file(run, folder(fingerprint), unit.name)
        run.write_table(path, pa.Table.from_pylist(rows, schema=ANNOTATION))
    return {"kept": len(chosen), "new": len(rows)}


def annotate(run: Run, recipe: Recipe, name: str, snapshot: pa.Table, filters: dict[str, Filter]) -> dict[str, int]:
    """Annotate what a cut keeps; what is known already is not done again. Needs a running Ray."""
    units = units_of(snapshot)
    encoder = recipe.open_encoder()
    fingerprint = fingerprint_of(encoder)
    kept_of = Counter(kept_images(run, name)["unit"].to_pylist())
    work = [unit for unit in units if unit.name in kept_of]
    if encoder and not run.exists(f"{folder(fingerprint)}/encoder.json"):
        run.write_json(f"{folder(fingerprint)}/encoder.json", encoder.describe())
    total = {"kept": 0, "new": 0}
    if work:
        of_unit = partial(annotate_unit, run, recipe, name, filters, fingerprint)
        with ProgressBar("annotate", kept_of.total()) as progress:
            for row in map_with_tasks(work, of_unit):
                total["kept"] += row["kept"]
                total["new"] += row["new"]
                progress.advance(row["kept"])
    what = encoder.name if encoder else "no identity"
    say("annotate", f"{total['new']:,} faces ({what}), {total['kept'] - total['new']:,} not done again")
    return total
