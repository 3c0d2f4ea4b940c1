"""What a run is told of its drawings: the evaluation's own figures on real photos, with a known answer, or the reason."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evaluation.curve.metrics import NO_CLIP, NO_NUMBER, NO_TARGET, CurveMetrics
from evaluation.metrics import clip_similarity
from model.conditioning.face_finder import FaceFinder
from tests.evaluation.twins import clip_twin

SIDE = 256


@pytest.fixture(scope="module")
def seen(sets):
    """Photos with the largest face of each: references, and the other photo of the one that has one."""
    finder = FaceFinder(identity=None)

    def open_photo(file):
        with Image.open(file) as photo:
            square = photo.convert("RGB")
        width, height = square.size
        side = min(width, height)
        square = square.crop(((width - side) // 2, 0, (width - side) // 2 + side, side)).resize((SIDE, SIDE))
        rgb = np.asarray(square)
        return rgb, finder(rgb)[0]

    references = [open_photo(sets.references / f"{name}.jpg") for name in ("obama", "biden")]
    return references, [open_photo(sets.references / "targets" / "obama.jpg"), None]


@pytest.fixture(scope="module")
def metrics():
    return CurveMetrics()


def numbers(told):
    return {name: value for name, (value, _) in told.items()}


def test_a_copy_is_told_from_the_other_photo_of_the_person(metrics, seen):
    references, targets = seen
    words = ["", ""]
    copies = numbers(metrics([rgb for rgb, _ in references], references, targets, words, "dlib"))
    assert copies["facesim_dlib"] == pytest.approx(1) and copies["face_found"] == 1
    assert copies["copy_paste_dlib"] == copies["copy_paste_at_pose_dlib"] == pytest.approx(1)
    assert copies["likeness_at_pose_dlib"] == pytest.approx(1) and copies["photo_correlation"] == pytest.approx(1)
    assert copies["facesim_dlib_others"] < 0.95 > copies["likeness_at_pose_dlib_others"]
    other = [targets[0][0], references[1][0]]
    told = numbers(metrics(other, references, targets, words, "dlib"))
    assert told["copy_paste_dlib"] == pytest.approx(-1)
    assert copies["facesim_dlib_others"] < told["facesim_dlib"] < 1
    assert told["photo_correlation"] < 0.9


def test_a_picture_without_a_face_counts_0_and_has_no_copy_paste(metrics, seen):
    """But the place where the face was asked for can be looked at, whatever is drawn there."""
    references, targets = seen
    blurred = [np.asarray(Image.fromarray(rgb).resize((5, 5)).resize((128, 128))) for rgb, _ in references]
    told = metrics(blurred, references, targets, ["", ""], "dlib")
    found = numbers(told)
    assert found["facesim_dlib"] == found["face_found"] == 0
    assert told["copy_paste_dlib"] == (None, f"{NO_NUMBER}: no face to recognise")
    assert found["likeness_at_pose_dlib"] is not None and found["copy_paste_at_pose_dlib"] is not None
    assert found["photo_correlation"] > found["photo_correlation_others"]


def test_what_cannot_be_had_says_why(metrics, seen):
    references, _ = seen
    told = metrics([np.zeros((64, 64, 3), np.uint8)], references[:1], [None], ["a man"], "dlib")
    assert told["copy_paste_dlib"] == told["copy_paste_at_pose_dlib"] == (None, NO_TARGET)
    assert told["photo_correlation"] == (None, NO_NUMBER) and told["facesim_dlib_others"][0] is None
    assert told["clip_t"] == (None, NO_CLIP)


def test_the_model_s_own_recogniser_is_marked(metrics, seen):
    references, targets = seen
    asked = [rgb for rgb, _ in references], references, targets, ["", ""]
    assert (
        "which the model is conditioned on: it shows that the run learns" in metrics(*asked, "dlib")["facesim_dlib"][1]
    )
    assert "not conditioned on" in CurveMetrics()(*asked, "arcface")["facesim_dlib"][1]


def test_it_travels_to_a_worker_and_reads_words_where_a_clip_is_at_hand(seen, tmp_path):
    references, targets = seen
    sources = replace(CurveMetrics()._sources, models={"clip": str(clip_twin(tmp_path))})
    metrics = pickle.loads(pickle.dumps(CurveMetrics(sources)))  # noqa: S301
    told = numbers(metrics([rgb for rgb, _ in references], references, targets, ["a man", ""], "dlib"))
    assert -1 <= told["clip_t"] <= 1 and told["clip_i"] == pytest.approx(1)
    assert clip_similarity.DEFAULT in NO_CLIP
