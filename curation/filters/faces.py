"""Group photos and images without a face: how many prominent faces there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from common.decode import ImageLimits, Picture
from common.hashing import canonical_json
from common.pinned_files.weights import Resolved
from common.settings import Section, Share
from curation.filters.base import Filter, Machine, Measure, Outline, box_corners, stored_from
from curation.filters.evidence import flattened, largest, missing, passed
from model.conditioning.detectors import FACE_FLOOR, INPUT_SIDE, NMS_IOU, DetectorName
from model.conditioning.detectors.detect import Detector, choose_detector, detect_faces, open_detector

FACE = pa.struct(
    [
        pa.field("box", pa.list_(pa.float32(), 4)),
        pa.field("score", pa.float32()),
        pa.field("landmarks", pa.list_(pa.float32(), 10)),
    ]
)


FAINT = 0.3  # detections below that score are no faces to look at more closely


class FacesSettings(Section):
    model: DetectorName = "yolov5-face"
    stand_in: Literal["centerface"] | None = Field(None, description="used, and said so, where the model cannot be had")
    file: str | None = Field(None, description="your own yolov5-face export, taken instead of the pinned file")
    input_side: int = Field(INPUT_SIDE, ge=64, multiple_of=32)
    nms_iou: float = Field(NMS_IOU, gt=0, lt=1)


class FacesThresholds(Section):
    min_confidence: dict[DetectorName, stored_from(FACE_FLOOR)] = Field(
        {"yolov5-face": 0.5, "centerface": 0.5}, description="a number means another thing for each detector"
    )
    min_relative_area: Share = Field(0.12, description="faces smaller than this share of the largest do not count")
    count: int = Field(1, ge=1, description="how many faces an image must have")
    min_box_iou: float = Field(
        0.3, gt=0, le=1, description="the chosen face must overlap a box of FaceCaption this much (caption_box)"
    )

    @model_validator(mode="before")
    @classmethod
    def one_number_for_all(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("min_confidence"), (int, float)):
            both = dict.fromkeys(("yolov5-face", "centerface"), value["min_confidence"])
            return {**value, "min_confidence": both}
        return value

    def confidence(self, detector: DetectorName) -> float:
        return self.min_confidence.get(detector, 0.5)


class Faces(Filter):
    """Rejects images without a prominent face, or with more than asked for. Keeps box, score and five points of each.

    `detector`: which one runs. It is settled when the filter is opened: where yolov5-face cannot be had and the
    recipe names a stand-in, that one; its name and its file's hash are in the fingerprint.
    """

    name, label, rejection = "faces", "faces", "not the right number of prominent faces"
    version = 1
    device = "gpu"
    columns = (pa.field("boxes", pa.list_(FACE)),)
    Settings, Thresholds = FacesSettings, FacesThresholds
    libraries = ("onnxruntime",)
    grid = {
        "min_confidence": [0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75],
        "min_relative_area": [0.0, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4],
    }
    labels = {"faces": None, "background_faces": None}

    def __init__(
        self,
        settings: FacesSettings,
        machine: Machine,
        files: Mapping[str, Resolved] | None = None,
        detector: DetectorName | None = None,
    ):
        super().__init__(settings, machine, files)
        self.detector: DetectorName = detector or settings.model

    @classmethod
    def open(cls, settings: FacesSettings, machine: Machine) -> Faces:
        detector, file = choose_detector(settings.model, settings.stand_in, machine.weights, settings.file)
        return cls(settings, machine, {"detector": file}, detector)

    @classmethod
    def of_description(cls, description: Mapping[str, Any]) -> Faces:
        settings = dict(description.get("settings") or {})
        detector = settings.pop("detector", None)
        return cls(cls.Settings.model_validate(settings), Machine(ImageLimits()), detector=detector)

    def describe(self) -> dict[str, Any]:
        # what ran counts, not what was wished for: a stand-in that was not needed changes no score
        described = super().describe()
        settings = {k: v for k, v in described["settings"].items() if k not in ("model", "stand_in", "file")}
        return {**described, "settings": {**settings, "detector": self.detector}}

    @cached_property
    def model(self) -> Detector:
        return open_detector(self.detector, self.files["detector"].path, self.settings.input_side, self.machine.device)

    def score(self, pictures: Sequence[Picture], needed: Mapping[str, pa.Table]) -> pa.Table:
        detections = detect_faces(self.model, pictures, self.settings.nms_iou) if pictures else []
        rows = [
            [
                {"box": box.tolist(), "score": float(score), "landmarks": landmarks.tolist()}
                for box, score, landmarks in zip(*faces, strict=True)
            ]
            for faces in detections
        ]
        return pa.table({"boxes": pa.array(rows, pa.list_(FACE))})

    def verdict(self, evidence: pa.Table, thresholds: FacesThresholds) -> np.ndarray:
        rows, *_ = prominent(evidence, thresholds, self.detector)
        return passed(np.bincount(rows, minlength=len(evidence)) == thresholds.count, missing(evidence, "boxes"))

    def measures(self, thresholds: FacesThresholds) -> list[Measure]:
        def counted(evidence: pa.Table) -> np.ndarray:
            rows, *_ = prominent(evidence, thresholds, self.detector)
            return np.bincount(rows, minlength=len(evidence))

        def best(evidence: pa.Table) -> np.ndarray:
            return largest(evidence, "boxes", "score")

        confidence = thresholds.confidence(self.detector)
        return [
            Measure("prominent", "Prominent faces", "faces", "count", counted, note=f"wanted: {thresholds.count}"),
            Measure("best", "Score of the best face", "score", "linear", best, confidence, decides=False),
        ]

    def outlines(
        self, evidence: Mapping[str, Any], size: tuple[int, int], thresholds: FacesThresholds
    ) -> list[Outline]:
        confidence = thresholds.confidence(self.detector)
        return [
            Outline(box_corners(face["box"], size), face["score"] >= confidence) for face in evidence["boxes"] or ()
        ]

    def in_sample(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        return {"face_boxes": canonical_json(evidence["boxes"])}

    @classmethod
    def should_reject(cls, label: Mapping[str, str]) -> bool | None:
        # whether a drawn face counts is for the filters of drawings to say
        return int(label["faces"]) != 1 if label["faces"] and label["drawing"] in ("", "photo") else None


def largest_face(faces: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of one image's detections, as the evidence has them, the largest that is not faint."""

    def area(face: Mapping[str, Any]) -> float:
        x1, y1, x2, y2 = face["box"]
        return (x2 - x1) * (y2 - y1)

    return max((face for face in faces if face["score"] >= FAINT), key=area, default=None)


def prominent(
    evidence: pa.Table, thresholds: FacesThresholds, detector: DetectorName
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The faces that count: confident, and not much smaller than the largest confident face of their image.

    Returns:
        Row of the table, index in that row's list of boxes, both int64 (faces,), and box, float64 (faces, 4), of each such
        face, in order.
    """
    rows, boxes, scores = flattened(evidence, "boxes", "box", "score")
    first = np.searchsorted(rows, rows)
    index = np.arange(len(rows)) - first
    confident = scores >= np.float32(thresholds.confidence(detector))
    rows, index, boxes = rows[confident].astype(np.int64), index[confident], boxes[confident].astype(np.float64)
    if not len(rows):
        return rows, index, boxes.reshape(0, 4)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    largest_area = np.maximum.reduceat(area, starts)
    of_row = np.repeat(largest_area, np.diff(np.append(starts, len(rows))))
    counts = area >= thresholds.min_relative_area * of_row
    return rows[counts], index[counts], boxes[counts]
