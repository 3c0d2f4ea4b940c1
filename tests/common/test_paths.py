"""A place is taken letter for letter, on a disk and in a bucket; one that nothing is written to is told at once."""

from __future__ import annotations

import io
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import common.progress
from common.paths import PathError, absolute, open_place, require_writable_place
from common.storage import Storage
from tests.servers.bucket import s3_bucket

NAMES = [
    "run [1]", "exp [lr=1e-4]", "a*b", "why?", "[!x]", "a b", "a#b", "50%", "a%20b", "x::y", "~x", "größe", "日本", "{a,b}",
    "a'b\"c", "back\\slash", "a=b&c;d", "$HOME", "new\nline",
]  # fmt: skip
NO_TEXT = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("name", [*NAMES, NO_TEXT])
def test_a_path_is_literal_on_a_disk(tmp_path, name):
    is_found_again(str(tmp_path / name))


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket("literal"):
        yield "s3://literal"


@pytest.mark.parametrize("name", [name for name in NAMES if "\n" not in name])  # the test's server has no such keys
def test_a_path_is_literal_in_a_bucket(bucket, name):
    is_found_again(f"{bucket}/{name}")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("https://example.com/x", "nothing can be written to https://"),
        ("ftp://a/b", "give a folder, s3://bucket/... or gs://bucket/..."),
        ("s3:/bucket/x", "two slashes: write s3://bucket/x"),
        ("gs:", "two slashes: write gs://"),
        ("s3://", "names no bucket"),
    ],
)
def test_a_place_that_nothing_is_written_to_is_told_at_once(place, words):
    with pytest.raises(PathError) as caught:
        require_writable_place(place)
    assert words in str(caught.value)


@pytest.mark.parametrize("place", ["runs/a", "a:b/c", "s3://bucket/x", "gs://bucket/x", "file:///x", *NAMES])
def test_every_other_place_is_one(place):
    require_writable_place(place)


def is_found_again(root):
    neighbour = root[:-1] + "_"  # what `?` would match, and `1` where a name ends in [1]
    Storage(neighbour).write_bytes("checks/other/1.bin", b"another's")
    storage = Storage(root)
    assert storage.glob("checks/*/[0-9].bin") == []
    storage.write_bytes("checks/a [1]/1.bin", b"one")
    storage.write_bytes("checks/a [1]/x.bin", b"two")
    storage.write_json("facts.json", {"at": root})
    again = Storage(root)
    assert again.glob("checks/*/[0-9].bin") == ["checks/a [1]/1.bin"]
    assert again.glob("checks/*/*") == ["checks/a [1]/1.bin", "checks/a [1]/x.bin"]
    assert again.glob("facts.*") == ["facts.json"] and again.read_json("facts.json") == {"at": root}
    assert again.exists("checks/a [1]/1.bin") and again.read_bytes("checks/a [1]/1.bin") == b"one"
    again.remove_folder("checks")
    assert again.glob("checks/*/*") == [] and again.exists("facts.json")
    assert Storage(neighbour).exists("checks/other/1.bin")


# patterns are rare among any letters: half of the names are made of what a pattern is made of
ON_DISK = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
) | st.text("[]*?!{}-a1 =#%~:", min_size=1, max_size=12)


@given(name=ON_DISK.filter(lambda name: name not in (".", "..") and len(name.encode()) < 200))
@settings(max_examples=60, deadline=None)
def test_any_name_that_a_disk_can_hold_is_a_folder(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("any")
    storage = Storage(folder / name)
    storage.write_bytes("a/1.bin", b"one")
    assert Storage(folder / name).glob("*/*.bin") == ["a/1.bin"]
    assert [path.name for path in folder.iterdir()] == [name]
    shutil.rmtree(folder)


def test_a_bucket_cannot_hold_what_is_no_text():
    with pytest.raises(PathError, match="keys are UTF-8 text, and this is none"):
        open_place(f"s3://bucket/{NO_TEXT}")


def test_only_ones_own_home_is_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    assert absolute("~/runs") == "/home/me/runs" and absolute("~") == "/home/me"
    assert absolute("~nobody/runs") == f"{tmp_path}/~nobody/runs"
    assert absolute("file:///a b") == "/a b" and absolute("s3://a/b") == "s3://a/b"


@pytest.mark.parametrize("name", ["exp [lr=1e-4]", "[bold]", "[/red]", "run [1]"])
def test_a_line_of_progress_shows_a_path_letter_for_letter(monkeypatch, name):
    shown = io.StringIO()
    monkeypatch.setattr(common.progress, "console", Console(file=shown, highlight=False, soft_wrap=True))
    common.progress.say("train", f"in {name}")
    assert f"train  in {name}\n" in shown.getvalue()
