"""One folder draws the same wherever it is loaded: here, by diffusers alone, and where this project is not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from model.build import base_parts, load_pipeline, pretrained_pipeline, trained_parts
from model.checkpoints.on_model import checkpoint_of, pipeline_with_checkpoint
from model.checkpoints.pipeline_folder import write_pipeline
from model.checkpoints.state import bit_equal
from model.conditioning.face_finder import FaceFinder
from model.config import Conditions, load_config
from model.finder_files import carry_finder
from tests.model.conftest import some_face, some_photo

# -S: without the .pth file that makes this project importable; the packages are then found by their folder alone
ELSEWHERE = """
import sys, importlib.util
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("model") is None, "the package can be imported: this proves nothing"
import numpy as np
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[2], trust_remote_code=True)
pipeline.set_progress_bar_config(disable=True)
given = np.load(sys.argv[3])
face = pipeline.encode_faces(given["photo"], [pipeline.Face(given["box"], given["landmarks"], 0.9, given["identity"])])
drawn = pipeline("a person", face=face, num_inference_steps=3, output_type="np").images
conditions = pipeline("a person", given["portrait"], num_inference_steps=1).conditions
np.savez(sys.argv[6], box=conditions.faces[0].box, identity=conditions.identity.numpy())
pipeline.save_pretrained(sys.argv[4])
np.save(sys.argv[5], drawn)
"""


@pytest.fixture(scope="module")
def folder(pipeline, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("exported")
    pipeline.save_pretrained(place)
    return place


def drawn(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    face = pipeline.encode_faces(some_photo(), [some_face()])
    return pipeline("a person", face=face, num_inference_steps=3, output_type="np").images


def test_the_folder_draws_the_same(pipeline, folder):
    assert np.array_equal(drawn(pipeline), drawn(load_pipeline(folder)))


def test_the_folder_loads_where_this_project_is_not_installed(pipeline, folder, photo, tmp_path):
    face = some_face()
    portrait = photo("astronaut").rgb
    known = {"photo": some_photo(), "box": face.box, "landmarks": face.landmarks, "identity": face.identity}
    np.savez(tmp_path / "given.npz", portrait=portrait, **known)
    shutil.copytree(folder, tmp_path / "with-finder")
    assert carry_finder(tmp_path / "with-finder", Conditions.model_validate(pipeline.config.conditions)) == []
    arguments = [
        sysconfig.get_path("purelib"),
        tmp_path / "with-finder",
        tmp_path / "given.npz",
        tmp_path / "again",
        tmp_path / "drawn.npy",
        tmp_path / "found.npz",
    ]
    run = subprocess.run(
        [sys.executable, "-S", "-c", ELSEWHERE, *map(str, arguments)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert np.array_equal(np.load(tmp_path / "drawn.npy"), drawn(pipeline))
    again = load_pipeline(tmp_path / "again")
    assert np.array_equal(drawn(again), drawn(pipeline))
    assert str(tmp_path) not in (tmp_path / "again" / "model_index.json").read_text()
    # the finder is that of this project, and goes with the folder
    found, finder = np.load(tmp_path / "found.npz"), FaceFinder("centerface")
    expected = finder.embed(portrait, finder(portrait)[0])
    assert np.abs(found["box"] - expected.box).max() < 2 and found["identity"][0] @ expected.identity > 0.98
    assert np.array_equal(again.encode_faces(portrait).identity, found["identity"])


def test_its_unet_is_a_stock_unet_to_everybody_else(pipeline, folder):
    stock = UNet2DConditionModel.from_pretrained(folder / "unet")
    assert type(stock) is UNet2DConditionModel
    base = pipeline.unet.base_state()
    assert all(torch.equal(value, base[key]) for key, value in stock.state_dict().items())
    names = load_file(folder / "unet" / "adapter.safetensors").keys()
    assert all(name.startswith("ip_adapter.") for name in names)


def test_tensors_keep_their_dtype(pipeline, folder, tmp_path):
    checkpoint = checkpoint_of(trained_parts(pipeline))
    checkpoint.ip_adapter = {key: value.to(torch.bfloat16) for key, value in checkpoint.ip_adapter.items()}
    assert write_pipeline(checkpoint, folder, tmp_path / "mixed") == []
    written = load_file(tmp_path / "mixed" / "unet" / "adapter.safetensors")
    assert all(bit_equal(written[f"ip_adapter.{key}"], value) for key, value in checkpoint.ip_adapter.items())
    poses = load_file(tmp_path / "mixed" / "controlnet" / "diffusion_pytorch_model.safetensors")
    assert all(bit_equal(poses[key], value) for key, value in checkpoint.controlnet.items())


def test_a_checkpoint_of_two_dtypes_draws_without_being_exported_first(pipeline, folder, tmp_path):
    """The authors' release: bfloat16 beside float32."""
    checkpoint = checkpoint_of(trained_parts(pipeline))
    checkpoint.ip_adapter = {key: value.to(torch.bfloat16) for key, value in checkpoint.ip_adapter.items()}
    conditions = Conditions.model_validate(pipeline.config.conditions)
    ready = pipeline_with_checkpoint(checkpoint, folder, conditions=conditions)
    write_pipeline(checkpoint, folder, tmp_path / "mixed")
    assert np.array_equal(drawn(ready), drawn(load_pipeline(tmp_path / "mixed")))


