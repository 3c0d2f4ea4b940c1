"""InstantID: the face's vector, its pose picture, its tokens, every cross-attention and the latents agree with a second
implementation; each slip in it that is easily made does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.methods.instantid import InstantId
from tests.evaluation.methods.independent.faces import pose_of
from tests.evaluation.methods.independent.instantid import (
    DRAWING_SLIPS,
    FACE_SLIPS,
    POSE_SLIPS,
    OwnInstantId,
    resized,
)
from tests.evaluation.methods.independent.pairs import FAR, SAME, Pair, apart
from tests.evaluation.methods.twin_of import twin_of
from tests.real_photos import photo  # noqa: F401

PROMPT, SEED = "a photo of a person in a park", 5
# no scale is 1, or a scale that is left out would not be seen
SETTINGS = {"steps": 2, "ip_scale": 0.7, "controlnet_scale": 0.6, "longest": 192}


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory, photo) -> Pair:  # noqa: F811
    twin = twin_of(InstantId, tmp_path_factory.mktemp("instantid"), **SETTINGS)
    controlnet = Path(twin.sources.named[f"{twin.name}.controlnet"]) / "diffusion_pytorch_model.safetensors"
    weights = load_file(controlnet)  # as it is drawn, the pose hardly shows: a wrong one would not be seen
    weights["controlnet_cond_embedding.conv_out.weight"] *= 20
    save_file(weights, controlnet, metadata={"format": "pt"})
    twin.load()
    return Pair(twin, photo("astronaut").rgb[20:250, 90:390])  # not square


@pytest.fixture(scope="module")
def small(pair) -> np.ndarray:
    """The reference at the size that is drawn."""
    return resized(pair.rgb, pair.twin.settings.longest, pair.twin.settings.multiple)


@pytest.fixture(scope="module")
def points(pair, small) -> np.ndarray:
    """The detector is one and the same for both; it looks at the resized photo, as the authors' does."""
    return pair.twin.reader.largest(small).landmarks


@pytest.fixture(scope="module")
def drawn(pair) -> tuple[torch.Tensor, list[torch.Tensor]]:
    return pair.drawn(pair.face, PROMPT, SEED)


def second(pair: Pair, slip: str = "") -> OwnInstantId:
    return OwnInstantId(pair.files, pair.twin.settings, slip)


def test_the_vector_is_the_recognisers_own_length(pair, small, points):
    assert apart(pair.face.vector, second(pair).vector(small, points)) < SAME
    assert pair.face.vector.norm() > 2


def test_the_pose_is_the_authors_drawing_to_the_pixel(pair, small, points):
    height, width = small.shape[:2]
    assert (width, height) == (192, 128) == pair.face.pose.size
    assert (np.asarray(pair.face.pose) == pose_of(points, width, height)).all()


@pytest.mark.parametrize("slip", POSE_SLIPS)
def test_another_drawing_is_told_apart(pair, small, points, slip):
    own = pose_of(points, small.shape[1], small.shape[0], slip)
    assert np.abs(np.asarray(pair.face.pose).astype(int) - own).max() > 50


def test_the_tokens_agree(pair, small, points):
    own = second(pair)
    pairs = pair.twin.embeddings(pair.face)
    assert apart(pairs[1, 0], own.vector(small, points)) < SAME
    assert not pairs[0].any()
    assert apart(pair.twin.face_tokens(pair.face), own.tokens(own.vector(small, points))) < SAME


def test_every_cross_attention_and_the_latents_agree(pair, small, points, drawn):
    own = second(pair)
    pose = pose_of(points, small.shape[1], small.shape[0])
    latents, outputs = own.draw(own.tokens(own.vector(small, points)), pose, PROMPT, SEED)
    assert len(drawn[1]) == len(outputs) == 8 * SETTINGS["steps"]
    assert max(map(apart, drawn[1], outputs)) < SAME
    assert apart(drawn[0], latents) < SAME


@pytest.mark.parametrize("slip", FACE_SLIPS)
def test_a_slip_with_the_face_shows_in_the_tokens_and_the_latents(pair, small, points, drawn, slip):
    own = second(pair, slip)
    tokens = own.tokens(own.vector(small, points))
    assert apart(tokens, pair.twin.face_tokens(pair.face)) > FAR
    pose = pose_of(points, small.shape[1], small.shape[0])
    assert apart(own.draw(tokens, pose, PROMPT, SEED)[0], drawn[0]) > FAR


@pytest.mark.parametrize("slip", DRAWING_SLIPS)
def test_a_slip_in_drawing_shows_in_the_latents(pair, small, points, drawn, slip):
    own = second(pair)
    tokens = own.tokens(own.vector(small, points))
    pose = pose_of(points, small.shape[1], small.shape[0], slip)
    assert apart(second(pair, slip).draw(tokens, pose, PROMPT, SEED)[0], drawn[0]) > FAR
