"""jobs/plan.py as a user meets it: what is read and what is assumed, a run beside its prediction, what is refused."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from jobs import plan as job
from tests.training.made.shards import make_shards
from training.recipe import RECIPES

ROOT = Path(job.__file__).resolve().parents[1]
GPU = ["--gpu", "cpu", "--gpus", "2", "--peak-tflops", "0.1"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The tiny recipe on shards that are there."""
    folder = tmp_path_factory.mktemp("plan")
    shards = make_shards(folder / "shards", [13, 20, 7])
    tree = yaml.safe_load((RECIPES / "tiny.yaml").read_text())
    tree["data"] |= {"shards": str(shards), "shard_cache": str(folder / "cache")}
    (folder / "mine.yaml").write_text(yaml.safe_dump(tree))
    return folder / "mine.yaml"


def told(capsys, *arguments):
    assert job.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def logged(folder, rates):
    folder.mkdir()
    rows = [{"kind": "validation", "step": 0, "loss": 1.0}]
    rows += [{"kind": "train", "step": 5 * at, "images_per_second": value} for at, value in enumerate(rates, 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tra')
    return folder


def test_samples_and_their_bytes_are_read_where_the_shards_are(recipe, capsys):
    found = told(capsys, "--recipe", str(recipe), *GPU)
    tars = sorted(recipe.parent.glob("shards/*.tar"))
    assert found["given"]["samples"] == 40
    assert found["given"]["sample_bytes"] == pytest.approx(sum(tar.stat().st_size for tar in tars) / 40)
    assert not {"samples", "sample_bytes"} & set(found["assumed"])
    assert "40 samples" in found["notes"][0] and found["plan"]["epochs"] == pytest.approx(600 * 16 / 40)
    given = told(capsys, "--recipe", str(recipe), *GPU, "--samples", "80", "--price", "3")
    assert given["given"]["samples"] == 80 and "price" not in given["assumed"]


def test_what_cannot_be_read_is_assumed_and_said(recipe, capsys):
    found = told(capsys, "--recipe", str(recipe), "--set", "data.shards=nowhere/shards", *GPU)
    assert found["given"]["samples"] == 4_200_000 and {"samples", "sample_bytes"} <= set(found["assumed"])
    assert "no nowhere/shards here" in found["notes"][0]


def test_the_table_says_everything(recipe, capsys):
    assert job.main(["--recipe", str(recipe), *GPU]) == 0
    said = capsys.readouterr().out
    for words in (
        "tiny on 2 x cpu", "Arithmetic, not a measurement", "Assumed", "30% and 40%", "40 samples of", "TFLOP an image",
        "images/s at 30% / 40%", "limited by", "GB/s needed", "loader cores needed", "hours an epoch", "$ to make the cache",
        "epochs until it has paid", "ZeRO-2 (recipe)", "ZeRO-3", "a step and rank", "At 30%: cache VAE (make cache WHAT=vae DTYPE=fp16)",
        "At 40%: cache", f"Next: python jobs/train.py --recipe {recipe} --ranks 2\n",
    ):  # fmt: skip
        assert words in said, words


def test_a_run_stands_beside_its_prediction(recipe, tmp_path, capsys):
    out = logged(tmp_path / "out", [1.0, 20.0, 22.0, 90.0])
    found = told(capsys, "--recipe", str(recipe), *GPU, "--measured", str(out), "--cached", "vae")
    measured, option = found["measured"], found["plan"]["options"][1]
    assert (measured["images_per_second"], measured["lines"], measured["cached"]) == (22.0, 4, "VAE")
    assert measured["utilisation"] == pytest.approx(22 * option["flop"] / 0.2e12)
    assert measured["mfu"] == pytest.approx(22 * found["plan"]["model_flop"] / 0.2e12)
    assert [each["error"] for each in measured["predictions"]] == pytest.approx(
        [speed["images_per_second"] / 22 - 1 for speed in option["speeds"]]
    )
    job.main(["--recipe", str(recipe), *GPU, "--measured", str(out)])
    assert "22 images/s" in (said := capsys.readouterr().out) and "predicted at 40%" in said


def test_a_cpu_has_no_prediction_and_is_measured_all_the_same(recipe, tmp_path, capsys):
    out = logged(tmp_path / "out", [3.0])
    assert job.main(["--recipe", str(recipe), "--gpu", "cpu", "--measured", str(out)]) == 0
    said = capsys.readouterr().out
    assert "1 x cpu" in said and "No speed is predicted" in said and "PEAK_TFLOPS" in said
    assert "3 images/s; nothing to compare it with" in said and "images/s at" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "b300"], ["b300 is not known", "a100", "rtx4090", "--peak-tflops"]),
        (["--gpu", "v100", "--set", "engine.dtype=bf16"], ["v100 has no bf16", "engine.dtype=fp16"]),
        (["--mfu", "half"], ["--mfu half", "0.30,0.40"]),
        (["--price", "0"], ["price is 0"]),
        (["--gpus", "0"], ["gpus is 0"]),
        (["--gpus", "2", "--measured", "nowhere"], ["nowhere/log.jsonl cannot be read"]),
        (["--set", "engine.zer=3"], ["engine.zer", "did you mean `zero`"]),
    ],
)
def test_what_cannot_be_planned_is_refused_in_words(recipe, arguments, words, capsys):
    assert job.main(["--recipe", str(recipe), *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_log_without_training_is_refused(recipe, tmp_path, capsys):
    assert job.main(["--recipe", str(recipe), *GPU, "--measured", str(logged(tmp_path / "out", []))]) == 2
    assert "no line of kind train" in capsys.readouterr().err


def test_ranks_that_training_refuses_are_told(recipe, capsys):
    notes = told(capsys, "--recipe", str(recipe), "--gpu", "rtx3090", "--gpus", "3")["notes"]
    assert "refuse this recipe on 3 GPUs" in notes[-1] and "lanes" in notes[-1]


def test_make_passes_on_what_it_is_given():
    def asked(*words):
        command = subprocess.run(
            ["make", "-n", "--no-print-directory", "plan-train", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        line = command.stdout.replace("\\\n", " ").split("jobs/plan.py")[1]
        return job.parser().parse_args(shlex.split(line))

    assert (asked().recipe, asked().gpu, asked().json) == ("default", "a100", False)
    found = asked(
        "RECIPE=authors", "GPU=NVIDIA L4", "STORAGE_GBS=0.5", "SAMPLES=9", "SET=engine.zero=3 seed=1", "JSON=1"
    )
    assert (found.recipe, found.gpu, found.storage_gbs, found.samples) == ("authors", "NVIDIA L4", 0.5, 9)
    assert found.set == ["engine.zero=3", "seed=1"] and found.json
