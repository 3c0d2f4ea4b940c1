from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.pinned_files.weights import RefusedError, WeightError, resolve
from curation.filters.evidence import FAIL, PASS, UNKNOWN
from curation.filters.faces import FACE, Faces, FacesThresholds, prominent
from model.conditioning.detectors import FACE_FLOOR, detect
from model.conditioning.detectors.yolov5face import ANCHORS

# The astronaut's face: box and points in pixels, by the first digits of the detector file's hash. Of another file
# (an export of your own) only what holds for any detector is tested.
GOLDEN = {
    "7da50650e16167e9": (
        [175.9, 53.2, 274.9, 180.4],
        [204.1, 100.8, 247.2, 103.9, 223.9, 127.7, 201.2, 138.5, 246.0, 141.2],
    ),
    "09189deaaf8646c5": (
        [179.8, 61.8, 271.0, 178.0],
        [202.5, 100.4, 249.2, 103.4, 224.5, 123.8, 202.8, 142.1, 242.6, 144.4],
    ),
}


@pytest.fixture(params=["yolov5-face", "centerface"])
def detector(request, make) -> Faces:
    if request.param == "yolov5-face":
        request.getfixturevalue("yolov5_face")
    return make("faces", model=request.param)


def face(score: float, x1: float, y1: float, x2: float, y2: float) -> dict:
    return {"box": [x1, y1, x2, y2], "score": score, "landmarks": [0.0] * 10}


def table(*rows: list[dict] | None) -> pa.Table:
    return pa.table({"boxes": pa.array(rows, pa.list_(FACE))})


def test_counts_the_faces_of_real_photos(photo, detector):
    evidence = detector.score([photo(name) for name in ("astronaut", "cat", "page", "six")], {})
    rows, *_ = prominent(evidence, FacesThresholds(), detector.detector)
    assert np.bincount(rows, minlength=4).tolist() == [1, 0, 0, 6]
    assert detector.verdict(evidence, FacesThresholds()).tolist() == [PASS, FAIL, FAIL, FAIL]
    assert detector.verdict(evidence, FacesThresholds(count=6)).tolist() == [FAIL, FAIL, FAIL, PASS]


def test_box_and_points(photo, detector):
    (found,) = detector.score([photo("astronaut")], {})["boxes"].to_pylist()
    best = found[0]
    x1, y1, x2, y2 = best["box"]
    left_eye, right_eye, nose, left_mouth, right_mouth = np.array(best["landmarks"]).reshape(5, 2)
    assert x1 < left_eye[0] < nose[0] < right_eye[0] < x2 and left_mouth[0] < right_mouth[0]
    assert y1 < left_eye[1] < nose[1] < left_mouth[1] < y2
    golden = GOLDEN.get(detector.files["detector"].sha256[:16])
    if golden:
        assert best["box"] == pytest.approx(golden[0], abs=0.5)
        assert best["landmarks"] == pytest.approx(golden[1], abs=0.5)


def test_evidence_reaches_down_to_the_floor_and_is_in_order(photo, detector):
    (found,) = detector.score([photo("six")], {})["boxes"].to_pylist()
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True) and scores[-1] > FACE_FLOOR
    boxes = np.array([each["box"] for each in found])
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 1280 and boxes[:, 3].max() <= 886


def test_boxes_are_in_full_size_pixels_whatever_the_decoded_scale(photo, detector):
    picture = photo("astronaut")
    (small,) = detector.score([picture], {})["boxes"].to_pylist()
    picture.width, picture.height = 4 * picture.width, 4 * picture.height  # as if decoded at a quarter
    (large,) = detector.score([picture], {})["boxes"].to_pylist()
    assert large[0]["box"] == pytest.approx([4 * value for value in small[0]["box"]], rel=1e-5)
    assert large[0]["landmarks"] == pytest.approx([4 * value for value in small[0]["landmarks"]], rel=1e-5)


def test_rows_stand_alone(photo, detector, picture_of, assert_rows_stand_alone):
    mirrored = picture_of(photo("astronaut").rgb[:, ::-1].copy())
    assert_rows_stand_alone(detector, [photo("astronaut"), mirrored, photo("six"), photo("cat")])


