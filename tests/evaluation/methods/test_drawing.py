"""Each picture once, whatever kills the run; what fails has its reason; what cannot be loaded is a row."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from PIL import Image

from common.errors import UserError
from evaluation.method_facts import facts_of
from evaluation.methods.drawing import pictures_by
from evaluation.methods.folder import other_people, references_themselves
from evaluation.sets import open_method
from generation.provenance import read
from tests.evaluation.methods.made import ASKED, Made, make

ALL = 2 * len(ASKED.prompts) * len(ASKED.seeds)  # of the two that have a face


@pytest.fixture
def counted(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    return lambda: (tmp_path / "counted").read_text().splitlines() if (tmp_path / "counted").exists() else []


def draw(tmp_path, **changes):
    references, sources = make(tmp_path / "in", **changes)
    return pictures_by(Made, sources, references, ASKED, tmp_path / "out")


def test_each_picture_is_drawn_once_and_what_fails_has_its_reason(tmp_path, counted):
    first = draw(tmp_path)
    assert [item.failure for item in first.drawn] == [""] * ALL + ["no face was found"] * 4
    assert first.missing == 4 and len(set(counted())) == len(counted()) == ALL
    assert draw(tmp_path) == first and len(counted()) == ALL
    record = read(first.drawn[0].file)
    assert record.seed == 42 and record.weights["adapter"] == Made(make(tmp_path / "in")[1]).weights["adapter"]
    told = facts_of(first)
    assert told["steps"] == "5" and told["licences"] == "adapter MIT" and told["weights"].startswith("adapter ")
    assert f"(median of {ALL}, cpu)" in told["seconds_a_picture"] and told["peak_memory"].endswith(" GiB (cpu)")


def test_the_folder_is_read_again_as_any_methods(tmp_path, counted):
    drawn = draw(tmp_path)
    again = open_method("Made", tmp_path / "out" / "made", make(tmp_path / "in")[0])
    assert {(item.prompt, item.seed, item.file, item.words) for item in again.drawn if item.file} == {
        (item.prompt, item.seed, item.file, item.words) for item in drawn.drawn if item.file
    }
    assert {item.failure for item in again.drawn if not item.file} == {"no face was found"}


@pytest.mark.parametrize("change", ["weights", "setting", "photo", "words", "dtype"])
def test_what_a_picture_depends_on_draws_it_anew_and_keeps_the_other(tmp_path, counted, change):
    before = draw(tmp_path)
    references, sources = make(tmp_path / "in", **({"steps": 6} if change == "setting" else {}))
    asked = ASKED
    if change == "weights":
        (tmp_path / "in" / "adapter.bin").write_bytes(b"trained on")
    if change == "photo":
        Image.effect_noise((64, 64), 50).convert("RGB").save(references[0].file)
    if change == "words":
        asked = ASKED.__class__((ASKED.prompts[0]._replace(words="deep snow"), ASKED.prompts[1]), ASKED.seeds)
    if change == "dtype":
        sources = sources.__class__(sources.weights, dtype="bf16", device="cpu")
    after = pictures_by(Made, sources, references, asked, tmp_path / "out")
    new = {item.file for item in after.drawn} - {item.file for item in before.drawn}
    assert len(new) == {"photo": ALL // 2, "words": ALL // 2}.get(change, ALL)
    assert all(item.file.is_file() for item in before.drawn if item.file)
    assert draw(tmp_path).missing == 4


def test_what_cannot_be_loaded_is_a_row_with_its_reason_and_what_is_known_of_it(tmp_path, counted):
    references, sources = make(tmp_path / "in")
    (tmp_path / "in" / "adapter.bin").unlink()
    gone = pictures_by(Made, sources, references, ASKED, tmp_path / "out")
    assert gone.absent.startswith(
        "not here: adapter. Name them (--part made.adapter=PLACE), or fetch adapter (someone/adapter/adapter.bin, MIT): "
        "`hf download someone/adapter adapter.bin`"
    )
    assert gone.drawn == () and facts_of(gone)["native_size"] == "16 x 16"
    (tmp_path / "in" / "adapter.bin").write_bytes(b"damaged")
    damaged = pictures_by(Made, sources, references, ASKED, tmp_path / "out")
    assert damaged.absent == "cannot be loaded: RuntimeError: a file that is no model" and counted() == []
    with pytest.raises(UserError, match="--part made.adapter=/nowhere: no such file"):
        Made(sources.__class__(named={"made.adapter": "/nowhere"}))


def test_a_method_that_breaks_keeps_what_it_drew(tmp_path, counted):
    broken = draw(tmp_path, breaks_at="'a person by the sea'")
    assert broken.missing == 3 * 4 - 2 and len(counted()) == 2
    assert {item.failure for item in broken.drawn} == {"", "broke while it drew: RuntimeError: out of memory"}
    at_once = draw(tmp_path, breaks_at="'a person in the snow'")
    assert at_once.absent == "broke while it drew: RuntimeError: out of memory"


def test_a_published_files_hash_is_held(tmp_path):
    _, sources = make(tmp_path / "in")

    class Pinned(Made):
        needs = (Made.needs[0].__class__("adapter", "MIT", "someone/adapter", "adapter.bin", sha256="0" * 64),)

    with pytest.raises(UserError, match="its sha256 is .* the published file's is 0000"):
        Pinned(sources)


KILLED = """
import os, signal, sys
from pathlib import Path
from common.storage import Storage
from evaluation.methods import drawing, measure
from tests.evaluation.methods.made import ASKED, Made, make

