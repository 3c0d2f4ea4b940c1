"""Face-MakeUp as rows: what `make train` left, with and without the pose, each preset, and a checkpoint on a base."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest

from common.errors import UserError
from common.pinned_files.weights import resolve
from evaluation.methods import face_makeup
from evaluation.methods.face_makeup import FaceMakeUp, FaceMakeUpSoftStyle, FaceMakeUpStrongStyle, FaceMakeUpWithoutPose
from evaluation.methods.networks import twins
from evaluation.methods.sources import MethodSources, Unavailable
from model.build import random_pipeline
from model.config import load_config
from model.presets import PRESETS
from tests.model.conftest import shaken
from tests.real_photos import photo  # noqa: F401  (a fixture)

STEPS = ["face-makeup.steps=2", "face-makeup-without-pose.steps=2"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "pipeline"
    shaken(random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path)).save_pretrained(folder)
    return folder


def sources(exported, **more):
    return MethodSources(named={"face-makeup.model": str(exported)}, changes=STEPS, device="cpu", dtype="fp32", **more)


@pytest.fixture(scope="module")
def rgb(photo):  # noqa: F811
    return photo("astronaut").rgb


def test_it_draws_what_the_pipeline_draws_and_without_the_pose_no_pose_is_felt(exported, rgb):
    pictures = {}
    for kind in (FaceMakeUp, FaceMakeUpWithoutPose):
        method = kind(sources(exported))
        method.load()
        face = method.prepare([rgb])
        pictures[kind] = np.asarray(method.draw(face, "a person in the snow", 7))
        assert (pictures[kind] == np.asarray(method.draw(face, "a person in the snow", 7))).all()
        own = method.pipeline(
            "a person in the snow", rgb, seed=7, num_inference_steps=2,
            controlnet_scale=None if kind is FaceMakeUp else 0.0,
        ).images[0]  # fmt: skip
        assert (pictures[kind] == np.asarray(own)).all()
        with pytest.raises(ValueError, match="no face was found"):
            method.prepare([np.full((200, 200, 3), 90, np.uint8)])
        moved = face.__class__(face.identity, face.clip_features, face.pose_map.flip(-1), face.faces, face.views)
        felt = (np.asarray(method.draw(moved, "a person in the snow", 7)) != pictures[kind]).any()
        assert felt == (kind is FaceMakeUp)
        method.close()
        assert method.pipeline is None
    assert (pictures[FaceMakeUp] != pictures[FaceMakeUpWithoutPose]).any()


@pytest.mark.parametrize(
    ("kind", "preset"), [(FaceMakeUp, "realistic"), (FaceMakeUpSoftStyle, "soft_style"), (FaceMakeUpStrongStyle, "strong_style")]
)  # fmt: skip
def test_a_variant_says_its_scales_and_draws_with_the_same_model(exported, kind, preset):
    method = kind(sources(exported))
    told = kind.facts(method.settings, method.sources)
    keys = ("ip_scale", "controlnet_scale", "guidance", "shortcut_scale")
    assert tuple(told[key] for key in keys) == PRESETS[preset]
    assert (
        told["native_size"] == "64 x 64" and told["scheduler"] == "DDIMScheduler" and told["base_model"] == "pipeline"
    )
    assert method.weights == FaceMakeUp(sources(exported)).weights


def test_what_the_pictures_depend_on_changes_with_the_trained_weights_and_the_scales(exported, tmp_path):
    described = FaceMakeUp(sources(exported)).describe()
    assert described == FaceMakeUp(sources(exported)).describe() and len(described["weights"]["model"]) == 64
    other = MethodSources(named={"face-makeup.model": str(exported)}, changes=[*STEPS, "face-makeup.ip_scale=1.0"])
    assert FaceMakeUp(other).describe()["settings"] != described["settings"]
    shaken(random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path), seed=2).save_pretrained(
        tmp_path / "pipeline"
    )
    assert FaceMakeUp(sources(tmp_path / "pipeline")).describe()["weights"] != described["weights"]


def test_what_make_train_would_leave_is_a_reason_and_what_a_person_named_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(face_makeup, "TRAINED_HERE", tmp_path / "export")
    with pytest.raises(Unavailable, match="run `make train`, or name an exported folder: --model FOLDER"):
        FaceMakeUp(MethodSources())
    with pytest.raises(UserError, match="no such exported folder"):
        FaceMakeUp(sources(tmp_path))
    with pytest.raises(UserError, match="choose one of|Input should be"):
        FaceMakeUp(MethodSources(changes=["face-makeup.preset=loud"]))


def test_a_checkpoint_on_a_base_as_the_authors_released_theirs(tmp_path):
    """Without a folder of its own: the parts are hashed, and the names that are no file here stand among what it depends on."""
    base, encoder = twins.sd15(tmp_path / "base"), twins.image_encoder(tmp_path / "encoder")
    file = twins.face_id_adapter(tmp_path / "plusv2.bin", base, encoder)
    named = {
        "model": "sd15",
        "checkpoint": str(file),
        "base": str(base),
        "image_encoder": str(encoder),
        "vae": "some/vae",
    }
    given = MethodSources(
        named={f"face-makeup.{role}": place for role, place in named.items()}, device="cpu", dtype="fp32"
    )
    method = FaceMakeUp(given)
    assert set(method.weights) == {"checkpoint", "base", "image_encoder"}
    assert method.describe()["options"] == {"model": "sd15", "vae": "some/vae"}
    told = method.facts(method.settings, given)
    assert (told["base_model"], told["native_size"], told["scheduler"]) == ("base", "512 x 512", "DDIM")
