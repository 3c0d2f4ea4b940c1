"""jobs/generate.py as a user meets it: a picture or a reason for every face, and the pictures say what they are."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import numpy as np
import pytest
import yaml
from PIL import Image

from generation.loading import load_model
from generation.options import ModelOptions
from generation.provenance import detect, read
from jobs import generate as job
from model.checkpoints.writing import write
from model.config import CONFIGS, Conditions
from tests.model import folders
from tests.model.checkpoints import foreign

PROMPT = ["--prompt", "a person reading", "--steps", "2"]


def rows(out, name="drawn.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def photos(sample, tmp_path_factory):
    """Two portraits, a group, a picture without a face, a file that is no picture."""
    from curation.sample.photos import photos as all_photos

    folder = tmp_path_factory.mktemp("photos")
    by_name = {photo.path.name: photo.path for photo in all_photos()}
    for name in ("obama.jpg", "biden.jpg", "t1.jpg", "coffee.png"):
        shutil.copy(by_name[name], folder / name)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


def test_every_photo_ends_as_pictures_or_a_reason(photos, tmp_path, capsys):
    out = tmp_path / "drawn"
    assert job.main([str(photos), *PROMPT, "--images", "2", "--out", str(out)]) == 1
    found = rows(out)
    assert len(found) == 5 * 2
    reasons = {row["name"]: row["reason"] for row in found if row["status"] == "failed"}
    assert reasons.keys() == {"t1", "coffee", "broken"}
    assert "6 faces" in reasons["t1"] and "largest" in reasons["t1"]
    assert "no face" in reasons["coffee"] and "not a readable photo" in reasons["broken"]
    drawn = [row for row in found if row["status"] == "drawn"]
    assert sorted(row["file"] for row in drawn) == [
        "biden_000_00.png", "biden_000_01.png", "obama_000_00.png", "obama_000_01.png"
    ]  # fmt: skip
    assert {Image.open(out / row["file"]).size for row in drawn} == {(64, 64)}
    said = capsys.readouterr().err
    assert "Random weights" in said and "10 pictures asked for = " in said and "6 failed" in said
    assert f"4 pictures: {out}; the first of them: {out}/drawn.jpg" in said
    assert said.endswith(f"a line for each: {out}/drawn.jsonl; the same command draws what failed once more\n")
    with Image.open(out / "drawn.jpg") as sheet:
        assert sheet.width == 4 * 192


def test_a_picture_says_what_drew_it_and_that_nobody_signed_it(photos, tmp_path):
    job.main([str(photos), *PROMPT, "--limit", "1", "--seed", "7", "--out", str(tmp_path)])
    record = read(tmp_path / "biden_000_00.png")
    assert record.seed == 7 and record.prompt is None and not record.signed
    assert "random weights" in record.base_model
    assert record.watermark == "none: 64 x 64 is below 256"
    job.main([str(photos), *PROMPT, "--limit", "1", "--record-prompt", "--out", str(tmp_path / "told")])
    assert read(tmp_path / "told" / "biden_000_00.png").prompt == "a person reading"


def test_a_picture_large_enough_is_marked(tmp_path):
    from model.presets import PRESETS

    smooth = np.linspace(40, 200, 256, dtype=np.uint8)[None, :, None].repeat(256, axis=0).repeat(3, axis=2)
    model = load_model(ModelOptions())
    for name, watermark in (("marked.png", True), ("plain.png", False)):
        model.save(smooth, tmp_path / name, seed=1, scales=PRESETS["realistic"], watermark=watermark)
        assert detect(np.asarray(Image.open(tmp_path / name))).present is watermark
    assert read(tmp_path / "plain.png").watermark == "none: switched off"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return folders.stock_base(tmp_path_factory.mktemp("base"))


def test_a_face_is_made_into_conditions_as_in_the_checkpoints_training(base, photos, tmp_path):
    """The checkpoint's own word counts more than the configuration's; IP-Adapter's framing is known."""
    parts = {"base": str(base), "image_encoder": str(base / "image_encoder"), "vae": str(base / "vae")}
    told = Conditions(crop="pad", align_size=224, identity_encoder="dlib").model_dump_json()
    ours = replace(foreign.released(), metadata={"layout": "training", "shortcut": "true", "conditions": told})
    write(ours, tmp_path / "ours.safetensors", "facemakeup")
    model = load_model(ModelOptions("sd15", str(tmp_path / "ours.safetensors"), **parts))
    assert model.pipeline.config.conditions == json.loads(told)
    assert model.base == base.name

    plus = foreign.authors_bin(foreign.released(controlnet=False), tmp_path / "ip-adapter-faceid-plusv2_tiny.bin")
    model = load_model(ModelOptions("tiny", str(plus), **parts))
    assert model.pipeline.config.conditions["align_size"] == 224
    assert "FaceID-Plus v2 by the name" in model.notes[0]
    assert "no pose branch" in model.notes[1] and "224" in model.notes[2]
    arguments = ["--model", "tiny", "--checkpoint", str(plus), "--base", str(base)]
    assert job.main([str(photos / "biden.jpg"), *PROMPT, *arguments, "--out", str(tmp_path / "out")]) == 0


def test_without_base_the_configurations_own_is_loaded_and_recorded(base, tmp_path):
    config = tmp_path / "mine.yaml"
    names = {part: str(base / part) for part in ("image_encoder", "vae")}
    tiny = yaml.safe_load((CONFIGS / "tiny.yaml").read_text())
    config.write_text(yaml.safe_dump(tiny | {"pretrained": {"base": str(base), **names}}))
    model = load_model(ModelOptions(str(config)))
    assert model.base == base.name and "No checkpoint" in model.notes[0]