POINTS = {"save": (drawing, "save"), "append": (measure, "append"), "log": (Storage, "write_bytes"), "facts": (Storage, "write_json")}

def die_at(when, point, call):
    owner, name = POINTS[point]
    real, calls = getattr(owner, name), []

    def killing(*arguments, **named):
        calls.append(1)
        if when == "before" and len(calls) == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if len(calls) == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)
    references, sources = make(Path(sys.argv[1]) / "in")
    drawing.pictures_by(Made, sources, references, ASKED, Path(sys.argv[1]) / "out")

for place in sys.argv[2:]:  # forked: importing all this takes seconds
    child = os.fork()
    if not child:
        die_at(*place.split())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, place
    kept = sum(1 for _ in Path(sys.argv[1], "out").rglob("*.png"))
    print(kept, len(Path(os.environ["COUNTED"]).read_text().splitlines()))
"""
PLACES = ("before append 2", "after append 1", "after save 1", "before save 1", "after append 2", "before log 1", "after log 1", "before facts 1")  # fmt: skip


def test_killed_at_each_commit_point_no_picture_is_drawn_twice(tmp_path, counted):
    """Only the one that was in hand and not yet kept is drawn again; what is told at the end is what an unbroken run tells."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), *PLACES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, drawings = zip(*(map(int, line.split()) for line in done.stdout.splitlines()), strict=True)
    lost = [place.split()[1] == "append" or place == "before save 1" for place in PLACES]  # the one that was in hand
    assert kept == (1, 1, 2, 2, 3, ALL, ALL, ALL)
    assert [number - there for number, there in zip(drawings, kept, strict=True)] == list(accumulate(lost))
    unbroken = draw(tmp_path)
    assert len(counted()) == ALL + sum(lost)
    assert [item.failure for item in unbroken.drawn] == [""] * ALL + ["no face was found"] * 4
    for item in unbroken.drawn[:ALL]:
        Image.open(item.file).load()
    assert f"(median of {ALL}, cpu)" in facts_of(unbroken)["seconds_a_picture"]


def test_the_references_themselves_and_other_people_for_the_same_prompts(tmp_path):
    references, _ = make(tmp_path)
    copies, others = references_themselves(references, ASKED), other_people(references, ASKED)
    assert [item.file.name for item in copies.drawn[::4]] == ["anna.png", "ben.png", "dark.png"]
    assert [item.file.name for item in others.drawn[::4]] == ["ben.png", "dark.png", "anna.png"]
    assert [(item.prompt, item.seed) for item in others.drawn[:4]] == [
        (prompt.name, seed) for prompt in ASKED.prompts for seed in ASKED.seeds
    ]
    assert other_people(references[:1], ASKED).missing == 4
