"""No two inputs share the name of an output file, on no disk."""

from __future__ import annotations

import unicodedata
from pathlib import PurePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from generation.names import LONGEST_NAME, name_for_files, name_in_shards, names_of_photos

# letters that are easily mistaken for each other, or that a name cannot have
LETTERS = [
    "a",
    "A",
    "b",
    "_",
    "-",
    "/",
    ".",
    " ",
    "é",
    "e\u0301",
    "ß",
    "ss",
    "ſ",
    "K",
    "k",
    "\u212a",
    "İ",
    "ᾳ",
    "\udce9",
    "\n",
]
KEYS = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=6).map("".join)
FILES = st.builds(
    lambda key, end: PurePath(f"{key}x{end}"), KEYS, st.sampled_from([".jpg", ".JPG", ".png", ".jpg.png"])
)


def different(names):
    """Where case does not count and every spelling of a letter is one."""
    decomposed = [unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold()) for name in names]
    return len({unicodedata.normalize("NFD", name) for name in decomposed}) == len(names)


@pytest.mark.parametrize(
    "keys", [("a b", "a/b"), ("x" * 250, "x" * 249 + "y"), ("caf\udce9", "caf\udcea"), (".a", "_a"), ("a\nb", "a_b")]
)
def test_names_of_output_files_differ_where_keys_do(keys):
    names = {name_for_files(key) for key in keys}
    assert len(names) == 2
    assert all(name.encode() and len(name) <= LONGEST_NAME + 13 and not set(name) & set("/\\\n") for name in names)


@given(st.sets(KEYS, max_size=12))
def test_names_of_keys_differ_on_every_disk(keys):
    names = {key: name_for_files(key) for key in keys}
    literal = {key: name_for_files(key) for key in names.values()}  # a key may be what another one's name is
    assert different({**names, **literal}.values())


@given(st.sets(st.tuples(KEYS, KEYS), max_size=12))
@example({("a", "b_0"), ("a_b", "0")})
def test_names_in_shards_differ_on_every_disk(pairs):
    # a shard's path has no empty part, as pathlib gives it
    pairs = {(PurePath(f"x{shard}").as_posix(), key) for shard, key in pairs}
    assert different([name_in_shards(*pair) for pair in pairs])


@given(st.sets(FILES, max_size=12))
@example({PurePath("A.jpg"), PurePath("a.jpg")})
@example({PurePath("x.jpg"), PurePath("x.jpg.png"), PurePath("x.png")})
@example({PurePath("a/x.jpg"), PurePath("a_x.jpg"), PurePath(name_for_files("a/x") + ".jpg")})
@example({PurePath("x-ABCDEFABCDEF.jpg"), PurePath("x-abcdefabcdef.png")})
def test_names_of_photos_differ_on_every_disk_and_so_do_their_pictures(files):
    names = names_of_photos(sorted(files))
    assert different(names)
    pictures = [f"{name}_{p:03d}_{i:02d}" for name in names for p in (0, 1, 100, 1000) for i in (0, 10, 100)]
    assert different(pictures)


def test_a_photo_keeps_its_name_where_it_is_the_only_one():
    files = [PurePath(name) for name in ("IMG_1.JPG", "x.jpg", "x.png", "Émile.jpg")]
    assert names_of_photos(files) == ["IMG_1", "x.jpg", "x.png", "Émile"]
