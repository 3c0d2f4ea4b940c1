"""Folders in, a table out, on real people and a real recogniser: known answers, failures, and nothing made twice."""

from __future__ import annotations

import csv
import shutil

import pandas as pd
import pyarrow as pa
import pytest

from common.decode import decode
from common.storage import Storage
from evaluation import command, features
from evaluation import score as scoring
from evaluation.__main__ import main
from evaluation.command import ScoreOptions, score_methods
from evaluation.metrics.base import Metric, Sources, Unavailable
from evaluation.metrics.face_similarity import FaceSimilarity
from evaluation.sets import Method, open_method, open_references
from tests.real_photos import read


@pytest.fixture(autouse=True)
def _without_arcface(monkeypatch, tmp_path):
    monkeypatch.delenv("FACEMAKEUP_WEIGHTS", raising=False)


def table(out):
    with (out / "table.csv").open() as file:
        return {(row["figure"], row["protocol"], row["method"]): row for row in csv.DictReader(file)}


def test_copies_other_people_and_other_photos_get_what_is_known_of_them(sets, tmp_path, capsys):
    out = tmp_path / "out"
    methods = [f"copies={sets.copies}", f"swapped={sets.swapped}", f"targets={sets.targets}"]
    assert main(["score", str(sets.references), *methods, "--out", str(out)]) == 0
    cells = table(out)
    similarity = {name: cells["FaceSim, dlib", "sound", name] for name in ("copies", "swapped", "targets")}
    assert float(similarity["copies"]["value"]) == pytest.approx(1) and float(similarity["copies"]["first"]) == 1
    assert float(similarity["swapped"]["value"]) < 0.85
    copied = cells["copy-paste, dlib", "sound", "copies"]
    assert float(copied["value"]) == pytest.approx(1) and copied["references"] == "1", "one person has another photo"
    assert float(cells["copy-paste, dlib", "sound", "targets"]["value"]) == pytest.approx(-1)
    same_person = float(cells["FaceSim, dlib, faces only", "sound", "targets"]["value"])
    assert float(similarity["targets"]["value"]) == pytest.approx(same_person / 2), "a picture that is missing counts 0"
    assert same_person > 0.9 > float(similarity["swapped"]["value"])
    assert "buffalo_l" in cells["FaceSim, dlib", "reconstructed", "copies"]["why"]
    assert "w600k_r50.onnx" in cells["FaceSim, arcface", "sound", "copies"]["why"]
    said = capsys.readouterr()
    assert "targets: biden: not drawn" in said.err and "| FaceSim, dlib | sound |" in said.out
    rows = pd.read_parquet(out / "scores" / "face-similarity-dlib.parquet")
    assert len(rows) == 6 and set(rows["error"]) == {"", "not drawn"}


