"""One person's answers: in the file after each of them, taken back in order, and nothing else of the table touched."""

from __future__ import annotations

import pytest

from curation.calibration.label_table import LabelError, read_labels
from curation.labelling.answers import Answers, question_columns


@pytest.fixture
def table(tmp_path):
    return tmp_path / "anna.csv"


def rows(table):
    return {row["file"]: row for row in read_labels(table, "file")}


def test_each_answer_is_in_the_file_at_once_and_calibration_reads_it(table):
    answers = Answers(table, "file")
    answers.put("a/1.jpg", {"keep": "1"})
    assert rows(table)["a/1.jpg"]["keep"] == "1"
    answers.put("a/1.jpg", {"faces": "2", "note": "  two,\n really "})
    answers.put("b.jpg", {"colour": "grey", "doubtful": "1"})
    read = rows(table)
    assert (read["a/1.jpg"]["keep"], read["a/1.jpg"]["faces"], read["a/1.jpg"]["note"]) == ("1", "2", "two, really")
    assert (read["b.jpg"]["colour"], read["b.jpg"]["doubtful"], read["b.jpg"]["keep"]) == ("grey", "1", "")


def test_opened_again_it_goes_on(table):
    Answers(table, "file").put("1.jpg", {"keep": "0"})
    again = Answers(table, "file")
    assert again.of("1.jpg") == {"keep": "0"} and again.answered(["keep"]) == {"1.jpg"} and not again.answered(["text"])
    again.put("2.jpg", {"keep": "1"})
    assert set(rows(table)) == {"1.jpg", "2.jpg"}


def test_answers_are_taken_back_one_after_the_other(table):
    answers = Answers(table, "file")
    answers.put("1.jpg", {"keep": "1"})
    answers.put("2.jpg", {"keep": "1"})
    answers.put("1.jpg", {"keep": "0"})
    assert answers.undo() == "1.jpg" and rows(table)["1.jpg"]["keep"] == "1"
    assert answers.undo() == "2.jpg" and set(rows(table)) == {"1.jpg"}
    assert answers.undo() == "1.jpg" and answers.undo() is None
    assert Answers(table, "file").answered(["keep"]) == set(), "a table of nothing is taken up again, too"


def test_what_is_not_asked_for_stays(table):
    table.write_text("file,package,colour,keep,note\nother.jpg,mine,grey,,begun in a spreadsheet\n1.jpg,,toned,1,\n")
    answers = Answers(table, "file")
    answers.put("1.jpg", {"keep": ""})
    read = rows(table)
    assert read["other.jpg"]["package"] == "mine" and read["other.jpg"]["note"] == "begun in a spreadsheet"
    assert read["1.jpg"]["colour"] == "toned" and read["1.jpg"]["keep"] == ""


@pytest.mark.parametrize("text", ["file,keep\n1.jpg,1", "file,keep\r\n1.jpg,1\r\n", "\ufefffile,keep\n1.jpg,1\n"])
def test_no_row_of_another_programs_table_is_lost(table, text):
    table.write_text(text, "utf-8", newline="")
    answers = Answers(table, "file")
    answers.put("2.jpg", {"keep": "0"})
    assert {name: row["keep"] for name, row in rows(table).items()} == {"1.jpg": "1", "2.jpg": "0"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"keep": "yes"}, "keep: 'yes' is no answer. It is 1, 0"),
        ({"faces": "-1"}, "faces: '-1' is no answer. It is a whole number"),
        ({"kep": "1"}, "kep: is no column of labels"),
        ({"file": "other.jpg"}, "file: is no column of labels"),
    ],
)
def test_a_wrong_answer_changes_nothing(table, answer, words):
    answers = Answers(table, "file")
    answers.put("1.jpg", {"keep": "1"})
    before = table.read_bytes()
    with pytest.raises(LabelError, match=words):
        answers.put("1.jpg", answer)
    assert table.read_bytes() == before and answers.of("1.jpg") == {"keep": "1"}


def test_a_table_that_somebody_else_changed_is_not_written_over(table):
    answers, other = Answers(table, "file"), Answers(table, "file")
    answers.put("1.jpg", {"keep": "1"})
    with pytest.raises(LabelError, match="was changed by another program"):
        other.put("2.jpg", {"keep": "0"})
    assert set(rows(table)) == {"1.jpg"} and other.of("2.jpg") == {}
    with pytest.raises(LabelError, match="two people label into two tables"):
        other.put("2.jpg", {"keep": "0"})


def test_a_table_that_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(LabelError, match=r"writes \.csv"):
        Answers(tmp_path / "labels.parquet", "file")
    (tmp_path / "bad.csv").write_text("file,keep\n1.jpg,perhaps\n")
    with pytest.raises(LabelError, match="'perhaps' is no label"):
        Answers(tmp_path / "bad.csv", "file")


def test_the_questions_are_the_filters_columns():
    assert {"keep", "colour", "text", "faces", "drawing"} <= set(question_columns())
    assert list(question_columns(["drawing"])) == ["drawing"]
    with pytest.raises(LabelError, match="--ask colours: is no column of labels. Known are keep, "):
        question_columns(["colours"])
