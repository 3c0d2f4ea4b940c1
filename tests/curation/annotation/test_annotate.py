"""Identity vectors of real people, by the recipe's encoder. ArcFace: tests/model/conditioning/test_identity.py."""

from __future__ import annotations

import numpy as np
import pytest

from common.decode import decode
from curation.recipe import recipe as recipes

RECIPE = recipes.load("curation/recipe/sample.yaml")


@pytest.fixture(scope="module")
def people(sample):
    """{file name: (decoded picture, box and landmarks of its face)} of the two people of one package."""
    from curation.sample.photos import photos

    faces = RECIPE.open_filters()["faces"]
    found = {}
    for photo in photos():
        if photo.package == "face-recognition":
            picture = decode(photo.path.read_bytes())
            face = faces.score([picture], {})["boxes"].to_pylist()[0][0]
            scale = np.array(picture.scale)
            found[photo.path.name] = (
                picture.rgb,
                np.array(face["box"]) * np.tile(scale, 2),
                np.array(face["landmarks"]).reshape(5, 2) * scale,
            )
    return found


def test_dlib_tells_two_people_apart(people):
    encoder = RECIPE.open_encoder()
    vectors = {name: encoder.embed(*face) for name, face in people.items()}
    assert all(v.shape == (128,) and v.dtype == np.float32 for v in vectors.values())
    assert all(abs(float(np.linalg.norm(v)) - 1) < 1e-5 for v in vectors.values())
    same = float(vectors["obama.jpg"] @ vectors["obama2.jpg"])
    other = float(vectors["obama.jpg"] @ vectors["biden.jpg"])
    assert same > 0.94 > 0.9 > other
    again = encoder.embed(*people["obama.jpg"])
    assert (again == vectors["obama.jpg"]).all()


def test_a_face_too_small_has_no_identity(people):
    encoder = RECIPE.open_encoder()
    rgb, _, landmarks = people["obama.jpg"]
    assert encoder.embed(rgb, np.array([5.0, 5.0, 15.0, 15.0]), landmarks) is None


def test_runs_of_before_find_their_dlib_vectors():
    """The fingerprint names a run's folder of annotations: it is for ever."""
    assert RECIPE.open_encoder().fingerprint == "dlib-19e8b4af76fd"


def test_a_recipe_may_want_no_identity():
    without = RECIPE.model_copy(update={"annotate": recipes.Annotate(identity="none")})
    assert without.open_encoder() is None
