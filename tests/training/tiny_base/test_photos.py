"""Photos become pictures, once; where they cannot, the message says why."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from model.config import load_config
from training.tiny_base import photos as photos_module
from training.tiny_base.photos import pictures_in
from training.tiny_base.pictures import PictureError

PHOTOS = ("3c17508bb91554c6", "0930e3aa8cae5920", "a7efcc9073752747")  # of one face each


@pytest.fixture(scope="module")
def config():
    return load_config("tiny")


@pytest.fixture(scope="module")
def photos(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        (file,) = (sample / "photos").glob(f"{name}.*")
        shutil.copy(file, folder)
    shutil.copy(file, folder / "again.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def pictures(photos, config, cache):
    return pictures_in(photos, config, cache)


def test_a_photo_gives_its_face_twice_and_its_squares(pictures, config):
    assert pictures.pixels.shape[1:] == (config.resolution, config.resolution, 3)
    assert sorted(set(pictures.photos)) == sorted(PHOTOS)
    for name in PHOTOS:
        of_photo = np.array([photo == name for photo in pictures.photos])
        assert pictures.faces[of_photo].sum() == 1
        assert of_photo.sum() in (3, 5)  # a square photo has one square


def test_faces_are_found_once(pictures, photos, config, cache, monkeypatch):
    monkeypatch.setattr(photos_module, "_views", lambda *_: pytest.fail("looked for faces again"))
    again = pictures_in(photos, config, cache)
    assert again.digest() == pictures.digest() and again.photos == pictures.photos


def test_damaged_pictures_are_made_again_and_it_is_said(pictures, photos, config, cache, tmp_path, capsys):
    (kept,) = cache.glob("pictures-*.npz")
    (tmp_path / kept.name).write_bytes(kept.read_bytes()[:1000])
    assert pictures_in(photos, config, tmp_path).digest() == pictures.digest()
    assert "damaged" in capsys.readouterr().err
    with np.load(tmp_path / kept.name) as there:
        assert len(there["pixels"]) == len(pictures)


@pytest.mark.parametrize("bytes_there, said", [(None, "no photos"), (b"\xff\xd8\xff no photo", "none of its 1 files")])
def test_a_folder_without_photos_is_refused(bytes_there, said, config, tmp_path):
    if bytes_there:
        (tmp_path / "broken.jpg").write_bytes(bytes_there)
    with pytest.raises(PictureError, match=said):
        pictures_in(tmp_path, config, tmp_path / "cache")
