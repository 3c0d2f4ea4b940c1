"""FaceSim on real people, the published script's faults each shown, and copy-paste by its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.hashing import sha256_of_file
from common.pinned_files.weights import WEIGHTS
from common.storage import Storage
from evaluation.metrics.base import Figure, NotMeasured, Pair, Sources, Unavailable
from evaluation.metrics.face_similarity import FaceSimilarity, copy_paste
from evaluation.metrics.vectors import cosine
from evaluation.score import score
from evaluation.sets import open_method, open_references
from evaluation.table import column_of
from model.conditioning.face_finder import FaceFinder
from tests.model.conditioning.test_identity import write_network
from tests.real_photos import photo, read  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def dlib():
    return FaceSimilarity("dlib", Sources())


@pytest.fixture
def arcface(tmp_path, monkeypatch):
    """A network of ArcFace's signature with made weights."""
    file = write_network(tmp_path / "w600k_r50.onnx")
    pinned = replace(WEIGHTS["arcface-w600k-r50"], sha256=sha256_of_file(file))
    monkeypatch.setitem(WEIGHTS, "arcface-w600k-r50", pinned)
    return FaceSimilarity("arcface", Sources(str(tmp_path)))


def vector(*degrees):
    return [[float(np.cos(np.radians(d))), float(np.sin(np.radians(d)))] for d in degrees]


def test_copy_paste_is_1_for_the_reference_and_minus_1_for_the_other_photo():
    reference, target, between = vector(0, 60, 30)
    assert copy_paste(reference, reference, target) == pytest.approx(1)
    assert copy_paste(reference, target, target) == pytest.approx(-1)
    assert copy_paste(reference, between, target) == pytest.approx(0)
    assert copy_paste(reference, target, reference) is None, "a target that is the reference tells nothing"
    assert copy_paste(reference, None, target) is None


def test_a_cosine_does_not_depend_on_length_and_needs_both():
    assert cosine([3, 0], [0.5, 0]) == pytest.approx(1) and cosine([1, 0], [0, 2]) == 0
    assert cosine(None, [1.0]) is None and cosine([1.0], None) is None


def test_the_largest_face_of_several_is_recognised_and_none_is_said(dlib, photo):  # noqa: F811
    six, cat = dlib.features(photo("six").rgb), dlib.features(photo("cat").rgb)
    assert six["faces"] == 6 and len(six["largest"]) == 128
    assert cat == {"faces": 0, "largest": None, "first_swapped": None}
    assert dlib.unusable(cat) == "no face to recognise" and dlib.unusable(six) == ""
    assert dlib.remark(cat) == "no face to recognise" and dlib.remark(six) == ""
    told = dlib.scores(Pair(six, cat))
    assert told["detected"] == 0 and told["similarity"] is None


def test_a_picture_s_faces_are_found_once_for_all_metrics(photo, monkeypatch):  # noqa: F811
    sources, calls = Sources(), []
    one, other = FaceSimilarity("dlib", sources), FaceSimilarity("dlib", sources)
    plain = FaceFinder.__call__
    monkeypatch.setattr(FaceFinder, "__call__", lambda self, rgb: calls.append(1) or plain(self, rgb))
    rgb = photo("astronaut").rgb
    assert one.features(rgb) == other.features(rgb) and len(calls) == 1
    assert one.features(rgb.copy()) == other.features(rgb) and len(calls) == 3, "another array is another picture"


def test_the_published_script_swaps_channels(arcface, photo):  # noqa: F811
    """The same picture on both sides hides it; a picture with its channels exchanged does not."""
    rgb = photo("astronaut").rgb
    plain, swapped = arcface.features(rgb), arcface.features(np.ascontiguousarray(rgb[..., ::-1]))
    assert arcface.scores(Pair(plain, plain))["swapped"] == pytest.approx(1)
    assert swapped["first_swapped"] == pytest.approx(plain["largest"], abs=1e-3) and swapped["faces"] == 1
    assert arcface.scores(Pair(plain, swapped))["similarity"] == pytest.approx(
        arcface.scores(Pair(swapped, plain))["swapped"], abs=0.02
    )  # the detector moves its points by less than a pixel


def test_the_published_script_takes_the_first_face_and_not_the_largest(arcface, photo):  # noqa: F811
    rgb = photo("six").rgb
    faces, told = arcface._faces(rgb), arcface.features(rgb)
    embedded = [arcface._swapped.embed(rgb, face).identity for face in faces]
    assert told["first_swapped"] == pytest.approx(embedded[0].tolist(), abs=1e-6)
    assert len({tuple(vector.round(4)) for vector in embedded}) == 6, "it matters which"
    largest = max(range(6), key=lambda place: faces[place].area)
    assert told["largest"] == pytest.approx(arcface._finder.embed(rgb, faces[largest]).identity.tolist(), abs=1e-6)


def test_skipped_failures_move_the_published_figure_and_none_left_is_0(arcface, sets, tmp_path):
    """Of two copies one shows no face: half, but the mean of the survivors is 1; of none it is 0."""
    methods = []
    for name, shown in (("half", ["biden"]), ("none", [])):
        folder = tmp_path / name
        folder.mkdir()
        for person in ("biden", "obama"):
            (folder / f"{person}.jpg").write_bytes(
                (sets.copies / f"{person}.jpg").read_bytes() if person in shown else read("cat")
            )
        methods.append(open_method(name, folder, open_references(sets.references)))
    (scored,) = score({arcface.name: arcface}, methods, Storage(tmp_path / "out"), Sources())
    title = "FaceSim, arcface"
    sound, published = (
        column_of(figure, scored, methods).cells for figure in arcface.figures() if figure.title == title
    )
    assert sound["half"].estimate.value == pytest.approx(0.5) and published["half"].estimate.value == pytest.approx(1)
    assert published["half"].left_out == 1 and published["none"].estimate.value == 0 == sound["none"].estimate.value
    assert (scored.rows["error"] == "no face to recognise").sum() == 3, "listed"


def test_failures_count_0_in_one_figure_and_are_left_out_of_the_others(arcface):
    figures = {(figure.title, figure.protocol): figure for figure in arcface.figures()}
    assert figures["FaceSim, arcface", "sound"].of_failures == 0
    assert figures["FaceSim, arcface, faces only", "sound"].of_failures is None
    assert figures["FaceSim, arcface", "reconstructed"].of_failures is None


def test_no_other_recogniser_stands_for_theirs(dlib):
    (missing,) = [figure for figure in dlib.figures() if figure.protocol == "reconstructed"]
    assert isinstance(missing, NotMeasured) and "buffalo_l" in missing.why
    assert all(isinstance(figure, Figure) for figure in dlib.figures() if figure.protocol == "sound")


def test_a_recogniser_that_is_not_here_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)
    with pytest.raises(Unavailable, match=r"^model file w600k_r50\.onnx [^\n]*buffalo_l pack[^\n]*--weights[^\n]*$"):
        FaceSimilarity("arcface", Sources(str(tmp_path)))


def test_what_the_features_depend_on_is_in_the_fingerprint(arcface, dlib, tmp_path, monkeypatch):
    before = arcface.fingerprint
    other = write_network(tmp_path / "w600k_r50.onnx", weight=np.ones((512, 3), np.float32))
    pinned = replace(WEIGHTS["arcface-w600k-r50"], sha256=sha256_of_file(other))
    monkeypatch.setitem(WEIGHTS, "arcface-w600k-r50", pinned)
    again = FaceSimilarity("arcface", Sources(str(tmp_path)))
    assert len({before, again.fingerprint, dlib.fingerprint}) == 3
