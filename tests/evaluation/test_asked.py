"""Prompts and seeds: read by category, frozen by one hash, and what a table says where pictures are of others."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import evaluation
from common.storage import Storage
from evaluation.__main__ import main
from evaluation.asked import Asked, Prompt, facts, freeze, frozen, read_prompts
from evaluation.method_facts import differences
from evaluation.sets import Drawn, Method, Reference, SetError
from generation.provenance import Provenance, save
from tests.real_photos import read

FOLDER = Path(evaluation.__file__).parent / "prompts"


@pytest.mark.parametrize(
    ("file", "categories"),
    [
        ("own.yaml", ["appearance", "action", "scene", "style", "expression"]),
        ("published.yaml", ["wearing", "place", "action", "attire"]),
    ],
)
def test_twenty_prompts_by_what_they_ask_for(file, categories):
    prompts = read_prompts(FOLDER / file)
    assert len(prompts) == 20 and list(Counter(prompt.category for prompt in prompts)) == categories
    assert all("person" in prompt.words for prompt in prompts) and len({prompt.words for prompt in prompts}) == 20


def asked(*seeds, **words):
    return Asked(tuple(Prompt(name, text) for name, text in words.items()), seeds)


def test_one_hash_of_words_order_and_seeds():
    one = asked("42", snow="a person in the snow", sea="a person by the sea")
    others = [
        asked("42", snow="a person in deep snow", sea="a person by the sea"),
        asked("42", sea="a person by the sea", snow="a person in the snow"),
        asked("43", snow="a person in the snow", sea="a person by the sea"),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 4


def test_the_command_freezes_once_and_refuses_others(tmp_path, capsys):
    (tmp_path / "prompts.yaml").write_text("snow: a person in the snow\nsea: a person by the sea\n")
    command = ["freeze", str(tmp_path / "prompts.yaml"), "--seeds", "42", "--out", str(tmp_path / "out")]
    assert main(command) == 0 and main(command) == 0
    assert frozen(Storage(tmp_path / "out")) == asked("42", snow="a person in the snow", sea="a person by the sea")
    (tmp_path / "prompts.yaml").write_text("snow: a person in deep snow\nfog: a person in the fog\n")
    capsys.readouterr()
    assert main([*command, "--seeds", "7"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "other words: snow; new: fog; gone: sea; seeds 42, now 7" in told and "take another --out" in told


def test_what_was_changed_by_hand_is_told(tmp_path):
    out = Storage(tmp_path)
    freeze(asked("42", snow="a person in the snow"), out)
    told = json.loads((tmp_path / "asked.json").read_bytes())
    told["prompts"][0][1] = "a person in deep snow"
    (tmp_path / "asked.json").write_text(json.dumps(told))
    with pytest.raises(SetError, match="was changed after it was frozen"):
        frozen(out)


def method(*prompts, folder=None, file=None):
    reference = Reference("anna", Path("anna.jpg"))
    return Method("mine", tuple(Drawn(reference, name, "42", file, words) for name, words in prompts), (), folder)


def test_the_head_says_what_is_frozen_and_what_the_pictures_are_of():
    kept = asked("42", snow="a person in the snow")
    (line,) = facts([method(("snow", "a person in the snow"))], kept, ())
    assert line == f"prompts and seeds {kept.hash}, 1 prompts x 1 seeds, frozen"
    assert facts([method(("a person in the snow", "a person in the snow"))], kept, ()) == [line], "named by their words"
    _, changed = facts([method(("snow", "deep"))], kept, [Prompt("snow", "a person in deep snow")])
    assert changed == "CHANGED since they were frozen: other words: snow"
    _, strange = facts([method(("fog", ""))], kept, ())
    assert strange == "NOT among the frozen prompts: 1 of the pictures' prompts, e.g. fog"
    (found,) = facts(
        [method(("snow", "a person in the snow"))], None, [Prompt("snow", "a person in the snow", "scene")]
    )
    assert "1 prompts (1 scene) x 1 seeds, as found: nothing was frozen here" in found


def test_only_of_what_was_drawn_here_is_it_said_that_prompts_were_frozen_before(tmp_path):
    kept = asked("42", snow="a person in the snow")
    mine = method(("snow", ""), folder=tmp_path)
    theirs = replace(mine, name="theirs")
    bound = method(("snow", ""))
    assert facts([mine, bound], kept, (), {"mine"})[0].endswith(", frozen before the pictures were drawn")
    assert facts([theirs], kept, ())[0].endswith(
        ", frozen; whether before the pictures of theirs were drawn is not known"
    )
    told = facts([mine, theirs], kept, (), {"mine"})[0]
    assert told.endswith(
        "before the pictures of mine were drawn; whether before the pictures of theirs were drawn is not known"
    )


def test_what_was_frozen_and_never_drawn_is_said(tmp_path):
    kept = asked("42", "43", snow="a person in the snow", sea="a person by the sea")
    (_, told) = facts([method(("snow", ""), folder=tmp_path)], kept, ())
    assert told.startswith("mine: 3 of the 4 frozen prompts and seeds were never drawn") and "e.g. snow 43" in told
    without = method(("snow", ""), folder=tmp_path)
    without = replace(without, drawn=tuple(replace(item, seed="") for item in without.drawn))
    (_, told) = facts([without], kept, ())
    assert told.startswith("mine: 1 of the 2 frozen prompts were never drawn") and told.endswith("e.g. sea")
    other = replace(without, drawn=tuple(Drawn(item.reference, name, seed) for item in without.drawn
                                         for name in ("snow", "sea") for seed in ("42", "43", "7")))  # fmt: skip
    assert facts([other], kept, ())[1:] == ["mine: NOT among the frozen seeds: 7"]


def test_what_differs_between_methods_is_said_by_them_or_seen_or_not_said(tmp_path):
    (tmp_path / "a.png").write_bytes(read("cat"))
    (tmp_path / "method.json").write_text('{"steps": 50, "guidance": 7.5, "native_size": "512 x 512"}')
    mine = method(("snow", ""), folder=tmp_path, file=tmp_path / "a.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes(read("cat"))
    other = method(("snow", ""), folder=tmp_path / "other", file=tmp_path / "other" / "a.png")
    assert differences([mine, other, method(("snow", ""))]) == [
        ("base model", ["not said", "not said", "not said"]),
        ("native size", ["512 x 512", "451 x 300 (of its pictures)", "not said"]),
        ("scheduler", ["not said", "not said", "not said"]),
        ("steps", ["50", "not said", "not said"]),
        ("guidance", ["7.5", "not said", "not said"]),
    ]
    record = Provenance(software="x", version="1", pipeline="OtherPipeline", base_model="sd15", weights={})
    save(np.full((64, 48, 3), 90, np.uint8), tmp_path / "other" / "a.png", record, watermark=False)
    told = {what: of[0] for what, of in differences([other])}
    assert (told["base model"], told["pipeline"]) == ("sd15", "OtherPipeline"), "what a picture's own record says"
    assert told["native size"] == "48 x 64 (of its pictures)"
    (tmp_path / "method.json").write_text("[]")
    with pytest.raises(SetError, match="is no JSON object"):
        differences([mine])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {snow: deep}\nb: {snow: light}\n", "line 2: two prompts are called snow, also line 1: rename one"),
        ("snow: deep\nsea: wide\nsnow: light\n", "line 3: two prompts are called snow, also line 1"),
        ("snow: deep\nSnow: light\n", "line 2: two prompts are called Snow, also line 1"),
        ("a: {snow: 3}\n", "line 1: holds no prompts: snow has no words"),
        ("a: {}\n", "prompts.yaml: holds no prompts"),
        ("sea: wide\nby/the-sea: wide\n", "line 2: 'by/the-sea' cannot be the name of a prompt"),
        ("'': wide\n", "line 1: '' cannot be the name"),
        ("..: wide\n", "line 1: '..' cannot be the name"),
        ("sea: wide\nsnow: [\n", "line 3: is not YAML"),
    ],
)
def test_prompts_that_cannot_be_used_with_their_line(tmp_path, text, words):
    (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(SetError) as told:
        read_prompts(tmp_path / "prompts.yaml")
    assert words in str(told.value)


def test_a_name_is_what_is_written(tmp_path):
    """YAML takes `no` for False and `010` for 8: pictures are filed under the letters."""
    (tmp_path / "prompts.yaml").write_text("no: a person who says no\n010: a person with ten fingers\n")
    assert [prompt.name for prompt in read_prompts(tmp_path / "prompts.yaml")] == ["no", "010"]


@pytest.mark.parametrize(
    ("seeds", "words"), [(["x"], "--seeds x: write whole"), (["4", "4"], "4: stands there twice"), (["04"], "04: write")]
)  # fmt: skip
def test_what_is_no_seed_is_refused_and_nothing_frozen(tmp_path, capsys, seeds, words):
    (tmp_path / "prompts.yaml").write_text("snow: a person in the snow\n")
    command = ["freeze", str(tmp_path / "prompts.yaml"), "--out", str(tmp_path / "out"), "--seeds", *seeds]
    assert main(command) == 2 and words in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "out").exists()


def test_methods_of_other_prompts_and_seeds_are_told_apart():
    reference = Reference("anna", Path("anna.jpg"))

    def method(name, *pairs):
        return Method(name, tuple(Drawn(reference, *pair, Path(f"{pair}.png"), pair[0]) for pair in pairs), ())

    mine, same = (method(name, ("snow", "1"), ("sea", "1")) for name in ("mine", "same"))
    told = facts([mine, same, method("theirs", ("snow", "1"), ("zoo", "9"))], None, ())
    assert [line for line in told if "NOT the prompts and seeds" in line] == [
        "theirs: NOT the prompts and seeds of mine: 2 a reference, 1 of them shared, of 2; their difference is one of prompts, too"
    ]
