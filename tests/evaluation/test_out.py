"""Whose table a folder holds, and that what is refused leaves nothing."""

from __future__ import annotations

import shutil

import pytest

from common.errors import UserError
from common.storage import Storage
from evaluation.__main__ import main
from evaluation.out import EVALUATE, NAME, Comparison, at_work_alone, claim, refused_leaves_nothing
from evaluation.sets import SetError

MINE = Comparison("score", "/photos", "abc", {"mine": "/drawn"})


def test_the_same_again_and_one_method_more_go_on(tmp_path):
    out = Storage(tmp_path / "out")
    claim(out, MINE)
    claim(out, MINE)
    claim(out, Comparison("score", "/moved", "abc", {"mine": "/drawn"}))
    claim(out, Comparison("score", "/moved", "a caption was mended", {"theirs": "/else", "mine": "/drawn"}))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Comparison(EVALUATE), "holds another table, of `score`: take another --out"),
        (Comparison("score", "/others", "def", MINE.methods), "of the references /photos (set abc), and these are /others"),
        (Comparison("score", "/photos", "abc", {"theirs": "/else"}), "with the method mine (/drawn), which is not named"),
        (Comparison("score", "/photos", "abc", {"mine": "/new"}), "whose mine is /drawn, and now is /new"),
    ],
)  # fmt: skip
def test_a_table_is_not_replaced_by_that_of_another_comparison(tmp_path, other, words):
    out = Storage(tmp_path)
    claim(out, MINE)
    before = out.read_bytes(NAME)
    with pytest.raises(SetError) as told:
        claim(out, other)
    assert words in str(told.value) and out.read_bytes(NAME) == before


def test_the_command_refuses_the_folder_of_another_table_and_touches_nothing(sets, tmp_path, capsys):
    out = tmp_path / "out"
    claim(Storage(out), Comparison(EVALUATE))
    (out / "table.md").write_text("of make evaluate")
    assert main(["score", str(sets.references), f"mine={sets.copies}", "--out", str(out)]) == 2
    assert "holds another table, of `make evaluate`: take another --out" in " ".join(capsys.readouterr().err.split())
    assert (out / "table.md").read_text() == "of make evaluate" and len(list(out.iterdir())) == 2


def test_what_is_refused_leaves_no_folder_and_what_was_there_stays(tmp_path):
    def refused(folder, error=UserError):
        with pytest.raises(error), refused_leaves_nothing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "file").write_text("")
            raise error

    refused(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    refused(tmp_path / "a" / "b")
    refused(tmp_path / "a")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["file"]
    refused(tmp_path / "c", KeyboardInterrupt)
    assert (tmp_path / "c").exists(), "the same command goes on from there"


def test_one_evaluation_at_a_time_works_on_a_folder(tmp_path):
    out = Storage(tmp_path / "out")
    with at_work_alone(out):
        with pytest.raises(SetError, match="another evaluation is at work there"), at_work_alone(out):
            pass
    with at_work_alone(out):
        pass


def test_a_table_among_what_it_is_of_is_refused(sets, capsys):
    for folder in (sets.references, sets.copies):
        assert main(["score", str(sets.references), f"mine={sets.copies}", "--out", str(folder / "table")]) == 2
        assert "which it is of: take another --out" in capsys.readouterr().err and not (folder / "table").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--votes", "{root}/none.json"], "none.json: is no file of votes"),
        (["--model", "clip={root}/none"], "none: no such folder"),
        (
            ["--model", "clip=nobody/no-such-clip"],
            "neither a folder here nor one of the hub's: nobody/no-such-clip is not on",
        ),
        (["--model", "inception={root}/none"], "none: no such file"),
        (["--weights", "{root}/none"], "none: no such folder"),
        (["bad={bad}"], "method.json: is not JSON"),
        (["--prompts", "{root}/none.yaml"], "none.yaml: cannot be read"),
        (
            ["filed={root}/filed", "--prompts", "{root}/beach.yaml"],
            "names none of the prompts that pictures are filed under: snow",
        ),
    ],
)
def test_what_a_person_named_is_looked_at_before_anything_is_written(sets, tmp_path, capsys, options, words):
    shutil.copytree(sets.copies, tmp_path / "bad")
    (tmp_path / "bad" / "method.json").write_text("{")
    (tmp_path / "beach.yaml").write_text("beach: a person at the beach\n")
    for file in list(sets.copies.glob("*.*"))[:1]:
        (tmp_path / "filed" / file.stem).mkdir(parents=True)
        shutil.copy(file, tmp_path / "filed" / file.stem / f"snow{file.suffix}")
    named = [option.format(root=tmp_path, bad=tmp_path / "bad") for option in options]
    command = ["score", str(sets.references), f"mine={sets.copies}"]
    assert main([*command, *named, "--out", str(tmp_path / "out")]) == 2
    assert words in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "out").exists()
