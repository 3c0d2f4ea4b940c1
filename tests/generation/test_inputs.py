"""Photos of a folder, of any name: each is read or is a reason, and what is left out is told."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from generation.face_input import InputError
from generation.inputs import open_inputs


def picture():
    data = io.BytesIO()
    Image.new("RGB", (80, 60), "red").save(data, "JPEG")
    return data.getvalue()


def test_a_folder_is_no_photo_and_a_file_that_cannot_be_read_is_a_reason(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here.jpg").write_bytes(picture())
    gone, here = open_inputs(tmp_path, ["a person"]).read()
    with pytest.raises(ValueError, match="cannot be read"):
        gone.load()
    assert np.array_equal(here.load().shape, (60, 80, 3))


def test_photos_of_one_stem_have_names_of_their_own(tmp_path):
    for name in ("x.jpg", "x.png", "x.jpg.png", "y.JFIF", "z.HEIC", "caf\udce9.JPG", "n" * 246 + ".jpg", "notes.txt"):
        (tmp_path / name).write_bytes(picture())
    found = list(open_inputs(tmp_path, ["a person"]).read())
    assert len(found) == 7 and len({each.name for each in found}) == 7
    problems = {each.name: each.problem for each in found if each.problem}
    assert problems == {"z": "HEIC pictures are not read; convert it to JPEG, PNG or WebP"}
    assert all(each.load().shape == (60, 80, 3) for each in found if not each.problem)


@pytest.fixture
def album(tmp_path):
    files = ("a.jpg", "a/x.jpg", "a/b/X.JPG", "a_x.jpg", "out/drawn.png", "notes.txt", "a/film.mp4", "README")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    (tmp_path / "link").symlink_to(tmp_path / "a")
    return tmp_path


def test_sub_folders_are_read_by_option_and_what_is_left_out_is_counted(album):
    alone = open_inputs(album, ["a person"], out=album / "out")
    assert [subject.name for subject in alone.read()] == ["a", "a_x"]
    assert alone.left_out == "not read: 1 without extension, 1 .txt, 2 sub-folders (--recursive reads them)"
    below = open_inputs(album, ["a person"], recursive=True, out=album / "out")
    names = [subject.name for subject in below.read()]
    assert len(names) == len({name.casefold() for name in names}) == below.count == 4
    assert below.left_out == "not read: 1 without extension, 1 .mp4, 1 .txt, 1 link to a folder"


def test_a_folder_with_pictures_in_sub_folders_only_names_the_option(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(picture())
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(InputError, match="--recursive reads its 1 sub-folder$"):
        open_inputs(tmp_path, ["a person"])
    assert open_inputs(tmp_path, ["a person"], recursive=True).count == 1


def test_photos_are_not_drawn_into_their_own_folder(album):
    with pytest.raises(InputError, match="--out .* is the source"):
        open_inputs(album, ["a person"], out=album / "a" / "..")
