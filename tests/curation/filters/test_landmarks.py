"""Two looks at where the eyes are: they agree on a face, and not where one of them says that they are elsewhere."""

from __future__ import annotations

import cv2
import pyarrow as pa
import pytest

from common.decode import Picture
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.landmarks import Landmarks, LandmarksThresholds


def test_they_agree_on_a_face_at_any_size_and_say_nothing_without_one(make, photo):
    plain, none = photo("astronaut"), photo("rocket")
    found = make("faces").score([plain, none], {})
    small = Picture(cv2.resize(plain.rgb, None, fx=0.5, fy=0.5), plain.width, plain.height, 1, "png")
    evidence = make("landmarks").score([plain, small, none], {"faces": found.take([0, 0, 1])})
    large, little, nothing = evidence["apart"].to_pylist()
    assert 0 < large < 0.05 and little == pytest.approx(large, abs=0.01) and nothing == 0


def test_a_face_that_is_said_to_be_elsewhere_is_rejected(make, photo):
    (face,) = make("faces").score([photo("astronaut")], {})["boxes"].to_pylist()[0][:1]
    eyes_at_the_mouth = [*face["landmarks"][6:10], *face["landmarks"][4:]]
    faces = pa.array(
        [[face], [{**face, "landmarks": eyes_at_the_mouth}], None], make("faces").score([], {})["boxes"].type
    )
    one = make("landmarks")
    evidence = one.score([photo("astronaut")] * 3, {"faces": pa.table({"boxes": faces})})
    assert one.verdict(evidence, LandmarksThresholds()).tolist() == [PASS, FAIL, UNKNOWN]
    assert one.in_sample(evidence.to_pylist()[0]) == {"eyes_apart": evidence["apart"][0].as_py()}


def test_rows_stand_alone(photo, make, assert_rows_stand_alone):
    pictures = [photo(name) for name in ("astronaut", "cat", "six")]
    assert_rows_stand_alone(make("landmarks"), pictures, {"faces": make("faces").score(pictures, {})})


def test_the_threshold_itself_passes_and_no_model_is_loaded_for_a_verdict(make):
    evidence = pa.table({"apart": pa.array([0.0, 0.1, 0.1001, None], pa.float32())})
    one = Landmarks.of_description({})
    assert one.verdict(evidence, LandmarksThresholds()).tolist() == [PASS, PASS, FAIL, UNKNOWN]
    (measure,) = one.measures(LandmarksThresholds())
    assert measure.threshold == 0.1 and not measure.above