def test_runs_on_one_thread(detector):
    options = detector.model.session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def concatenated(path, folder):
    """The same network with the other output layout: one (1, N, 16), decoded inside the graph."""
    model = onnx.load(str(path))
    graph = model.graph
    names = [value.name for value in graph.output]
    del graph.output[:]

    def constant(name: str, array: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes) -> str:
        graph.node.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    flat = []
    for name, (stride, anchors) in zip(names, ANCHORS.items(), strict=True):
        side = 640 // stride
        rows, columns = np.mgrid[:side, :side].astype(np.float32)
        grid = np.stack([columns, rows], axis=-1)[None, None]
        size = np.array(anchors, np.float32).reshape(1, 3, 1, 1, 2)
        parts = dict(zip(("xy", "wh", "obj", "points", "cls"), ("xy", "wh", "obj", "points", "cls"), strict=True))
        lengths = constant(f"{name}.lengths", np.array([2, 2, 1, 10, 1], np.int64))
        parts = {key: f"{name}.{key}" for key in parts}
        graph.node.append(helper.make_node("Split", [name, lengths], list(parts.values()), axis=4))
        likely = {key: node("Sigmoid", [parts[key]], f"{parts[key]}.s") for key in ("xy", "wh", "obj", "cls")}
        two, offset = constant(f"{name}.two", np.float32(2)), constant(f"{name}.grid", (grid - 0.5).astype(np.float32))
        step = constant(f"{name}.stride", np.float32(stride))
        doubled = node("Mul", [likely["xy"], two], f"{name}.xy2")
        xy = node("Mul", [node("Add", [doubled, offset], f"{name}.xy3"), step], f"{name}.xy4")
        root = node("Mul", [likely["wh"], two], f"{name}.wh2")
        squared = node("Mul", [root, root], f"{name}.wh3")
        wh = node("Mul", [squared, constant(f"{name}.size", size)], f"{name}.wh4")
        scaled = node("Mul", [parts["points"], constant(f"{name}.size5", np.tile(size, 5))], f"{name}.p2")
        base = constant(f"{name}.base", np.tile(grid * stride, 5).astype(np.float32))
        points = node("Add", [scaled, base], f"{name}.p3")
        joined = node("Concat", [xy, wh, likely["obj"], points, likely["cls"]], f"{name}.all", axis=4)
        shape = constant(f"{name}.shape", np.array([1, -1, 16], np.int64))
        flat.append(node("Reshape", [joined, shape], f"{name}.flat"))
    node("Concat", flat, "output", axis=1)
    graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 25200, 16]))
    for opset in model.opset_import:
        opset.version = 13  # Split takes its lengths as an input
    for each in graph.node:  # which Unsqueeze does as well
        if each.op_type == "Unsqueeze" and each.attribute:
            axes = constant(f"{each.output[0]}.axes", np.array(each.attribute[0].ints, np.int64))
            del each.attribute[:]
            each.input.append(axes)
    model.ir_version = 8
    onnx.save(model, str(folder / "concatenated.onnx"))
    return folder / "concatenated.onnx"


def test_both_layouts_of_the_export_give_the_same_faces(photo, make, yolov5_face, tmp_path):
    path = concatenated(yolov5_face.path, tmp_path)
    raw = make("faces", model="yolov5-face")
    joined = make("faces", model="yolov5-face", file=str(path))
    joined_outputs = onnxruntime.InferenceSession(str(path)).get_outputs()
    assert [value.shape for value in joined_outputs] == [[1, 25200, 16]]
    pictures = [photo("six"), photo("astronaut")]
    for expected, found in zip(
        raw.score(pictures, {})["boxes"].to_pylist(), joined.score(pictures, {})["boxes"].to_pylist(), strict=True
    ):
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=0.05)
            assert one["landmarks"] == pytest.approx(other["landmarks"], abs=0.05)
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    assert joined.fingerprint != raw.fingerprint


# -- which faces count -----------------------------------------------------------------------------------------


def test_small_and_unsure_faces_do_not_count(make):
    large, small, tiny = face(0.9, 0, 0, 100, 100), face(0.8, 0, 0, 40, 40), face(0.7, 0, 0, 20, 20)
    unsure = face(0.4, 0, 0, 300, 300)
    evidence = table([unsure, large, tiny], [large, small], None, [], [unsure])
    one = make("faces", model="centerface")
    assert one.verdict(evidence, FacesThresholds()).tolist() == [PASS, FAIL, UNKNOWN, FAIL, FAIL]
    rows, index, _ = prominent(evidence, FacesThresholds(), "centerface")
    assert list(zip(rows.tolist(), index.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 1)]
    assert one.verdict(evidence, FacesThresholds(min_relative_area=0.2)).tolist() == [PASS, PASS, UNKNOWN, FAIL, FAIL]
    assert one.verdict(evidence.slice(0, 0), FacesThresholds()).tolist() == []


