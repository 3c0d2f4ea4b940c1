"""Which picture belongs to which reference, and what belongs to none."""

from __future__ import annotations

import json

import pytest

from evaluation.asked import read_prompts
from evaluation.head import head_of
from evaluation.sets import SetError, open_method, open_references, set_hash


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture
def references(tmp_path):
    return open_references(
        write(tmp_path / "photos", "anna.jpg", "b.c.PNG", "targets/anna.webp", ".hidden.jpg", "x.txt")
    )


def test_references_and_their_other_photos(references):
    assert [(item.name, item.target is not None) for item in references] == [("anna", True), ("b.c", False)]


def test_the_same_bytes_are_one_photo(tmp_path):
    folder = write(tmp_path / "photos", "anna.jpg", "ben.jpg")
    (folder / "carl.jpg").write_bytes((folder / "anna.jpg").read_bytes())
    references = open_references(folder)
    assert [(item.name, item.same_as, item.unit) for item in references] == [
        ("anna", "", "anna"), ("ben", "", "ben"), ("carl", "anna", "anna")
    ]  # fmt: skip
    told = head_of(references, [], folder).facts
    assert (
        "THE SAME BYTES as another reference: 1, e.g. carl is anna; N counts a photo once, with all its pictures"
        in told
    )
    assert any("not said of 2 references" in fact for fact in told)


def test_pictures_by_prompt_and_seed_in_a_fixed_order(references, tmp_path):
    folder = write(tmp_path / "drawn", "anna/snow/2.png", "anna/snow/1.png", "anna/sea/1.png", "b.c/snow/2.png")
    method = open_method("mine", folder, references)
    asked = [("sea", "1"), ("snow", "1"), ("snow", "2")]
    assert [(item.reference.name, item.prompt, item.seed) for item in method.drawn] == [
        (name, *pair) for name in ("anna", "b.c") for pair in asked
    ]
    assert [item.file is None for item in method.drawn] == [False] * 3 + [True, True, False]
    assert method.missing == 2 and method.strange == (), "what anna has is expected of b.c, too"


def test_what_is_missing_and_what_is_strange_is_counted(references, tmp_path):
    folder = write(tmp_path / "drawn", "anna.png", "carl.png", "anna/a/b/too-deep.png", "notes.txt", "anna.tiff")
    method = open_method("mine", folder, references)
    assert method.missing == 1 and method.drawn[-1].file is None and method.drawn[-1].reference.name == "b.c"
    assert method.strange == ("anna/a/b/too-deep.png", "carl.png", "anna.tiff")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no references"),
        (["a.jpg", "a.png"], "a.jpg has the same name"),
        (["a.jpg", "targets/b.jpg"], "b is the target of no reference"),
    ],
)
def test_references_that_cannot_be_used(tmp_path, names, words):
    (tmp_path / "photos").mkdir()
    with pytest.raises(SetError, match=words):
        open_references(write(tmp_path / "photos", *names))


def test_pictures_of_other_references_are_refused(references, tmp_path):
    with pytest.raises(SetError, match="no such folder"):
        open_method("mine", tmp_path / "none", references)
    with pytest.raises(SetError, match="none of its 1 pictures is named as a reference: call them anna.png"):
        open_method("mine", write(tmp_path / "drawn", "zoe.png"), references)


def test_two_files_of_one_picture_are_refused(references, tmp_path):
    with pytest.raises(SetError, match="2.jpg is the same picture's name|2.png is the same picture's name"):
        open_method("mine", write(tmp_path / "drawn", "anna/snow/2.png", "anna/snow/2.jpg"), references)


def test_the_sets_hash_changes_with_a_byte_of_a_target(references, tmp_path):
    before = set_hash(references)
    assert before == set_hash(references)
    (tmp_path / "photos" / "targets" / "anna.webp").write_bytes(b"another photo")
    assert set_hash(references) != before


def test_words_come_from_the_prompts_file_or_the_references_caption(tmp_path):
    folder = write(tmp_path / "photos", "anna.jpg")
    (folder / "anna.txt").write_text("a woman\n with glasses")
    references = open_references(folder)
    (tmp_path / "prompts.yaml").write_text("snow: a person in the snow\n")
    method = open_method(
        "mine", write(tmp_path / "drawn", "anna.png", "anna/snow.png", "anna/other.png"), references,
        {prompt.name: prompt.words for prompt in read_prompts(tmp_path / "prompts.yaml")},
    )  # fmt: skip
    assert {item.prompt: item.words for item in method.drawn} == {
        "": "a woman with glasses", "snow": "a person in the snow", "other": ""
    }  # fmt: skip


@pytest.mark.parametrize("text", ["- a list", "snow:", "snow: 3", "{", None])
def test_a_file_without_prompts_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "prompts.yaml").write_text(text)
    with pytest.raises(SetError, match="prompts.yaml"):
        read_prompts(tmp_path / "prompts.yaml")


def test_a_caption_that_is_no_text_is_named(tmp_path):
    folder = write(tmp_path / "photos", "anna.jpg")
    (folder / "anna.txt").write_bytes("a café".encode("latin-1"))
    with pytest.raises(SetError, match="anna.txt: is no text in UTF-8"):
        open_references(folder)


def line(**row):
    return json.dumps(row) + "\n"


def test_a_drawn_folder_is_read_by_its_log_with_the_reasons_of_what_is_missing(references, tmp_path):
    folder = write(tmp_path / "drawn", "anna_000_00.png", "anna_000_01.png", "contact.png")
    (folder / "drawn.jsonl").write_text(
        line(name="anna", prompt="in the snow", file="anna_000_00.png", status="drawn", seed=42)
        + line(name="anna", prompt="in the snow", file="anna_000_01.png", status="there")
        + line(name="b.c", status="failed", reason="no face was found")
        + line(name="zoe", prompt="in the snow", file="zoe_000_00.png", status="drawn", seed=42)
    )
    method = open_method("mine", folder, references)
    assert [(item.reference.name, item.prompt, item.seed, item.words, item.failure) for item in method.drawn] == [
        ("anna", "in the snow", "00", "in the snow", ""),
        ("anna", "in the snow", "01", "in the snow", ""),
        ("b.c", "in the snow", "00", "in the snow", "no face was found"),
        ("b.c", "in the snow", "01", "in the snow", "no face was found"),
    ]
    assert method.strange == ("zoe_000_00.png",)
    (folder / "drawn.jsonl").write_text('{"name": "anna"}\n')
    with pytest.raises(SetError, match="is no log of jobs/generate.py or jobs/evaluate.py"):
        open_method("mine", folder, references)
