"""A run's folder is found again under any name: a run that starts anew at step 0 would be lost work."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.ranks import assert_same_run, log_of, recipe_for, run_ranks
from training.checkpoint import Checkpoints
from training.launch.preflight import require_writable, resolved_out
from training.recipe import RecipeError

# patterns are rare among any letters: half of the names are made of what a pattern is made of
NAMES = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=30
) | st.text("[]*?!{}-a1 =#%~:", min_size=1, max_size=12)


@given(name=NAMES.filter(lambda name: name.strip(".") and len(name.encode()) < 200))
@settings(max_examples=50, deadline=None)
def test_any_folder_s_checkpoint_is_found(two_steps, tmp_path_factory, name):
    out = tmp_path_factory.mktemp("any") / name
    shutil.copytree(two_steps / "checkpoints", out / "checkpoints")
    assert [saved.step for saved in Checkpoints(str(out), 0, 1, 2).all()] == [2]
    assert Checkpoints(str(out), 0, 1, 2).clear_unfinished() == []
    shutil.rmtree(out)


def test_a_run_goes_on_where_it_was_whatever_its_name(shards, base, tmp_path, two_steps, undisturbed):
    out = shutil.copytree(two_steps, tmp_path / "exp [lr=1e-4] a * 50%#? größe")
    run_ranks(recipe_for(shards, base, saving__every=2), out)
    assert [row["step"] for row in log_of(out, "started")] == [0, 2]
    assert_same_run(out, undisturbed)


def test_a_path_that_is_no_text_is_refused_before_any_work():
    with pytest.raises(RecipeError, match=r"--out 'caf\\udce9': safetensors .* take another name"):
        resolved_out(os.fsdecode(b"caf\xe9"))


def test_a_folder_that_cannot_be_written_is_told_before_the_minutes_of_a_base(tmp_path, monkeypatch):
    require_writable(str(tmp_path / "a" / "b"))
    require_writable("s3://bucket/out")
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="file is a file: take another path"):
        require_writable(str(tmp_path / "file" / "run"))
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(RecipeError, match="is read-only, or you have no permission there"):
        require_writable(str(tmp_path / "run"))
