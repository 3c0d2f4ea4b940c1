"""jobs/cache.py as a user meets it: made once, only what is missing again, and a reason where it stops."""

from __future__ import annotations

import json
import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import pytest
import torch
import yaml

from jobs import cache as job
from tests.training.made.shards import make_shards
from tests.training.ranks import recipe_for

KINDS = ["--what", "vae,clip", "--workers", "1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(shards, base): made samples, one of them no picture, and a random tiny base."""
    from common.pinned_files.weights import resolve
    from model.build import random_pipeline
    from model.config import load_config

    folder = tmp_path_factory.mktemp("world")
    random_pipeline(load_config("tiny"), resolve("clip-vocabulary").path).save_pretrained(folder / "base")
    return make_shards(folder / "shards", [5, 9, 6]), folder / "base"


def recipe_file(folder, shards, base, **changes):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_for(shards, base, **changes).model_dump(mode="json")))
    return str(path)


def said(capfd):
    return " ".join(capfd.readouterr().err.split())


def test_it_makes_what_is_missing_and_says_what_stops_it(world, ray_cluster, tmp_path, capfd):
    shards, base = world
    command = ["--recipe", recipe_file(tmp_path, shards, base), *KINDS]
    assert job.main(command) == 0
    told = said(capfd)
    assert "3 of 3 shards to make in cached/vae-" in told and "20 samples in" in told and "(fp32)" in told
    places = sorted((shards / "cached").iterdir())
    assert all(f"all 3 shards are in {place}" in told for place in places)
    assert f"next, training that reads it: python jobs/train.py --recipe {command[1]}" in told
    assert [place.name.partition("-")[0] for place in places] == ["clip", "vae"]
    for place in places:
        files = sorted(file.name for file in place.iterdir())
        assert files == sorted(
            [f"0000{n}.{end}" for n in range(3) for end in ("tar", "json")] + ["cached.json", "sizes.json"]
        )
    from training.assembly import assemble

    parts = assemble(recipe_for(shards, base, data__encoder_cache="require-both"), 0, 1, torch.device("cpu"))
    assert parts.batches[0].moments.shape == (4, 8, 8, 8) and parts.batches[0].valid.all()

    assert job.main(command) == 0
    assert "0 of 3 shards to make" in said(capfd)
    sidecar = shards / "00001.json"
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "sha256": "0" * 64}))
    assert job.main(command) == 2
    told = said(capfd)
    assert "1 of 3 shards to make" in told and "00001.tar: its sha256 is" in told and "Traceback" not in told


@pytest.mark.parametrize(
    ("words", "changes", "code", "expected"),
    [
        (["--what", "vae,text"], {}, 2, "text cannot be cached; give vae, clip or vae,clip"),
        (["--set", "data.encodr_cache=off"], {}, 2, "data.encodr_cache: no such field; did you mean `encoder_cache`?"),
        (["--cluster", "http://127.0.0.1:9"], {}, 2, "no Ray cluster answers there"),
        (["--cluster", "http://127.0.0.1:9"], {"data__shards": "runs/a"}, 2, "data.shards is runs/a: on a cluster"),
        ([], {"data__shards": "/nowhere/at/all"}, 2, "/nowhere/at/all"),
    ],
)
def test_a_mistake_is_one_message_before_any_work(world, tmp_path, capfd, words, changes, code, expected):
    assert job.main(["--recipe", recipe_file(tmp_path, *world, **changes), *words]) == code
    told = said(capfd)
    assert expected in told and "Traceback" not in told
