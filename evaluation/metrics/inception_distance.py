"""FID and KID: how far a method's pictures are from the references as sets, by the features of FID's InceptionV3.

Sound: each picture brought to 299 pixels by an antialiased bicubic in floats, as clean-fid does. Reconstructed (facts of the
published fid_score.py): to 256 x 256 by PIL's in whole numbers, from there to 299 by a bilinear; covariances and a matrix root
as there, with as many pictures as there are: it was 50, where FID is mostly bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from evaluation.metrics.base import POSITIVE, AnyFigure, Features, Metric, Pair, SetFigure, Sources
from evaluation.metrics.distances import HEADLINE_AT, frechet_distance, kernel_distance, published_frechet_distance
from evaluation.metrics.hub_models import as_list
from evaluation.metrics.networks.files import fill, find_file, read_weights

FILE = "pt_inception-2015-12-05-6726825d.pth"
FETCH = f"fetch {FILE} from the releases of mseitzer/pytorch-fid (tag fid_weights)"
SIDE, PUBLISHED_SIDE = 299, 256  # pixels
LISTED = (".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # by the published script


class InceptionDistance(Metric):
    """FID and KID by the weights of pytorch-fid."""

    name, version = "inception", 1
    columns = (pa.field("clean", pa.list_(pa.float32())), pa.field("published", pa.list_(pa.float32())))

    def __init__(self, sources: Sources):
        self.file, self._sha256 = find_file("inception", FILE, sources, FETCH)
        self._device = sources.torch_device
        self._network = _open(self.file).to(self._device)

    def describe(self) -> dict[str, Any]:
        return {"weights": self._sha256}

    def features(self, rgb: np.ndarray) -> Features:
        import torch
        import torch.nn.functional as F

        clean = torch.from_numpy(resized(rgb, SIDE))[None] / 127.5 - 1
        small = np.array(Image.fromarray(rgb).resize((PUBLISHED_SIDE, PUBLISHED_SIDE)))
        unit = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
        published = 2 * F.interpolate(unit, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1
        with torch.inference_mode():
            clean, published = (self._network(pixels.to(self._device)) for pixels in (clean, published))
            return {"clean": as_list(clean), "published": as_list(published)}

    def scores(self, pair: Pair) -> dict[str, float | None]:
        return {}

    def figures(self) -> Sequence[AnyFigure]:
        by = f"by {self.file.name}"
        few = f"under {HEADLINE_AT:,} pictures mostly bias"
        published = "resized to 256 x 256 first, np.cov and a matrix root; its interval is that of the exact distance"
        return [
            SetFigure("KID", "clean", kernel_distance, says=f"unbiased; {by}"),
            SetFigure("FID", "clean", frechet_distance, headline_at=HEADLINE_AT, says=f"{by}; {few}", bounds=POSITIVE),
            SetFigure(
                "FID", "published", published_frechet_distance, "reconstructed", headline_at=HEADLINE_AT,
                scatter=frechet_distance, suffixes=LISTED, bounds=POSITIVE, says=f"{published}; {by}; {few}",
            ),
        ]  # fmt: skip


def resized(rgb: np.ndarray, side: int) -> np.ndarray:
    """float32 (3, side, side), 0 to 255 and a little beyond: each channel by PIL's antialiased bicubic in floats."""
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in rgb.transpose(2, 0, 1)]
    return np.stack([np.asarray(item.resize((side, side), Image.Resampling.BICUBIC)) for item in channels])


def _open(file: Any) -> Any:
    from evaluation.metrics.networks.inception import FIRST, FidInception

    weights = read_weights(file)
    first = weights.get(f"{FIRST}.conv.weight")
    # a thinner one, as tests have it, says so by its first layer
    thinner = max(1, 32 // len(first)) if first is not None and first.ndim else 1
    return fill(FidInception(thinner), weights, file, ignored=("fc.",))  # the classes that it was trained on