def test_what_is_there_is_not_drawn_again_and_parts_share_the_work(photos, tmp_path):
    arguments = [str(photos), *PROMPT, "--policy", "largest", "--out", str(tmp_path)]
    for part in (0, 1):
        job.main([*arguments, "--part", f"{part}/2"])
    parts = [row for part in (0, 1) for row in rows(tmp_path, f"drawn-{part}-of-2.jsonl")]
    assert sorted(row["name"] for row in parts) == ["biden", "broken", "coffee", "obama", "t1"]
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.png")}
    assert len(stamps) == 3
    job.main(arguments)
    assert {row["status"] for row in rows(tmp_path)} == {"there", "failed"}
    assert stamps == {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.png")}


def test_pictures_of_other_settings_are_not_taken_for_these(photos, tmp_path, capsys):
    asked = [str(photos / "biden.jpg"), *PROMPT, "--out", str(tmp_path)]
    assert job.main(asked) == 0 and job.main([*asked, "--images", "2"]) == 0
    capsys.readouterr()
    assert job.main([*asked, "--prompt", "another", "--seed", "3"]) == 2
    assert "pictures of another seed, prompts" in capsys.readouterr().err
    assert [row["prompt"] for row in rows(tmp_path)] == ["a person reading"] * 2


def test_samples_of_shards_are_drawn_with_their_own_face_and_caption(finished, tmp_path):
    shards = finished / "shards" / "small"
    assert job.main([str(shards), "--steps", "2", "--limit", "3", "--out", str(tmp_path)]) == 0
    index = json.loads((shards / "00000.json").read_text())["index"]
    assert [row["name"] for row in rows(tmp_path)] == [entry["id"] for entry in index[:3]]
    assert all(row["prompt"] and row["encoder"].startswith("dlib-") for row in rows(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere", *PROMPT], "/nowhere: no such folder"),
        (["{photos}"], "give --prompt or --prompts"),
        (["{empty}", *PROMPT], "neither photos"),
        (["{photos}", "--prompts", "/nowhere.txt"], "/nowhere.txt"),
        (["{photos}", *PROMPT, "--part", "2/2"], "--part 2/2"),
        (["{photos}", *PROMPT, "--mix-with", "/nowhere.jpg"], "/nowhere.jpg"),
        (["{photos}", *PROMPT, "--model", "sd16"], "one of sd15, tiny"),
        (["{photos}", *PROMPT, "--checkpoint", "model.bin"], "a checkpoint needs the base"),
        (["{photos}", *PROMPT, "--model", "{empty}", "--checkpoint", "model.bin"], "takes no checkpoint"),
        (["{photos}", *PROMPT, "--device", "cuda:7"], "no GPU can be used"),
    ],
)
def test_what_cannot_be_begun_is_one_message(photos, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    told = [argument.format(photos=photos, empty=tmp_path / "empty") for argument in arguments]
    assert job.main([*told, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "option", ["--steps=0", "--images=0", "--limit=-1", "--seed=-1", f"--seed={2**64}", "--ip-scale=nan", "--alpha=2"]
)
def test_a_number_that_cannot_be_is_refused_by_its_option(photos, tmp_path, capsys, option):
    with pytest.raises(SystemExit) as ended:
        job.main([str(photos), *PROMPT, option, "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and option.partition("=")[0] in capsys.readouterr().err


def test_pictures_are_not_written_into_a_file(photos, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert job.main([str(photos), *PROMPT, "--out", str(tmp_path / "out")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_what_is_cut_of_a_prompt_is_told_once_where_it_was_given(photos, tmp_path, capfd):
    lost = "漢字 in a Café"
    source = tmp_path / "caf\udce9"
    (source / "below").mkdir(parents=True)
    for name in ("b.jpg", "below/B\udce9.JPG"):
        shutil.copy(photos / "biden.jpg", source / name)
    arguments = ["--prompt", "short 漢字", "--prompt", "very " * 75 + lost, "--steps", "1", "--recursive"]
    for _ in range(2):
        capfd.readouterr()
        assert job.main([str(source), *arguments, "--out", str(tmp_path / "out")]) == 0
        out, err = capfd.readouterr()
        told = f'prompt 001 has more than the 77 tokens that the model reads; it does not see: "{lost}"'
        assert (out + err).count(told) == (out + err).count(lost) == 1 and "truncated" not in out + err
    assert [row.get("cut") for row in rows(tmp_path / "out")] == [None, lost] * 2
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows(tmp_path / "out"))


def test_a_prompt_too_long_for_a_record_is_a_reason(photos, tmp_path):
    arguments = [str(photos / "biden.jpg"), "--prompt", "very " * 1000, "--steps", "1", "--record-prompt"]
    assert job.main([*arguments, "--out", str(tmp_path)]) == 1
    (row,) = rows(tmp_path)
    assert row["status"] == "failed" and "4000" in row["reason"]


def test_a_drawing_that_overflows_is_a_failure_with_its_cause(photos, tmp_path):
    asked = [str(photos / "biden.jpg"), *PROMPT, "--guidance-scale", "1e38", "--out", str(tmp_path)]
    assert job.main(asked) == 1
    (row,) = rows(tmp_path)
    assert row["status"] == "failed" and "not finite" in row["reason"] and not list(tmp_path.glob("*.png"))


def test_a_picture_of_one_colour_is_not_saved(tmp_path):
    from model.presets import PRESETS

    model = load_model(ModelOptions())
    with pytest.raises(ValueError, match="of one colour"):
        model.save(np.zeros((64, 64, 3), np.uint8), tmp_path / "a.png", seed=1, scales=PRESETS["realistic"])
    assert not (tmp_path / "a.png").exists()