def test_a_reference_without_a_face_and_a_picture_that_is_none_are_listed(sets, tmp_path, capsys):
    references = shutil.copytree(sets.references, tmp_path / "photos")
    mine = shutil.copytree(sets.copies, tmp_path / "mine")
    shutil.copy(sets.copies / "obama.jpg", mine / "wall.jpg")
    (references / "wall.png").write_bytes(read("rocket"))
    (mine / "biden.jpg").write_bytes(b"no picture")
    (mine / "zoe.jpg").write_bytes(b"of nobody")
    out = tmp_path / "out"
    assert main(["score", str(references), f"mine={mine}", "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "wall.jpg: reference: no face to recognise" in said and "biden.jpg: " in said
    told = table(out)["FaceSim, dlib", "sound", "mine"]
    assert float(told["value"]) == pytest.approx(0.5) and told["references"] == "2", "one of two that can be judged"
    text = (out / "table.md").read_text()
    assert "- mine: reference: no face to recognise: wall\n" in text, "not only on the console"
    assert "1 files belong to no reference or cannot be read here, e.g. zoe.jpg" in text
    assert float(table(out)["face found", "sound", "mine"]["value"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("data", "why"), [(b"no picture", "not_an_image"), (None, "no face to recognise")])
def test_another_photo_that_tells_nothing_is_listed(sets, tmp_path, capsys, data, why):
    references = shutil.copytree(sets.references, tmp_path / "photos")
    (references / "targets" / "obama.jpg").write_bytes(data or read("rocket"))
    assert main(["score", str(references), f"mine={sets.copies}", "--out", str(tmp_path / "out")]) == 0
    assert f"obama.jpg: the other photo of the person: {why}" in " ".join(capsys.readouterr().err.split())
    told = table(tmp_path / "out")
    assert told["copy-paste, dlib", "sound", "mine"]["value"] == ""
    assert float(told["FaceSim, dlib", "sound", "mine"]["value"]) == pytest.approx(1), (
        "the reference is as good as before"
    )


@pytest.mark.parametrize(("limit", "value"), [("PART", 1), ("PART_SECONDS", -1)])
def test_features_are_made_once_also_after_a_kill(sets, tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(features, limit, value)
    metric, seen = FaceSimilarity("dlib", Sources()), []
    plain = metric.features

    def dies_at_the_third(rgb):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(rgb.shape)
        return plain(rgb)

    references = open_references(sets.references)
    methods = [open_method("copies", sets.copies, references)]
    monkeypatch.setattr(metric, "features", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        next(scoring.score({metric.name: metric}, methods, Storage(tmp_path), Sources()))
    made = []
    monkeypatch.setattr(metric, "features", lambda rgb: made.append(1) or plain(rgb))
    first = next(scoring.score({metric.name: metric}, methods, Storage(tmp_path), Sources())).rows
    assert len(made) == 1, "two of three photos were kept; a copy is the same bytes"
    made.clear()
    pd.testing.assert_frame_equal(
        next(scoring.score({metric.name: metric}, methods, Storage(tmp_path), Sources())).rows, first
    )
    assert not made


class Brightness(Metric):
    """A metric without a model; it counts its pictures."""

    version = 1
    columns = (pa.field("mean", pa.float64()),)

    def __init__(self, name):
        self.name, self.seen = name, []

    def describe(self):
        return {}

    def features(self, rgb):
        self.seen.append(rgb.shape)
        return {"mean": float(rgb.mean())}

    def scores(self, pair):
        return {"difference": pair.drawn["mean"] - pair.reference["mean"]}

    def figures(self):
        return []


def test_a_picture_is_decoded_once_for_all_metrics_that_lack_it(sets, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(features, "decode", lambda *given, **how: decoded.append(1) or decode(*given, **how))
    methods = [open_method("swapped", sets.swapped, open_references(sets.references))]
    one, other, late = (Brightness(name) for name in ("one", "other", "late"))
    list(scoring.score({one.name: one}, methods, Storage(tmp_path), Sources()))
    assert len(one.seen) == len(decoded) == 3, "two references, which are the pictures too, and a target"
    first, second, third = scoring.score(
        {one.name: one, other.name: other, late.name: late}, methods, Storage(tmp_path), Sources()
    )
    assert len(one.seen) == len(other.seen) == len(late.seen) == 3 and len(decoded) == 6
    assert first.rows["difference"].tolist() == third.rows["difference"].tolist() and second.metric is other
    assert first.rows["difference"].sum() == pytest.approx(0) and first.rows["difference"].abs().min() > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{references}", "x={root}/none"], "no such folder of pictures"),
        (["{root}", "x={copies}"], "holds no references"),
        (["{root}/none", "x={copies}"], "none: no such folder of references"),
        (["{references}", "={copies}"], "write NAME=FOLDER"),
        (["{references}", "nowhere"], "stopped: nowhere: no such folder of pictures"),
        (["{references}", "a={copies}", "a={swapped}"], "two methods are called a"),
    ],
)
def test_a_mistake_is_one_message(sets, tmp_path, capsys, arguments, words):
    places = {"root": tmp_path, **sets._asdict()}
    assert main(["score", *(text.format(**places) for text in arguments), "--out", str(tmp_path / "out")]) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_twice_the_same_digits(sets, tmp_path):
    for name in ("one", "other"):
        assert main(["score", str(sets.references), str(sets.copies), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one" / "table.md").read_bytes() == (tmp_path / "other" / "table.md").read_bytes()


def test_where_no_method_could_draw_the_table_says_why(sets, tmp_path, capsys):
    options = ScoreOptions(str(sets.references), [], str(tmp_path))
    absent = [Method("far|off", (), (), absent="its weights are not here")]
    assert score_methods(open_references(sets.references), absent, options) == 1, "nothing could be scored"
    said = capsys.readouterr().out
    assert "far|off: not drawn: its weights are not here" in said and r"| what differs | far\|off |" in said
    assert table(tmp_path)["FaceSim, dlib", "sound", "far|off"]["why"] == "not drawn: its weights are not here"


def test_a_reason_that_several_metrics_have_is_told_once(sets, tmp_path, capsys, monkeypatch):
    def lacks(sources):
        raise Unavailable("model file faces.onnx is not here")

    for title in ("one", "other", "late"):
        monkeypatch.setitem(command.METRICS, title, lacks)
    options = ScoreOptions(str(sets.references), [], str(tmp_path), metrics=["one", "other", "late"])
    references = open_references(sets.references)
    assert score_methods(references, [open_method("mine", sets.copies, references)], options) == 1
    said = capsys.readouterr()
    assert "one, other, late: model file faces.onnx is not here" in said.err and said.err.count("faces.onnx") == 1
    assert said.out.count("faces.onnx") == 1, "in the table, too"


def test_where_no_picture_can_be_read_the_exit_code_says_so(sets, tmp_path, capsys):
    for name in ("biden", "obama"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{name}.jpg").write_bytes(b"no picture")
    command = ["score", str(sets.references), f"mine={tmp_path / 'mine'}", "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "nothing could be scored: the table says why" in capsys.readouterr().err
    shutil.copy(sets.copies / "obama.jpg", tmp_path / "mine")
    assert main(command) == 0
