"""Kept images -> the face to train on, its five landmarks and its identity vector.

Everything here is a function of (bytes, chosen face, encoder): written once per encoder, read by any cut.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from common.cluster.shipped import ShippedWeights
from common.cluster.work import map_with_tasks
from common.decode import Undecodable, decode
from common.progress import ProgressBar, say
from curation.cutting.cut import current_pass, kept_by_file, read_funnel
from curation.filters.base import Filter, FilterBroken
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run
from curation.run_directory.schemas import ANNOTATION
from curation.run_directory.scores import score_files, write_unit
from curation.run_directory.unit_bytes import UnitBytes
from curation.run_directory.units import Unit, UnitScores, coded, units_of
from curation.scoring.careful import DECODER, Blame, Watch, run_in_children
from model.conditioning.identity import IdentityEncoder

ENCODER = "encoder"  # the stage after the decoder
FACE_SIDE = 112  # pixels that a face should have when it is embedded, if it has them in the file: ArcFace's crop
Key = tuple[str, tuple[float, ...]]
OfUnit = Callable[..., dict[str, Any]]


def folder(fingerprint: str) -> str:
    return f"annotations/{fingerprint}"


def encoder_fingerprint(recipe: Recipe) -> str:
    return fingerprint_of(recipe.open_encoder())


def fingerprint_of(encoder: IdentityEncoder | None) -> str:
    return encoder.fingerprint if encoder else "none"


def read_annotations(run: Run, files: list[str]) -> dict[Key, dict[str, Any]]:
    """What is known of a unit: by id and chosen box, since another cut may choose another face."""
    return {
        key_of(row["id"], row["box"]): row
        for table in run.read_each(files, ANNOTATION.names)
        for row in table.to_pylist()
    }


def key_of(candidate_id: str, box: list[float]) -> Key:
    return candidate_id, tuple(box)


@lru_cache(maxsize=1)
def _encoder(recipe_json: str) -> IdentityEncoder | None:
    """Loaded once a process: tasks of a process share it."""
    return Recipe.model_validate_json(recipe_json).open_encoder()


@dataclass(frozen=True)
class KeptFaces:
    """The images of a unit that a cut keeps, each with the index of its face in the faces evidence; `files`: what is
    stored of the unit's annotations."""

    unit: Unit
    ids: list[str]
    faces: list[int]
    files: list[str]


