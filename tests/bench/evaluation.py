"""Scoring beside the bare calls of its models, the real face detector and dlib's network, on the sample's photos and crops.

Core-seconds: of ours whole, from files to the cells of the table; of theirs the picture decoded by OpenCV, the detector run, the
largest face embedded. Slices of the pictures alternate.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from common.decode import Undecodable, decode
from common.hashing import sha256_of_file
from common.storage import Storage
from curation.sample.photos import photos
from evaluation.features import make_features
from evaluation.metrics.base import Metric, Sources
from evaluation.metrics.found_faces import largest
from evaluation.metrics.registry import METRICS
from evaluation.score import score
from evaluation.sets import Method, open_method, open_references
from evaluation.table import column_of
from model.conditioning.face_finder import FaceFinder
from model.conditioning.faces import NoFaceError
from tests.bench.duel import Bench, core_seconds

COUNT, REFERENCES, SLICE = 1000, 40, 100  # a slice is too small for a Ray of its own
MOST = 1.15
SIDES = 240, 1024  # of the photos that are taken: a drawn picture is of such a size


def write_pictures(root: Path, count: int) -> Method:
    """References, and of each as many crops, so that no two files are the same."""
    found = []
    for photo in photos():
        try:
            rgb = decode(photo.path.read_bytes()).rgb
        except Undecodable:
            continue
        if SIDES[0] <= min(rgb.shape[:2]) <= max(rgb.shape[:2]) <= SIDES[1]:
            found.append(rgb)
    (root / "references").mkdir()
    for place, rgb in enumerate(found[:REFERENCES]):
        cv2.imwrite(str(root / "references" / f"r{place}.jpg"), rgb[..., ::-1])
        folder = root / "pictures" / f"r{place}"
        folder.mkdir(parents=True)
        for prompt in range(-(-(count - REFERENCES) // REFERENCES)):
            shown = found[(place + prompt * REFERENCES) % len(found)]
            cut = 1 + prompt * REFERENCES // len(found)
            cv2.imwrite(str(folder / f"p{prompt}.jpg"), shown[cut:, cut:, ::-1])
    return open_method("mine", root / "pictures", open_references(root / "references"))


def bare(files: list[Path], finder: FaceFinder) -> None:
    for file in files:
        rgb = np.ascontiguousarray(
            cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        )
        if faces := finder(rgb):
            with contextlib.suppress(NoFaceError):  # too small for dlib
                finder.embed(rgb, largest(faces))


def finish(metrics: Mapping[str, Metric], method: Method, out: Storage, sources: Sources) -> None:
    for scored in score(metrics, [method], out, sources):
        for figure in scored.metric.figures():
            column_of(figure, scored, [method])


def bench(count: int = COUNT) -> Bench:
    found = Bench("evaluation, on this machine, one process")
    sources = Sources()
    metrics = {title: METRICS[title](sources) for title in ("FaceSim, dlib", "pose and face quality")}
    finder = FaceFinder(identity="dlib")
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as scratch:
        method, out = write_pictures(Path(scratch), count), Storage(Path(scratch) / "out")
        files = sorted({file for item in method.drawn for file in (item.reference.file, item.file) if file})
        make_features(metrics, {file: f"warm {file}" for file in files[:3]}, Storage(Path(scratch) / "warm"), sources)
        bare(files[:3], finder)
        ours = theirs = 0.0
        for start in range(0, len(files), SLICE):
            some = files[start : start + SLICE]
            hashes = {file: sha256_of_file(file) for file in some}
            ours += core_seconds(lambda hashes=hashes: make_features(metrics, hashes, out, sources))
            theirs += core_seconds(lambda some=some: bare(some, finder))
        ours += core_seconds(lambda: finish(metrics, method, out, sources))
    per = f"core-s for {len(files):,} pictures"
    found.row("scoring, to the table", f"{ours:.1f} {per}", "the bare calls", f"{theirs:.1f}", ours / theirs, most=MOST)
    return found
