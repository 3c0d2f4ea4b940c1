"""Gives an exported folder what it needs to find faces: CenterFace, and the files of the model's identity encoder.

Other detectors stay here for their licence (yolov5-face: GPL-3.0), and so does ArcFace (non-commercial).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from common.pinned_files.weights import WeightError, resolve
from model.conditioning.detectors import INPUT_SIDE, MIN_CONFIDENCE, NMS_IOU
from model.conditioning.detectors.detect import centerface_model
from model.config import Conditions
from model.folder import usual_modes

ENCODERS = {"dlib": ("dlib-5-landmarks", "dlib-resnet"), "arcface": ()}
ARCFACE = "w600k_r50.onnx"


def carry_finder(folder: Path, conditions: Conditions) -> list[str]:
    """Write FOLDER/face_finder, with which the folder takes photos; what has to be known, as sentences."""
    encoder = conditions.identity_encoder
    try:
        detector, *networks = (resolve(name) for name in ("centerface", *ENCODERS[encoder]))
    except WeightError as error:
        return [f"the folder takes no photos, only faces: it has no face finder ({str(error).splitlines()[0]})"]
    place = folder / "face_finder"
    place.mkdir(exist_ok=True)
    (place / "centerface.onnx").write_bytes(centerface_model(detector.path))
    for network in networks:
        shutil.copyfile(network.path, place / network.path.name)
    settings = {
        "input_side": INPUT_SIDE,
        "nms_iou": NMS_IOU,
        "min_confidence": MIN_CONFIDENCE,
        "encoder": encoder,
        "encoder_files": [network.path.name for network in networks] or [ARCFACE],
        "channel_order": conditions.channel_order,
        "licences": {file.name: file.licence for file in (detector, *networks)},
    }
    (place / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    usual_modes(place)
    if encoder == "arcface":
        return [f"to give the folder photos, put insightface's {ARCFACE} (non-commercial) into its face_finder/"]
    return []