def test_the_threshold_is_that_of_the_detector(make, yolov5_face):
    thresholds = FacesThresholds(min_confidence={"yolov5-face": 0.3, "centerface": 0.6})
    evidence = table([face(0.5, 0, 0, 10, 10)])
    assert make("faces", model="centerface").verdict(evidence, thresholds).tolist() == [FAIL]
    assert make("faces", model="yolov5-face").verdict(evidence, thresholds).tolist() == [PASS]


def test_prominent_is_what_a_loop_would_say():
    random = np.random.default_rng(5)
    rows: list[list[dict] | None] = []
    for _ in range(300):
        number = int(random.integers(-1, 6))
        corners = random.uniform(0, 50, (max(number, 0), 2))
        ends = corners + random.uniform(1, 60, corners.shape)
        found = [face(float(random.uniform(0.1, 1)), *a, *b) for a, b in zip(corners, ends, strict=True)]
        rows.append(None if number < 0 else found)
    evidence = pa.concat_tables([table(*rows[:100]), table(*rows[100:])]).slice(10)
    thresholds = FacesThresholds(min_confidence=0.4, min_relative_area=0.3)
    expected = []
    for row, found in enumerate(rows[10:]):
        area = [(f["box"][2] - f["box"][0]) * (f["box"][3] - f["box"][1]) for f in found or []]
        sure = [i for i, f in enumerate(found or []) if f["score"] >= 0.4]
        most = max((area[i] for i in sure), default=0)
        expected += [(row, i) for i in sure if area[i] >= 0.3 * most]
    got = prominent(evidence, thresholds, "centerface")
    assert list(zip(*(part.tolist() for part in got[:2]), strict=True)) == expected


# -- which detector runs ---------------------------------------------------------------------------------------


def without_yolov5_face(name: str, folder: str | None = None):
    if name == "yolov5-face":
        raise WeightError("model file yolov5n-0.5.onnx (yolov5-face) is not here")
    return resolve(name, folder)


def test_the_stand_in_takes_its_place_and_says_so(monkeypatch, make, make_recipe):
    monkeypatch.setattr(detect, "resolve", without_yolov5_face)
    stood_in = make_recipe({"faces": {"stand_in": "centerface"}}).open_filters()["faces"]
    assert stood_in.detector == "centerface"
    assert stood_in.fingerprint == make("faces", model="centerface").fingerprint
    with pytest.raises(WeightError, match="yolov5-face"):
        make_recipe({}).open_filters()


def test_a_refused_file_is_not_papered_over(tmp_path, make_recipe):
    (tmp_path / "yolov5n-0.5.onnx").write_bytes(b"something else")
    with pytest.raises(RefusedError, match="yolov5n-0.5.onnx is refused"):
        make_recipe({"faces": {"stand_in": "centerface"}}, weights=str(tmp_path)).open_filters()


def test_fingerprint_is_of_what_runs(tmp_path, make, make_recipe, yolov5_face):
    shutil.copy(yolov5_face.path, tmp_path / "mine.onnx")
    plain = make_recipe({}).open_filters()["faces"].fingerprint
    assert make_recipe({"faces": {"stand_in": "centerface"}}).open_filters()["faces"].fingerprint == plain
    assert make_recipe({"faces": {"file": str(tmp_path / "mine.onnx")}}).open_filters()["faces"].fingerprint == plain
    assert make("faces", model="centerface").fingerprint != plain
    assert make_recipe({"faces": {"nms_iou": 0.4}}).open_filters()["faces"].fingerprint != plain


def test_the_paper_s_order_and_nothing_loaded(make_recipe):
    made = make_recipe({"faces": {"stand_in": "centerface"}}).open_filters()
    assert list(made) == ["grayscale", "text", "faces", "anime"]
    assert "model" not in vars(made["faces"]) and "engine" not in vars(made["text"])
