"""jobs/evaluate.py as a user meets it: a model of random weights draws, and is scored beside copies and other people."""

from __future__ import annotations

import csv
import json

import pytest

from common.pinned_files.weights import resolve
from evaluation.builders.shard_folder import ShardFolder
from jobs import evaluate as job
from model.build import random_pipeline
from model.config import load_config
from tests.evaluation.twins import clip_twin
from tests.real_photos import read


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "{}/none"], "no such exported folder: run `make train` first"),
        (["--shards", "{}"], "holds no shards: run `make curate` first"),
        (["--model-of", "clipp={}"], "write clip=FOLDER or dino=FOLDER"),
        (["--methods", "face-makup"], "no such method, did you mean face-makeup"),
        (["--methods", "others", "others"], "others stands there twice"),
        (["--set", "face-makeup.preset=loud"], "preset: Input should be 'realistic', 'soft_style'"),
        (["--set", "face-makeup.stepps=3"], "did you mean `steps`"),
        (["--part", "face-makeup.model"], "write METHOD.ROLE=PLACE"),
        (["--methods", "theirs={}/none"], "none: no such folder of pictures"),
        (["--votes", "{}/none.json"], "none.json: is no file of votes"),
        (["--device", "banana"], "--device banana: torch has no such device here"),
        (["--weights", "{}/none"], "none: no such folder"),
        (["--out", "/proc/nope"], "/proc/nope: no folder can be made there"),
        (["--part", "facemakeup.model={}"], "no such method, did you mean face-makeup"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, capsys, options, words):
    usual = ["--methods", "face-makeup", "--shards", str(tmp_path), "--out", str(tmp_path / "out")]
    assert job.main([*usual, *(option.format(tmp_path) for option in options)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and "Traceback" not in said
    assert not (tmp_path / "out").exists(), "what is refused leaves nothing"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folder": "zoe.png"}, "none of its 1 pictures is named as a reference"),
        ({"votes": "zoe"}, "a vote is on zoe's picture of"),
        ({"name": "Face-MakeUp"}, "two methods are called Face-MakeUp"),
    ],
)
def test_what_only_the_references_can_tell_is_told_before_anything_is_drawn(finished, tmp_path, capsys, change, words):
    out, shards, theirs = tmp_path / "out", finished / "shards" / "small", tmp_path / "theirs"
    theirs.mkdir()
    reference = ShardFolder(str(shards)).ids()[0][0]
    (theirs / change.get("folder", f"{reference}.png")).write_bytes(read("cat"))
    side = {"method": change.get("votes", "the references"), "sha256": "0"}
    vote = {"reference": reference, "prompt": "red-jacket", "seed": "42", "won": "tie", "left": side, "right": side}
    (tmp_path / "votes.json").write_text(json.dumps({"format": 1, "voter": "x", "votes": [vote]}))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    command = ["--model", str(tmp_path / "model"), "--shards", str(shards), "--count", "3", "--out", str(out)]
    methods = ["face-makeup", f"{change.get('name', 'theirs')}={theirs}", "references"]
    assert job.main([*command, "--methods", *methods, "--votes", str(tmp_path / "votes.json")]) == 2
    assert words in " ".join(capsys.readouterr().err.split()) and not out.exists()


def cells(out):
    with (out / "table.csv").open() as file:
        return {
            (row["figure"], row["protocol"], row["method"]): row for row in csv.DictReader(file) if not row["category"]
        }


def times(out):
    return {file: file.stat().st_mtime_ns for file in (out / "pictures").rglob("*.png")}


def test_a_model_is_scored_beside_copies_and_other_people_and_nothing_is_drawn_twice(finished, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path).save_pretrained(model)
    command = ["--model", str(model), "--shards", str(finished / "shards" / "small"), "--out", str(out), "--count", "3"]
    (tmp_path / "prompts.yaml").write_text(
        "weather:\n  snow: a person in the snow\nplace:\n  sea: a person by the sea\n"
    )
    command += [
        "--prompts",
        str(tmp_path / "prompts.yaml"),
        "--steps",
        "2",
        "--model-of",
        f"clip={clip_twin(tmp_path / 'clip')}",
    ]
    assert job.main(command) == 0
    told = cells(out)
    assert float(told["CLIP-I", "sound", "the references"]["value"]) == pytest.approx(1)
    assert float(told["FaceSim, dlib", "sound", "the references"]["value"]) == pytest.approx(1)
    assert float(told["FaceSim, dlib", "sound", "other people"]["value"]) < 0.95
    assert (
        told["CLIP-T", "sound", "Face-MakeUp"]["value"] and "hf download" in told["DINO", "sound", "Face-MakeUp"]["why"]
    )
    for method, words in {
        "InstantID": "hf download InstantX/InstantID",
        "IP-Adapter-FaceID-PlusV2": "hf download h94/IP-Adapter-FaceID",
        "PhotoMaker": "hf download TencentARC/PhotoMaker photomaker-v1.bin",
        "PuLID": "git clone https://github.com/ToTheBeginning/PuLID",
    }.items():
        rows = [row for (_, _, name), row in told.items() if name == method]
        assert rows and all(words in row["why"] and not row["value"] for row in rows)
    pictures = times(out)
    before = (out / "table.md").read_bytes()
    assert len(pictures) == 3 * 2
    assert job.main(command) == 0
    assert times(out) == pictures
    assert (out / "table.md").read_bytes() == before
    head = before.decode()
    assert "frozen before the pictures were drawn" in head and "2 prompts (1 weather, 1 place) x 1 seeds" in head
    assert "| steps | 2 | 30 | 50 | 30 | 4 | not said | not said |" in head
    assert "| scheduler | DDIMScheduler | DDIM | Euler |" in head
    assert "| seconds a picture | " in head and " (median of 6, cpu) | not said | not said |" in head
    assert head.count("InstantID: not drawn: not here: ") == 1, "once, and not below each figure"
    assert "| FaceSim, dlib | weather |" in head and "| CLIP-T | place |" in head
    assert "By category of prompt" in (out / "report.html").read_text()
    assert "whether a model was trained on these photos is not known" in head
    capsys.readouterr()
    assert job.main([*command, "--steps", "3", "--count", "3"]) == 0
    drawn_otherwise = times(out).items() - pictures.items()
    assert len(drawn_otherwise) == 3 * 2 and pictures.items() < times(out).items(), "both are kept, each under its key"
    assert job.main(command) == 0 and (out / "table.md").read_bytes() == before
    (tmp_path / "prompts.yaml").write_text("snow: a person in deep snow\nsea: a person by the sea\n")
    assert job.main(command) == 2
    assert "other words: snow" in " ".join(capsys.readouterr().err.split())
    assert times(out) == {**pictures, **dict(drawn_otherwise)}