def annotate_unit(
    run: Run, recipe: Recipe, faces: Filter, fingerprint: str, kept: KeptFaces,
    watch: Watch = lambda stage, ids: nullcontext(), blame: Blame | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Annotate the images of a unit that a cut keeps.

    Returns:
        `kept`: how many those are; `new`: how many were not known; `without`: the ids of those without an identity.

    Raises:
        FilterBroken: this machine's encoder is not the driver's.
    """
    encoder = _encoder(recipe.model_dump_json())
    if fingerprint_of(encoder) != fingerprint:
        raise FilterBroken(
            f"on {socket.gethostname()} the identity encoder's files differ from the driver's: give every node the "
            "same folder (FACEMAKEUP_WEIGHTS)"
        )
    known = UnitScores(run, kept.unit, {"faces": faces})
    place = {text: row for row, text in enumerate(known.ids)}
    boxes = known.evidence["faces"].table["boxes"].take(pa.array([place[text] for text in kept.ids])).to_pylist()
    chosen = {text: found[face] for text, found, face in zip(kept.ids, boxes, kept.faces, strict=True)}
    stored = read_annotations(run, kept.files)
    missing = {place[text]: text for text, face in chosen.items() if key_of(text, face["box"]) not in stored}
    rows = []
    with UnitBytes(run, kept.unit.tar, known.fetched, list(missing) if encoder else []) as data:
        for row in data.in_tar_order if encoder else missing:
            text, face = missing[row], chosen[missing[row]]
            vector, error = None, None
            if encoder:
                vector, error = _embed(encoder, recipe, data.read(row), text, face, watch, blame or {})
            identity = None if vector is None else vector.tolist()
            facts = {"identity": identity, "has_identity": identity is not None, "error": error}
            rows.append({"id": text, "box": face["box"], "landmarks": face["landmarks"], **facts})
    if rows:
        rows.sort(key=lambda row: row["id"])
        write_unit(run, folder(fingerprint), kept.unit.name, pa.Table.from_pylist(rows, schema=ANNOTATION))
    stored |= {key_of(row["id"], row["box"]): row for row in rows}
    # where there is no encoder nobody lacks an identity
    lacks = {key for key, row in stored.items() if encoder and row["identity"] is None}
    without = [text for text, face in chosen.items() if key_of(text, face["box"]) in lacks]
    return {"kept": len(chosen), "new": len(rows), "without": without}


def _embed(
    encoder: IdentityEncoder, recipe: Recipe, data: bytes, text: str, face: dict[str, Any], watch: Watch, blame: Blame
) -> tuple[np.ndarray | None, str | None]:
    """The identity of an image's face, or why there is none: the encoder ended a process twice."""
    for stage in (DECODER, ENCODER):
        if how := blame.get((text, stage)):
            return None, f"{how} a process in the {stage}, twice"
    box, landmarks = np.asarray(face["box"], np.float64), np.asarray(face["landmarks"], np.float64).reshape(5, 2)

    with watch(DECODER, [text]):
        picture = decode(data, recipe.images)
        side = float(min(box[2:] - box[:2]))
        if side * min(picture.scale) < FACE_SIDE and max(picture.scale) < 1:
            # the face is small only because the picture was decoded small
            larger = math.ceil(max(picture.width, picture.height) * min(1.0, FACE_SIDE / max(side, 1.0)))
            with contextlib.suppress(Undecodable):  # there is not the memory for it: then it stays small
                picture = decode(data, recipe.images.model_copy(update={"working_side": larger}))
    scale = np.array(picture.scale)
    with watch(ENCODER, [text]):
        vector = encoder.embed(picture.rgb, box * np.tile(scale, 2), landmarks * scale)
    return vector, None


def annotate(
    run: Run,
    recipe: Recipe,
    name: str,
    snapshot: pa.Table,
    filters: dict[str, Filter],
    shipped: ShippedWeights | None = None,
) -> dict[str, int]:
    """Annotate what a cut keeps, and write down whom it leaves without an identity; what is known already is not done
    again. Needs a running Ray. `shipped`: model files for nodes that lack them."""
    encoder = recipe.open_encoder()
    fingerprint = fingerprint_of(encoder)
    verdicts = current_pass(run, name)
    kept = (read_funnel(run, name) or {"kept": 0})["kept"]
    if encoder and not run.exists(f"{folder(fingerprint)}/encoder.json"):
        run.write_json(f"{folder(fingerprint)}/encoder.json", encoder.describe())
    total, without = {"kept": 0, "new": 0}, []
    if kept:
        stored = score_files(run, folder(fingerprint))
        work = _kept_faces(kept_by_file(run, name), units_of(run, snapshot), stored)
        of_unit = partial(annotate_unit, run, recipe, filters["faces"], fingerprint)
        usual, careful = (partial(call, of_unit, shipped, recipe.weights) for call in (_annotate, _annotate_carefully))
        with ProgressBar("annotate", kept) as progress:
            for row in map_with_tasks(work, usual, when_killed=careful):
                total["kept"] += row["kept"]
                total["new"] += row["new"]
                without += row["without"]
                progress.advance(row["kept"])
    run.write_json(no_identity_file(name), {"verdicts": verdicts, "ids": sorted(without)})
    what = encoder.name if encoder else "no identity"
    say("annotate", f"{total['new']:,} faces ({what}), {total['kept'] - total['new']:,} not done again")
    return total


def no_identity_file(name: str) -> str:
    """Path of the ids that the encoder could not embed, for the verdicts that it names."""
    return f"cuts/{name}/no_identity.json"


def _kept_faces(tables: Iterator[pa.Table], units: list[Unit], stored: dict[str, list[str]]) -> Iterator[KeptFaces]:
    by_name = {unit.name: unit for unit in units}
    for kept in tables:
        codes, names = coded(kept["unit"])
        order = np.argsort(codes, kind="stable")  # in a unit they stay in id order
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            rows = kept.take(order[start:stop])
            name = names[codes[order[start]]]
            yield KeptFaces(by_name[name], rows["id"].to_pylist(), rows["face"].to_pylist(), stored.get(name, []))


def _annotate(of_unit: OfUnit, shipped: ShippedWeights | None, weights: str | None, kept: KeptFaces) -> dict[str, Any]:
    if shipped is not None:
        shipped.place(weights)
    return of_unit(kept)


def _annotate_carefully(
    of_unit: OfUnit, shipped: ShippedWeights | None, weights: str | None, kept: KeptFaces
) -> dict[str, Any]:
    """In a child process, after a worker was ended by this unit: the image that did it gets no identity."""
    if shipped is not None:
        shipped.place(weights)
    return run_in_children(partial(_InChild, of_unit), kept)


class _InChild:
    """`annotate_unit` as run_in_children (careful.py) makes and calls it."""

    def __init__(self, of_unit: OfUnit, watch: Watch, blame: Blame):
        self.of_unit = partial(of_unit, watch=watch, blame=blame)

    def __call__(self, kept: KeptFaces) -> dict[str, Any]:
        return self.of_unit(kept)
