"""Attr_c: how many of CelebA's 40 attributes a network sees in a face; and whether they are the reference's.

Sound: that count; and the share of the attributes that picture and reference both have or both lack, also balanced between
those that the reference has and those that it lacks, since most faces lack most of them. Reconstructed (facts of the published
count_properties.py): only `*.jpg` is listed, where there is none the figure is 0; a picture that is not RGB ends the script.
More attributes are not a better likeness: the published figure never looks at the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from evaluation.metrics.base import SHARE, AnyFigure, Features, Figure, Metric, Pair, Sources, Unavailable
from evaluation.metrics.networks.files import fill, find_file, read_weights

FILE = "FAC_resnet50_AW_V1/best_model.pth"
FETCH = f"fetch {FILE} of Face-MakeUp's evaluation (trained on CelebA: non-commercial), or take an ONNX file of logits"
CELEBA = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry "
    "Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
).split()
SIDE = 256  # pixels
COUNTED, HAD = 0.85, 0.5  # probabilities above which an attribute is counted, as published, and taken as there
NAMES = "attributes"  # the property of an ONNX file that names what it knows, with commas, where that is not all 40


class Attributes(Metric):
    """Attr_c by one network: the published weights, or an ONNX file from pictures to logits."""

    name, version = "attributes", 1
    columns = (pa.field("probabilities", pa.list_(pa.float32())),)

    def __init__(self, sources: Sources):
        self.file, self._sha256 = find_file("attributes", FILE, sources, FETCH)
        self._logits, self.names = (
            _open_onnx(self.file) if self.file.suffix == ".onnx" else _open_weights(self.file, sources.torch_device)
        )

    def describe(self) -> dict[str, Any]:
        return {"weights": self._sha256}

    def features(self, rgb: np.ndarray) -> Features:
        logits = self._logits(pixels_of(rgb))
        return {"probabilities": (1 / (1 + np.exp(-logits.astype(np.float64)))).tolist()}

    def scores(self, pair: Pair) -> dict[str, float | None]:
        here = np.array(pair.drawn["probabilities"])
        had = np.array(pair.reference["probabilities"]) > HAD
        same = had == (here > HAD)
        both_kinds = had.any() and not had.all()
        return {
            "count": float((here > COUNTED).sum()),
            "agreement": float(same.mean()),
            "balanced": float((same[had].mean() + same[~had].mean()) / 2) if both_kinds else None,
        }

    def figures(self) -> Sequence[AnyFigure]:
        whole = "CelebA's 40" if self.names == CELEBA else f"{len(self.names)} attributes ({', '.join(self.names)})"
        by = f"of {whole}, by {self.file.name}"
        counts = (0, len(self.names))
        return [
            Figure("Attr_c", "count", higher_is_better=None, says=f"how many are above {COUNTED}; {by}", bounds=counts),
            Figure("Attr agreement", "agreement", says=f"share that both have or both lack; {by}", bounds=SHARE),
            Figure("Attr agreement, balanced", "balanced", says=f"those had and those lacked weigh the same; {by}", bounds=SHARE),
            Figure(
                "Attr_c", "count", "reconstructed", suffixes=(".jpg",), stops=_stops, of_none=0.0, bounds=counts,
                says=f"of *.jpg only, 0 where there is none; {by}",
            ),
        ]  # fmt: skip


def pixels_of(rgb: np.ndarray) -> np.ndarray:
    """float32 (1, 3, 256, 256), -1 to 1: the square in the middle, brought to its size by PIL's bicubic."""
    height, width = rgb.shape[:2]
    side, left, top = min(height, width), max(width - height, 0) // 2, max(height - width, 0) // 2
    square = Image.fromarray(rgb[top : top + side, left : left + side])
    small = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    return (small.transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5


def _open_weights(file: Path, device: Any) -> tuple[Any, list[str]]:
    import torch

    from evaluation.metrics.networks.resnet import FIRST, AttributeNetwork

    weights = read_weights(file)
    first = weights.get(FIRST)
    # a thinner one, as tests have it, says so by its first layer
    thinner = max(1, 64 // len(first)) if first is not None and first.ndim else 1
    # the classes that the backbone was trained on are kept in the published file, and not used
    network = fill(AttributeNetwork(len(CELEBA), thinner), weights, file, ignored=("backbone.fc.", "lambdas")).to(
        device
    )

    def logits(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(device))[0].cpu().numpy()

    return logits, CELEBA


def _open_onnx(file: Path) -> tuple[Any, list[str]]:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    from common.onnx_sessions import session

    try:
        opened = session(file)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise Unavailable(f"{file}: onnxruntime cannot open it: {str(error).splitlines()[0]}") from error
    named = opened.get_modelmeta().custom_metadata_map.get(NAMES)
    names = [name.strip() for name in named.split(",")] if named else CELEBA
    inputs, outputs = opened.get_inputs(), opened.get_outputs()
    if len(inputs) != 1 or outputs[0].shape[-1] != len(names):
        raise Unavailable(
            f"{file}: gives {outputs[0].shape} for {len(names)} attributes: it has to give a logit for each of CelebA's 40, "
            f"or name its own in the property `{NAMES}`"
        )
    return lambda pixels: opened.run([outputs[0].name], {inputs[0].name: pixels})[0][0], names


def _stops(row: Mapping[str, Any]) -> str:
    if row["error"]:
        return row["error"]
    with Image.open(row["file"]) as picture:  # its head only
        return "" if picture.mode == "RGB" else f"its mode is {picture.mode}, and three channels are taken"
