"""A run directory is found again under any name that a disk can hold."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import report
from curation.run_directory.run import Run
from tests.world import curate, shard_hashes

# patterns are rare among any letters: half of the names are made of what a pattern is made of
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=30
) | st.text("[]*?!{}-a1 =#%~:", min_size=1, max_size=12)


@given(name=NAMES.filter(lambda name: name.strip(".") and len(name.encode()) < 200))
@settings(max_examples=8, deadline=None)
def test_any_run_directory_is_reported(finished, tmp_path_factory, name):
    root = tmp_path_factory.mktemp("any") / name
    os.symlink(finished, root)
    assert report.main([str(root), "--no-html"]) == 0
    root.unlink()
    assert report.main([str(root), "--no-html"]) == 2, "it was this one, and no other that looks like it"


@pytest.mark.parametrize("name", ["run [1]", os.fsdecode(b"a *, 50%#? caf\xe9")])
def test_a_run_goes_on_where_it_was_whatever_its_name(finished, small_world, tmp_path, capsys, name):
    root = tmp_path / name
    shutil.copytree(finished, root)
    (tmp_path / "run 1").mkdir()  # what the pattern would mean
    shutil.rmtree(root / "shards")
    curate(root, small_world)
    said = capsys.readouterr().err
    assert "select  done before" in said and "0 requests" in said
    assert shard_hashes(root) == shard_hashes(finished)
    assert report.main([str(root)]) == 0 and Run(root).exists("report.html")