def test_folding_keeps_the_picture_and_the_checkpoint_and_names_its_loss(pipeline, folder, tmp_path):
    checkpoint = checkpoint_of(trained_parts(pipeline))
    before = {key: value.clone() for key, value in checkpoint.ip_adapter.items()}
    (note,) = write_pipeline(checkpoint, folder, tmp_path / "folded", fold_lora=True)
    assert "LOSSY" in note
    assert all(torch.equal(value, before[key]) for key, value in checkpoint.ip_adapter.items())
    folded = load_file(tmp_path / "folded" / "unet" / "adapter.safetensors")
    assert all((value == 0).all() for key, value in folded.items() if "lora.up" in key)
    assert np.abs(drawn(load_pipeline(tmp_path / "folded")) - drawn(pipeline)).max() < 1e-4


def test_how_faces_were_made_into_conditions_travels_or_is_said_to_be_unknown(pipeline, folder, tmp_path):
    trained = trained_parts(pipeline)
    told = Conditions(crop="pad", align_size=224, identity_encoder="dlib")
    write_pipeline(checkpoint_of(trained, conditions=told.model_dump_json()), folder, tmp_path / "told")
    assert json.loads((tmp_path / "told" / "model_index.json").read_text())["conditions"]["crop"] == "pad"
    index = json.loads((folder / "model_index.json").read_text())
    plain = tmp_path / "plain"
    plain.mkdir()
    for part in folder.iterdir():
        if part.name != "model_index.json":
            (plain / part.name).symlink_to(part)
    (plain / "model_index.json").write_text(json.dumps({"vae": index["vae"]}))
    guess, arcface = write_pipeline(checkpoint_of(trained), plain, tmp_path / "guessed")
    assert "does not say how faces were cropped" in guess and "w600k_r50.onnx" in arcface


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not an exported Face-MakeUp pipeline"):
        load_pipeline(tmp_path)


def test_a_folder_without_its_adapter_is_refused_and_not_drawn_with(folder, tmp_path):
    """What diffusers fetches of a hub repository: files of the names that it knows."""
    shutil.copytree(folder, tmp_path / "part", ignore=shutil.ignore_patterns("adapter.safetensors"))
    with pytest.raises(OSError, match="adapter.safetensors is missing.*snapshot_download"):
        load_pipeline(tmp_path / "part")


def test_parts_of_a_base_without_an_image_encoder_are_asked_for(folder, tmp_path):
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (tmp_path / part).symlink_to(folder / part)
    with pytest.raises(ValueError, match="CLIP image encoder"):
        pretrained_pipeline(tmp_path, conditions=Conditions())
    ready = pretrained_pipeline(tmp_path, folder / "image_encoder", conditions=Conditions(), identity_dim=128, rank=4)
    assert ready.unet.adapted


def test_a_local_base_gives_its_own_parts_before_the_hub_is_asked(folder, tmp_path):
    sd15, tiny = load_config("sd15"), load_config("tiny")
    assert base_parts(sd15, str(folder)) == {"base": str(folder), "image_encoder": None, "vae": None}
    assert base_parts(sd15, str(tmp_path))["image_encoder"] == sd15.pretrained.image_encoder
    assert base_parts(sd15, None, vae="mine")["vae"] == "mine"
    with pytest.raises(ValueError, match="tiny names no base"):
        base_parts(tiny, None)


def test_an_exported_folder_names_no_path_and_others_may_read_it(folder, tmp_path):
    ready = load_pipeline(folder)
    ready.save_pretrained(tmp_path / "again")
    texts = [file.read_text() for file in (tmp_path / "again").rglob("*.json")]
    assert not any(str(folder) in text or "_name_or_path" in text for text in texts)
    plain = tmp_path / "plain"
    plain.touch()
    modes = {file.stat().st_mode for file in (tmp_path / "again").rglob("*") if file.is_file()}
    assert modes == {plain.stat().st_mode}
