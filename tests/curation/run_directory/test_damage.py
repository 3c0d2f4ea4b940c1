"""Each kind of file of a run, gone, cut off or with another's content: the same shards, or one message and its remedy."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from common.command_line import exit_code_of
from common.failures.damage import DamagedFile
from curation import report
from curation.run_directory.candidates import id_texts, read_candidates, selected_ids
from curation.run_directory.run import Run
from tests.world import curate, fork, shard_hashes

FOLDERS = ("candidates", "selected", "fetched", "scores", "cuts", "annotations")
# each kind of docs/run-directory.md, and what has to be gone before it is read
MADE_AGAIN = {
    "selected/counts.json": (),
    "fetched/snapshot-*.parquet": (),
    "fetched/snapshot.json": (),
    "scores/*.parquet": (),
    "cuts/*/content.json": (),
    "cuts/*/verdicts/*/*.parquet": ("cuts/small/plan.parquet",),
    "cuts/*/verdicts/*/funnel.json": (),
    "cuts/*/no_identity.json": ("cuts/small/plan.parquet",),
    "cuts/*/plan.parquet": (),
    "annotations/*/*.parquet": (),
    "shards/*/0*.json": (),
    "shards/*/0*.tar": (),
}
FROM_THE_WEB = ("fetched/0*/*.tar", "fetched/0*/images/*.parquet")
DAMAGES = ("gone", "cut off", "another's")


def damaged(root: Path, pattern: str, damage: str) -> Path:
    """Damage one file that matches, in the way of `damage`."""
    file = min(root.glob(pattern))
    data = file.read_bytes()
    file.unlink()
    if damage == "cut off":
        file.write_bytes(data[:100])
    if damage == "another's":
        shutil.copy(root / "donor" / ("a.json" if file.suffix == ".json" else "a.parquet"), file)
    return file


def run_again(root: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The same command; "" where it ends well, else its one message."""
    capsys.readouterr()
    code = exit_code_of(lambda: curate(root, world) and None)
    said = capsys.readouterr().err
    assert code in (0, 2) and "Traceback" not in said
    return said.partition("stopped: ")[2]


def started(finished: Path, into: Path, *gone: str) -> Path:
    """A copy of a finished run without these files and folders; and `donor`, what is put in the place of others."""
    root = fork(finished, into, *FOLDERS, "shards")
    (root / "donor").mkdir()
    (root / "donor" / "a.json").write_text('{"another": "file"}')
    shutil.copy(root / "fetched" / "plan-00.parquet", root / "donor" / "a.parquet")
    for path in gone:
        shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()
    return root


@pytest.mark.parametrize("kind", MADE_AGAIN)
def test_what_can_be_made_again_is_or_the_message_says_what_to_delete(finished, small_world, tmp_path, capsys, kind):
    for damage in DAMAGES:
        gone = MADE_AGAIN[kind] if kind.startswith("shards") else ("shards", *MADE_AGAIN[kind])
        root = started(finished, tmp_path / damage, *gone)
        file = damaged(root, kind, damage)
        assert report.main([str(root), "--no-html"]) in (0, 1, 2)
        if message := run_again(root, small_world, capsys):
            assert str(file.parent) in message
            (what,) = re.findall(r": delete (.+), and `make curate` makes it again\n$", message)
            (file if what == "it" else Path(what)).unlink()
            assert run_again(root, small_world, capsys) == ""
        assert shard_hashes(root) == shard_hashes(finished), f"{kind}, {damage}"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["candidates/0*.parquet", "candidates/counts.json", "selected/0*.parquet"])
def test_a_fetch_needs_the_whole_selection(finished, tmp_path, kind, damage):
    root = started(finished, tmp_path / "run")
    run, ids = Run(root), id_texts(selected_ids(Run(finished))).to_pylist()
    damaged(root, kind, damage)
    with pytest.raises(
        DamagedFile, match=f"{kind.split('/')[0]}/.*: delete {root}/selected/counts.json, and `make curate`"
    ):
        selected_ids(run)
        read_candidates(run, ids)


@pytest.mark.parametrize("kind", FROM_THE_WEB)
def test_of_what_came_from_the_web_only_a_copy_helps(finished, small_world, tmp_path, capsys, kind):
    for damage in DAMAGES:
        root = started(finished, tmp_path / damage, "shards")
        file = damaged(root, kind, damage)
        message = run_again(root, small_world, capsys)
        assert str(file) in message and "restore" in message and "a new run directory" in message


def test_a_step_that_comes_too_early_says_which_one_is_first(finished, tmp_path, capsys):
    from curation.__main__ import main

    root = started(finished, tmp_path / "run", "shards", "cuts", "annotations")
    assert main(["annotate", str(root)]) == main(["pack", str(root)]) == 2
    assert capsys.readouterr().err.count("has no cut 'small' yet: `python -m curation cut` comes first") == 2
    assert not (root / "cuts").exists() and not (root / "annotations").exists()
