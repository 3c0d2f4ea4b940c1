"""What the demo page is made of, without a browser: faces chosen, drawings in steps."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from generation.demo.drawing import DrawingRunner, DrawProgress
from generation.demo.faces import AnalysedPhoto, NoFacePicked, PhotoAnalyser
from generation.demo.limits import DrawRequest
from generation.demo.server import startup_lines
from jobs import demo
from model.presets import PRESETS


def test_the_face_is_boxed_where_the_finder_found_it(model, portraits):
    photo = PhotoAnalyser(model).choose_face(portraits["obama"], "only")
    clean, shown = photo.rgb, photo.annotated()
    scale = shown.shape[0] / clean.shape[0]
    left, top, right, bottom = (photo.face.box * scale).astype(int)
    small = np.asarray(Image.fromarray(clean).resize(shown.shape[1::-1], Image.Resampling.BOX)).astype(int)
    changed = np.abs(shown - small).max(axis=2) > 60
    assert (
        changed[(top + bottom) // 2, left - 2 : left + 3].any()
        and changed[top - 2 : top + 3, (left + right) // 2].any()
    )
    margin = 12
    changed[top - margin : bottom + margin, left - margin : right + margin] = False
    assert changed.mean() < 0.01, "nothing is drawn elsewhere"


def test_policies_choose_among_several(model, group):
    analyser = PhotoAnalyser(model)
    with pytest.raises(NoFacePicked, match="6 faces were found: pick one") as raised:
        analyser.choose_face(group, "only")
    faces = raised.value.photo.faces
    assert [face.box[0] for face in faces] == sorted(face.box[0] for face in faces), "counted from the left"
    largest, surest = analyser.choose_face(group, "largest"), analyser.choose_face(group, "highest_score")
    assert largest.face.area == max(face.area for face in faces)
    assert surest.face.score == max(face.score for face in faces)
    assert analyser.choose_face(group, "largest", picked=4).chosen == 4
    centre = (faces[4].box[:2] + faces[4].box[2:]) / 2
    assert largest.face_at(*centre * largest.annotated().shape[1] / largest.rgb.shape[1]) == 4
    assert largest.face_at(1, 1) is None


@pytest.fixture
def draw_request() -> DrawRequest:
    return DrawRequest("", "", PRESETS["realistic"], seed=5, steps=20, count=1)


def test_progress_counts_the_steps_and_foresees_the_end(model, portraits, tmp_path, draw_request):
    photo = PhotoAnalyser(model).choose_face(portraits["obama"], "only")
    heard: list[tuple[float, DrawProgress]] = []
    for news in DrawingRunner(model, tmp_path).draw(photo, None, draw_request):
        if isinstance(news, DrawProgress):
            heard.append((time.monotonic(), news))
    assert [step.done for _, step in heard] == list(range(21)) and news[0].path.is_file()
    assert heard[0][1].seconds_left is heard[1][1].seconds_left is None, "nothing is known yet"
    for moment, step in heard[2:]:
        so_far = (moment - heard[1][0]) / (step.done - 1)
        assert step.seconds_left == pytest.approx(so_far * (20 - step.done), rel=0.3, abs=0.1)


def test_a_drawing_that_nobody_waits_for_ends(model, portraits, tmp_path, draw_request):
    runner, photo = DrawingRunner(model, tmp_path), PhotoAnalyser(model).choose_face(portraits["obama"], "only")
    drawing = runner.draw(photo, None, draw_request)
    assert [next(drawing).done for _ in range(3)] == [0, 1, 2]
    drawing.close()
    assert list(tmp_path.iterdir()) == [] and not runner._lock.locked()
    *_, files = runner.draw(photo, None, draw_request)
    assert len(files) == 1


def test_what_the_pipeline_refuses_is_raised_to_who_asked(model, portraits, tmp_path):
    photo = PhotoAnalyser(model).choose_face(portraits["obama"], "only")
    with pytest.raises(ValueError, match="identity: this model takes 128 numbers, the face has none"):
        list(
            DrawingRunner(model, tmp_path).draw(
                AnalysedPhoto(photo.rgb, photo.faces, 0, photo.faces[0]),
                None,
                DrawRequest("", "", PRESETS["realistic"], 1, 2, 1),
            )
        )


def test_another_address_is_said_to_be_open():
    assert not any("WARNING" in line for line in startup_lines([], "http://127.0.0.1:7860/", "127.0.0.1"))
    lines = startup_lines(["a note"], "http://0.0.0.0:7860/", "0.0.0.0")
    assert lines[0] == "a note" and "WARNING: --listen 0.0.0.0: no password" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--checkpoint", "model.bin"], "names no pretrained weights: a checkpoint needs the base"),
    ],
)
def test_a_mistake_is_said_before_anything_is_served(capsys, arguments, sentence):
    assert demo.main(arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and "Traceback" not in said
