"""`make evaluate` with OUT in a bucket: each picture is there when it is drawn; another machine goes on from the bucket alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from common.storage import Storage
from evaluation.asked import read_prompts
from evaluation.cluster.mirror import mirrored
from evaluation.cluster.options import EvaluateOptions, job_of, options_of, read_recipe
from evaluation.methods.fetched import fetched
from jobs import evaluate as job
from tests.evaluation.methods.process.test_process import PAINTER
from tests.servers.bucket import s3_bucket

PROMPTS = "snow: a person in the snow\nsea: a person by the sea\n"


@pytest.fixture
def command(finished, tmp_path, monkeypatch):
    """The words of an evaluation, but OUT; `log` of it: what the painter was asked so far."""
    own = {"program": str(PAINTER), "width": 48, "height": 32, "settings": {"log": str(tmp_path / "log")}}
    (tmp_path / "painter.yaml").write_text(yaml.safe_dump(own | {"seconds_to_start": 60, "seconds_a_picture": 60}))
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    recipe = {
        "shards": str(finished / "shards" / "small"), "count": 2, "prompts": str(tmp_path / "prompts.yaml"),
        "methods": [f"painter={tmp_path / 'painter.yaml'}", "references"],
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return ["--recipe", str(tmp_path / "recipe.yaml")]


def asked(tmp_path):
    return [json.loads(line)["prompt"] for line in (tmp_path / "log").read_text().splitlines()]


def test_what_is_in_the_bucket_is_not_drawn_again(command, tmp_path, monkeypatch):
    with s3_bucket("evaluation"):
        out = Storage("s3://evaluation/mine")
        assert job.main([*command, "--out", out.root]) == 0
        table, pictures = out.read_bytes("table.md"), out.glob("pictures/painter/*/*/*.png")
        assert len(pictures) == len(asked(tmp_path)) == 4 and out.exists("pictures/painter/measured.jsonl")
        assert job.main([*command, "--out", out.root]) == 0
        assert out.read_bytes("table.md") == table and len(asked(tmp_path)) == 4
        out.fs.rm(out.path(pictures[0]))
        assert job.main([*command, "--out", out.root]) == 0
        assert out.glob("pictures/painter/*/*/*.png") == pictures and len(asked(tmp_path)) == 5


def test_a_picture_is_in_the_bucket_when_it_is_kept_and_what_it_cost_before_it():
    with s3_bucket("kept"), mirrored("s3://kept/mine") as mirror:
        method = mirror.folder / "pictures" / "painter"
        (method / "anna").mkdir(parents=True)
        for name in ("measured.jsonl", "anna/1.png", "anna/2.png"):
            (method / name).write_bytes(name.encode())
        mirror.kept(method / "anna" / "1.png")
        there = mirror.storage
        assert there.files() == ["pictures/painter/anna/1.png", "pictures/painter/measured.jsonl"]
        assert there.read_bytes("pictures/painter/anna/1.png") == b"anna/1.png"


def test_as_a_ray_job(command, ray_cluster, tmp_path, capfd):
    if not ray_cluster["takes_jobs"]:
        pytest.skip("another Ray on this machine holds the port of the job agent")
    with s3_bucket("cluster"):
        where = ["--out", "s3://cluster/mine", "--cluster", ray_cluster["dashboard"], "--actors", "2", "--price", "3"]
        assert job.main([*command, *where]) == 0
        told = capfd.readouterr()
        assert " dollars" in told.err + told.out
        out = Storage("s3://cluster/mine")
        assert len(out.glob("pictures/painter/*/*/*.png")) == 4 == len(asked(tmp_path))
        assert "| painter |" in out.read_bytes("table.md").decode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "runs/mine"], "--out runs/mine: on a cluster it must mean the same on every node"),
        (["--weights", "models"], "--weights models: on a cluster it must mean the same"),
        (["--methods", "theirs=drawn"], "--methods drawn: on a cluster it must mean the same"),
        (["--methods", "face-makup"], "no such method, did you mean face-makeup"),
        (["--votes", "anna.json"], "give them when the pictures are there, without CLUSTER"),
        (["--twins"], "TWINS=1 wants OUT on a disk that all nodes share"),
    ],
)
def test_what_means_nothing_on_another_machine_is_said_before_it_is_sent(tmp_path, capsys, options, words):
    usual = ["--out", "s3://b/mine", "--shards", "s3://b/shards", "--cluster", "http://127.0.0.1:9"]
    assert job.main([*usual, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_jobs_text_is_a_recipe_with_the_prompts_in_it(tmp_path):
    """On Kubernetes the job reads it from a file."""
    (tmp_path / "prompts.yaml").write_text("place:\n  zoo: a person at the zoo\n  sea: eine Person am Ärmelkanal\n")
    given = {
        "out": "s3://b/mine",
        "shards": "s3://b/shards",
        "prompts": str(tmp_path / "prompts.yaml"),
        "count": 3,
        "model": "s3://b/m",
    }
    options = options_of(given)
    (tmp_path / "job.yaml").write_text(job_of(options).recipe)
    again = EvaluateOptions(**read_recipe(str(tmp_path / "job.yaml")))
    assert read_prompts(Path(again.prompts)) == read_prompts(tmp_path / "prompts.yaml")
    assert replace(again, prompts=options.prompts, methods=options.methods) == options
    assert again.parts == ["face-makeup.model=s3://b/m"] and again.changes == ["face-makeup.steps=12"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cuont: 3", "cuont is no option; there are: shards, out, count"),
        ("count: many", "count: 'many' is no int"),
        ("methods: instantid", "methods: write a list, a line `- VALUE` for each"),
        ("- count", "write a line `NAME: VALUE` for each option"),
        ("a: [", "is not YAML"),
        ("twins: 1", "twins: 1 is no bool"),
        ("count: 0", "count: 0 is less than 1"),
        ("dtype: fp8", "dtype: fp8: choose of auto, fp32, fp16, bf16"),
        ("methods: []", "methods: none is named: choose of face-makeup"),
        ("weights: 3", "weights: 3 is no str"),
        ("model: there", "model is no option; write parts: [face-makeup.model=PLACE]"),
        ("price: -2", "price: -2 is less than 0"),
        ("count: true", "count: True is no int"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_one_message(tmp_path, capsys, text, words):
    (tmp_path / "mine.yaml").write_text(text)
    assert job.main(["--recipe", str(tmp_path / "mine.yaml")]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_model_in_a_bucket_is_copied_once_and_again_when_it_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
    with s3_bucket("models"):
        there = Storage("s3://models/mine")
        there.write_bytes("unet/config.json", b"{}")
        there.write_bytes("adapter.bin", b"weights")
        copy = fetched("s3://models/mine")
        assert (copy / "unet" / "config.json").read_bytes() == b"{}"
        assert fetched("s3://models/mine/adapter.bin").read_bytes() == b"weights"
        monkeypatch.setattr(Storage, "get_file", None)
        assert fetched("s3://models/mine") == copy
        monkeypatch.undo()
        monkeypatch.setenv("FACEMAKEUP_CACHE", str(tmp_path / "cache"))
        there.write_bytes("adapter.bin", b"longer weights")
        assert (fetched("s3://models/mine/") / "adapter.bin").read_bytes() == b"longer weights"
        with pytest.raises(UserError, match="s3://models/gone: nothing is there"):
            fetched("s3://models/gone")
    shutil.rmtree(tmp_path / "cache")
