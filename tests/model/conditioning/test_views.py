"""The pictures of a face are those that the configuration names, of the upright photo."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from model.conditioning.alignment import align
from model.conditioning.crops import crop_of
from model.conditioning.pose_map import pose_map
from model.conditioning.views import face_views, upright
from model.config import Conditions
from tests.model.conftest import some_face, some_photo


def views(**how):
    return face_views(some_photo(), some_face(), Conditions(**how).model_dump(), 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation):
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(some_photo()).save(file, "PNG", exif=exif)
    turns = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    assert np.array_equal(upright(PIL.Image.open(file)), turns[orientation](some_photo()))


def test_clip_sees_what_the_configuration_names():
    photo, face = some_photo(), some_face()
    assert np.array_equal(views(clip_view="whole").clip_view, photo)
    crop = views(clip_view="crop")
    assert np.array_equal(crop.clip_view, crop.image)
    assert np.array_equal(views(clip_view="aligned", align_size=224).clip_view, align(photo, face.landmarks, 224))


def test_a_legacy_pose_map_is_drawn_on_the_crop_in_its_own_pixels():
    face = some_face()
    crop = crop_of(face.box, 220, 240, "shift")
    inside, side = face.landmarks - [crop.left, crop.top], round(crop.side)
    drawn = pose_map(inside, 64, legacy=True, source_size=(side, side))
    assert np.array_equal(views(crop="shift", legacy_pose_map=True).pose_map, drawn)
    assert np.array_equal(views(crop="shift").pose_map, pose_map(crop.points(face.landmarks, 64), 64))
    assert not np.array_equal(drawn, views(crop="shift").pose_map)
