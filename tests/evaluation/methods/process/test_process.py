"""A program of its own environment as a method: asked once for each picture, ended with its children when it hangs, its words the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common.errors import UserError
from evaluation.asked import Asked, Prompt
from evaluation.method_facts import facts_of
from evaluation.methods import registry
from evaluation.methods.sources import MethodSources
from generation.provenance import read
from tests.evaluation.methods.made import make

PAINTER = Path(__file__).with_name("painter.py")
SNOW, SEA = "a person in the snow", "a person by the sea"


@pytest.fixture
def row(tmp_path):
    """Draws these prompts of two people by the painter; `log` in it: what the painter was asked so far."""
    references, sources = make(tmp_path / "in")

    def draw(*prompts: str, **changes):
        own = {
            "program": str(PAINTER),
            "width": 48,
            "height": 32,
            "settings": {"log": str(tmp_path / "log"), "strength": 2},
        }
        own |= {"seconds_to_start": 60, "seconds_a_picture": 60} | changes
        (tmp_path / "painter.yaml").write_text(yaml.safe_dump(own))
        asked = Asked(tuple(Prompt(words.replace(" ", "-"), words) for words in prompts), ("7",))
        (made,) = registry.rows_of([f"painter={tmp_path / 'painter.yaml'}"], sources)
        return made(references[:2], asked, tmp_path / "out")

    draw.log = lambda: [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    return draw


def reasons(method):
    return {(item.reference.name, item.words): item.failure for item in method.drawn if item.failure}


def gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # ended, and not yet waited for by whoever adopted it


def test_it_is_told_what_to_draw_and_asked_for_each_picture_once(row, tmp_path):
    facts = {"base_model": "none", "steps": 1}
    first = row(
        SNOW, SEA, facts=facts, files={"brush": "in/adapter.bin"}, licences={"brush": "MIT"}, title="The painter"
    )
    assert first.name == "The painter" and first.missing == 0
    asked = row.log()
    assert [(item["prompt"], item["seed"]) for item in asked] == [(SNOW, 7), (SEA, 7)] * 2
    for item, photo in zip(asked[::2], ("anna", "ben"), strict=True):
        assert (item["width"], item["height"], item["device"], item["dtype"]) == (48, 32, "cpu", "fp32")
        assert item["settings"]["strength"] == 2 and item["files"]["brush"] == str(tmp_path / "in" / "adapter.bin")
        assert item["photos"] != asked[0]["photos"] or photo == "anna"
    assert len({item.file.read_bytes() for item in first.drawn}) == 4
    told = facts_of(first)
    assert (told["native_size"], told["base_model"], told["strength"]) == ("48 x 32", "none", "2")
    assert (
        "brush " in told["weights"]
        and "program " in told["weights"]
        and "(median of 4, cpu)" in told["seconds_a_picture"]
    )
    assert read(first.drawn[0].file).pipeline == "The painter"
    again = dict(facts=facts, files={"brush": "in/adapter.bin"}, licences={"brush": "MIT"}, title="The painter")
    first.drawn[1].file.unlink()
    assert row(SNOW, SEA, **again) == first and len(row.log()) == 5, "only the one that was not there"


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ({"seconds_a_picture": 50}, 0),
        ({"title": "Other"}, 0),
        ({"width": 40}, 2),
        ({"settings": {"strength": 3}}, 2),
        ({"program": "other.py"}, 2),
    ],
)
def test_a_picture_depends_on_the_program_and_what_it_is_told_not_on_limits(row, tmp_path, change, new):
    (tmp_path / "other.py").write_text(PAINTER.read_text() + "\n# otherwise\n")
    row(SNOW)
    if "settings" in change:
        change = {"settings": {"log": str(tmp_path / "log"), **change["settings"]}}
    row(SNOW, **change)
    assert len(row.log()) == 2 + new


def test_its_reason_stands_in_the_row_and_it_goes_on(row):
    drawn = row("nobody", SNOW)
    assert set(reasons(drawn).values()) == {"nobody is in the photo"} and drawn.missing == 2
    assert len(row.log()) == 4


def test_what_hangs_is_ended_with_its_children_and_the_rest_is_drawn(row, tmp_path):
    drawn = row(SNOW, "hang", seconds_a_picture=2)  # the pictures are first ones of a process: they have a minute
    why = "no picture after 2 seconds: the program was ended: a library says hello | waiting for a lock"
    assert reasons(drawn) == {(name, "hang"): why for name in ("anna", "ben")}
    assert gone(int((tmp_path / "child").read_text()))
    assert drawn.missing == 2 and len(row.log()) == 4


def test_what_ends_tells_its_last_words_and_another_process_draws_the_rest(row):
    drawn = row(SNOW, "die", SEA)
    why = "the program ended (exit code 3): a library says hello | loading | CUDA out of memory"
    assert reasons(drawn) == {(name, "die"): why for name in ("anna", "ben")}


def test_what_never_works_is_a_row_with_its_reason(row, tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    drawn = row(SNOW, SEA, program="broken.py")
    assert drawn.drawn == () and "ModuleNotFoundError: No module named 'nothing_of_this_name'" in drawn.absent
    slow = row(SNOW, "hang", program=str(PAINTER), seconds_to_start=0.01)
    assert "no picture after 0.01 seconds" in slow.absent


def test_a_picture_that_is_still_written_is_waited_for_and_another_format_is_refused(row):
    slowly = row("slowly", "jpeg")
    assert set(reasons(slowly).values()) == {"the program left a picture as JPEG, not as PNG"}
    picture = np.asarray(Image.open(next(item.file for item in slowly.drawn if item.file)))
    assert picture.shape == (32, 48, 3) and picture[-1].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"program": "none.py"}, "not here: program ("),
        ({"files": {"model": "none.bin"}}, "not here: model ("),
        ({"python": "none/bin/python"}, "not here: the Python of its environment, "),
    ],
)
def test_what_the_description_names_and_is_not_there_is_refused_before_anything_is_drawn(row, change, words):
    with pytest.raises(UserError) as told:
        row(SNOW, **change)
    assert "painter.yaml: " in str(told.value) and words in str(told.value)


def test_a_mistake_in_the_description_is_one_message(tmp_path):
    for text, words in (
        ("program: a.py\nwidht: 3\n", "did you mean `width`"),
        ("width: 3\n", "program"),
        ("- a\n", "YAML mapping"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UserError, match=words):
            registry.rows_of([f"bad={tmp_path / 'bad.yaml'}"], MethodSources())


def test_the_programs_environment_is_not_this_one(row, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", "") + ":/of/this/project")
    (tmp_path / "nosy.py").write_text("import os, sys\nsys.exit(str([os.environ.get('PYTHONPATH'), os.getcwd()]))\n")
    assert f"[None, '{tmp_path}']" in row(SNOW, program="nosy.py").absent
