"""Where faces come from: shards and photos of any make, of which no piece stops the others or leaves the folder."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from generation.inputs import LONGEST_NAME, InputError, name_for_files, open_inputs, read_prompts


def picture():
    data = io.BytesIO()
    Image.new("RGB", (80, 60), "red").save(data, "JPEG")
    return data.getvalue()


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


def test_a_folder_is_no_photo_and_a_file_that_cannot_be_read_is_a_reason(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here.jpg").write_bytes(picture())
    gone, here = open_inputs(tmp_path, ["a person"]).read()
    with pytest.raises(ValueError, match="cannot be read"):
        gone.load()
    assert np.array_equal(here.load().shape, (60, 80, 3))


def test_members_may_be_in_capitals_and_a_sample_without_a_picture_says_so(tmp_path):
    capitals = {"JPG": picture(), "TXT": b"a man", "JSON": b"{}"}
    first, second = inputs_in(shard(tmp_path / "0.tar", {"1": capitals, "2": {"heic": b"x", "txt": b"y"}}))
    assert first.caption == "a man" and first.load().shape == (60, 80, 3)
    assert "members (heic, txt)" in second.problem


@pytest.mark.parametrize(
    "keys", [("a b", "a/b"), ("x" * 250, "x" * 249 + "y"), ("caf\udce9", "caf\udcea"), (".a", "_a"), ("a\nb", "a_b")]
)
def test_names_of_output_files_differ_where_keys_do(keys):
    names = {name_for_files(key) for key in keys}
    assert len(names) == 2
    assert all(name.encode() and len(name) <= LONGEST_NAME + 13 and not set(name) & set("/\\\n") for name in names)


def test_photos_of_one_stem_have_names_of_their_own(tmp_path):
    for name in ("x.jpg", "x.png", "x.jpg.png", "y.JFIF", "z.HEIC", "caf\udce9.JPG", "n" * 246 + ".jpg", "notes.txt"):
        (tmp_path / name).write_bytes(picture())
    found = list(open_inputs(tmp_path, ["a person"]).read())
    assert len(found) == 7 and len({each.name for each in found}) == 7
    problems = {each.name: each.problem for each in found if each.problem}
    assert problems == {"z": "HEIC pictures are not read; convert it to JPEG, PNG or WebP"}
    assert all(each.load().shape == (60, 80, 3) for each in found if not each.problem)


def test_prompts_are_one_clean_line_each(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa man\u2028in red\r\n\r\n a  dog \rlast".encode())
    assert read_prompts(["\ufeffx"], str(file)) == ["x", "a man in red", "a dog", "last"]
    file.write_bytes("a man".encode("utf-16"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_prompts([], str(file))
    with pytest.raises(InputError, match="--prompt: not UTF-8"):
        read_prompts(["caf\udce9"], None)
