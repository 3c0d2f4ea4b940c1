"""Shards of any make are read, of which no piece stops the others or leaves the folder."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from generation.face_input import InputError
from generation.inputs import open_inputs
from generation.names import name_for_files
from tests.generation.test_inputs import picture

SAMPLE = {"jpg": picture(), "txt": b"a man", "json": b"{}"}


def shard(file, samples):
    """`samples`: {key: {extension: bytes}}; a key that ends in / is a folder."""
    with tarfile.open(file, "w") as tar:
        for key, members in samples.items():
            if key.endswith("/"):
                folder = tarfile.TarInfo(key)
                folder.type = tarfile.DIRTYPE
                tar.addfile(folder)
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return file


def inputs_in(place):
    inputs = open_inputs(place, [])
    found = list(inputs.read())
    assert inputs.count == len(found)
    return found


def test_a_shard_of_any_make_is_read(tmp_path):
    """With a folder's entry, keys below folders, without JSON, with another ending."""
    made = shard(
        tmp_path / "0.tar",
        {"./": {}, "./1": SAMPLE, "a/2": SAMPLE, "3": {"jpeg": picture(), "txt": b"x"}, "4": {"jpg": picture()}},
    )
    found = inputs_in(made)
    assert [(subject.name, subject.caption) for subject in found] == [
        ("1", "a man"), (name_for_files("a/2"), "a man"), ("3", "x"), ("4", None)
    ]  # fmt: skip
    assert all(subject.load().shape == (60, 80, 3) for subject in found)


@pytest.mark.parametrize("key", ["/tmp/evil", "a/b/evil", "x\\evil", "a\n[b]"])
def test_no_key_of_a_shard_leads_out_of_the_folder_of_pictures(tmp_path, key):
    (subject,) = inputs_in(shard(tmp_path / "0.tar", {key: SAMPLE}))
    assert not set(subject.name) & set("/\\\n[]")


@pytest.mark.parametrize(
    "damaged",
    [
        {"json": b"no json"},
        {"json": b"[]"},
        {"txt": "ü".encode("latin-1")},
        {"json": b'{"face_box": [1], "face_landmarks": [1], "face_score": 1}', "identity.npy": b"no array"},
    ],
)
def test_a_damaged_sample_is_a_reason_and_the_next_one_is_read(tmp_path, damaged):
    first, second = inputs_in(shard(tmp_path / "0.tar", {"1": SAMPLE | damaged, "2": SAMPLE}))
    assert "damaged" in first.problem and not second.problem


@pytest.mark.parametrize(("size", "words"), [(4500, "cannot be read on"), (3000, "after 1 of 2 samples")])
def test_a_shard_that_breaks_off_ends_as_a_reason(tmp_path, size, words):
    file = shard(tmp_path / "0.tar", {"1": SAMPLE, "2": SAMPLE})
    file.write_bytes(file.read_bytes()[:size])
    (tmp_path / "0.json").write_text(json.dumps({"samples": 2}))
    *_, last = open_inputs(tmp_path, []).read()
    assert words in last.problem


def test_a_file_that_is_no_shard_is_refused(tmp_path):
    file = tmp_path / "0.tar"
    file.write_bytes(b"<html>")
    with pytest.raises(InputError, match="no shard that can be read"):
        open_inputs(tmp_path, [])


def test_a_json_of_somebody_else_beside_a_shard_says_nothing(tmp_path):
    made = shard(tmp_path / "0.tar", {"1": SAMPLE})
    for other in ("{}", "[]", "no json", '{"samples": "many"}'):
        (tmp_path / "0.json").write_text(other)
        assert len(inputs_in(made)) == 1


def test_shards_that_each_count_from_0_do_not_take_each_others_names(tmp_path):
    for name in ("a.tar", "b.tar"):
        shard(tmp_path / name, {"0": SAMPLE})
    assert [subject.name for subject in inputs_in(tmp_path)] == ["a_0", "b_0"]


def test_members_may_be_in_capitals_and_a_sample_without_a_picture_says_so(tmp_path):
    capitals = {"JPG": picture(), "TXT": b"a man", "JSON": b"{}"}
    first, second = inputs_in(shard(tmp_path / "0.tar", {"1": capitals, "2": {"heic": b"x", "txt": b"y"}}))
    assert first.caption == "a man" and first.load().shape == (60, 80, 3)
    assert "members (heic, txt)" in second.problem


def test_a_key_that_stands_twice_is_a_reason_and_none_is_lost(tmp_path):
    made = tmp_path / "0.TAR"
    with tarfile.open(made, "w") as tar:
        for key in ("1", "2", "1"):
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = len(SAMPLE["jpg"])
            tar.addfile(member, io.BytesIO(SAMPLE["jpg"]))
    assert [subject.problem for subject in inputs_in(tmp_path)] == [
        "", "", "0.TAR has the key 1 twice, not side by side"
    ]  # fmt: skip


def test_a_sample_that_was_taken_out_of_a_shard_is_not_missed(tmp_path):
    shard(tmp_path / "0.tar", {"1": SAMPLE})
    index = [{"id": "0", "members": {}}, {"id": "1", "members": {"jpg": [512, 9]}}]
    (tmp_path / "0.json").write_text(json.dumps({"samples": 2, "index": index}))
    assert [(subject.name, subject.problem) for subject in inputs_in(tmp_path)] == [("1", "")]


def test_shards_with_more_samples_than_their_json_says_are_read_to_the_end(tmp_path):
    shard(tmp_path / "0.tar", {"1": SAMPLE, "2": SAMPLE})
    (tmp_path / "0.json").write_text('{"samples": 1}')
    assert len(list(open_inputs(tmp_path, []).read())) == 2


def test_shards_of_sub_folders_are_read_by_option_and_what_encoders_made_is_not(tmp_path):
    for name in ("0.tar", "more/0.tar", "cached/vae-1/0.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shard(tmp_path / name, {"1": SAMPLE})
        (tmp_path / name).with_suffix(".json").write_text('{"samples": 1}')
    alone, below = open_inputs(tmp_path, []), open_inputs(tmp_path, [], recursive=True)
    assert alone.count == 1 and alone.left_out == "not read: 1 sub-folder (--recursive reads it)"
    assert len({subject.name for subject in below.read()}) == below.count == 2 and not below.left_out
