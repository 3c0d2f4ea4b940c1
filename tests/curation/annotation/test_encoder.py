"""Identity vectors of real people, by the recipe's encoder. ArcFace: tests/model/conditioning/test_identity.py."""

from __future__ import annotations

import numpy as np
import pytest

from common.decode import decode
from curation.annotation.encoder import build_encoder
from curation.recipe import recipe as recipes
from model.conditioning.alignment import align, template


@pytest.fixture(scope="module")
def people(sample):
    """{file name: (decoded picture, box and landmarks of its face)} of the two people of one package."""
    from curation.sample.photos import photos

    recipe = recipes.load("curation/recipe/sample.yaml")
    faces = recipe.open_filters()["faces"]
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
    encoder = build_encoder(recipes.load("curation/recipe/sample.yaml"))
    vectors = {name: encoder.embed(*face) for name, face in people.items()}
    assert all(v.shape == (128,) and v.dtype == np.float32 for v in vectors.values())
    assert all(abs(float(np.linalg.norm(v)) - 1) < 1e-5 for v in vectors.values())
    same = float(vectors["obama.jpg"] @ vectors["obama2.jpg"])
    other = float(vectors["obama.jpg"] @ vectors["biden.jpg"])
    assert same > 0.94 > 0.9 > other
    again = encoder.embed(*people["obama.jpg"])
    assert (again == vectors["obama.jpg"]).all()


def test_a_face_too_small_has_no_identity(people):
    encoder = build_encoder(recipes.load("curation/recipe/sample.yaml"))
    rgb, _, landmarks = people["obama.jpg"]
    assert encoder.embed(rgb, np.array([5.0, 5.0, 15.0, 15.0]), landmarks) is None


def test_alignment_puts_the_points_on_the_template(people):
    rgb, _, landmarks = people["obama.jpg"]
    crop = align(rgb, landmarks)
    assert crop.shape == (112, 112, 3)
    moved = align(rgb, template(112) * 2 + 30)
    expected = rgb[30 : 30 + 224 : 2, 30 : 30 + 224 : 2]
    assert np.abs(moved[20:90, 20:90].astype(int) - expected[20:90, 20:90]).mean() < 12


def test_runs_of_before_find_their_dlib_vectors():
    """The fingerprint names a run's folder of annotations: it is for ever."""
    assert build_encoder(recipes.load("curation/recipe/sample.yaml")).fingerprint == "dlib-19e8b4af76fd"


def test_a_recipe_may_want_no_identity():
    recipe = recipes.load("curation/recipe/sample.yaml")
    without = recipe.model_copy(update={"annotate": recipes.Annotate(identity="none")})
    assert build_encoder(without) is None
