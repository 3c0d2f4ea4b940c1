"""Identity vectors of real people, by the recipe's encoder. ArcFace: tests/model/conditioning/test_identity.py."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from common.decode import decode
from curation import report
from curation.annotation.annotate import _embed
from curation.recipe import recipe as recipes
from curation.run_directory.run import Run
from tests.curation.scoring.saboteurs import annotate_until_the_encoder_dies
from tests.world import curate, fork, shard_ids

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


def test_a_face_that_is_small_because_the_picture_was_decoded_small_is_decoded_larger(sample):
    """As in a photo of 8,000 pixels, which is decoded at an eighth; here one of 600 is."""
    from curation.sample.photos import photos

    data = next(photo.path.read_bytes() for photo in photos() if photo.path.name == "obama.jpg")
    recipe = RECIPE.model_copy(update={"images": RECIPE.images.model_copy(update={"working_side": 64})})
    (face,) = RECIPE.open_filters()["faces"].score([decode(data)], {})["boxes"].to_pylist()[0][:1]
    encoder = RECIPE.open_encoder()
    small = decode(data, recipe.images)
    box, landmarks = np.array(face["box"]), np.array(face["landmarks"]).reshape(5, 2)
    blurred = encoder.embed(small.rgb, box * small.scale[0], landmarks * small.scale[0])
    vector, error = _embed(encoder, recipe, data, "id", face, lambda stage, ids: nullcontext(), {})
    usual, _ = _embed(encoder, RECIPE, data, "id", face, lambda stage, ids: nullcontext(), {})
    assert error is None and float(vector @ usual) > 0.99 > 0.98 > float(blurred @ usual)


def test_an_image_that_ends_the_encoders_process_ends_without_identity(
    finished, small_world, tmp_path, monkeypatch, capsys
):
    """On Ray, whose worker dies of it; nothing else changes, and it is not tried again."""
    root = fork(finished, tmp_path / "run", "candidates", "selected", "fetched", "scores")
    monkeypatch.setattr("curation.annotation.annotate.annotate_unit", annotate_until_the_encoder_dies)
    curate(root, small_world)
    rows = Run(root).read_tables("annotations/*/*.parquet").to_pylist()
    killed = {row["id"] for row in rows if row["error"]}
    assert killed and {row["error"] for row in rows if row["error"]} == {"killed a process in the encoder, twice"}
    assert set(shard_ids(root)) == set(shard_ids(finished)) - killed
    assert report.main([str(root), "--no-html"]) == 0
    capsys.readouterr()
    curate(root, small_world)
    assert "0 faces (dlib)" in capsys.readouterr().err


def test_runs_of_before_find_their_dlib_vectors():
    """The fingerprint names a run's folder of annotations: it is for ever."""
    assert RECIPE.open_encoder().fingerprint == "dlib-19e8b4af76fd"


def test_a_recipe_may_want_no_identity():
    without = RECIPE.model_copy(update={"annotate": recipes.Annotate(identity="none")})
    assert without.open_encoder() is None
