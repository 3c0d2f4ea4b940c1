"""Face detectors as ONNX files. This file has their names and settings; importing it is cheap."""

from typing import Literal

DetectorName = Literal["yolov5-face", "centerface"]

FACE_FLOOR = 0.1  # detections below this confidence are not kept
INPUT_SIDE = 640  # pixels, the longer side of what a detector sees
MIN_CONFIDENCE = 0.5  # below this it is no face to draw from
NMS_IOU = 0.5  # of two faces that overlap more than this, the less confident one is dropped
