"""The aligned face: turned, scaled and moved so that its landmarks lie on ArcFace's template."""

import cv2
import numpy as np

from .checks import finite_array

# insightface's `arcface_dst`: where the five points go in a 112-pixel face
TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def template(size: int) -> np.ndarray:
    """Where ArcFace's five points go in an aligned face of `size` pixels: float32 (5, 2). insightface's rule.

    Raises:
        ValueError: a size that is no multiple of 112 or 128.
    """
    if size < 1 or size % 112 and size % 128:
        raise ValueError(
            f"a face cannot be aligned at {size} pixels: take a multiple of 112 (224 ...) or 128 (512 ...)"
        )
    if size % 112 == 0:
        return TEMPLATE_112 * np.float32(size / 112)
    return (TEMPLATE_112 + np.float32([8, 0])) * np.float32(size / 128)


def align(rgb: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray | None:
    """The face turned, scaled and moved onto the template: uint8 (size, size, 3), black outside the photo.

    `rgb`: uint8 (h, w, 3); `landmarks`: (5, 2), in its pixels. None: the points are in one place. It is insightface's
    `norm_crop`, down to its half pixel: warpAffine counts from the centres of pixels, detectors from their corners.
    The similarity is that of least squares (Umeyama 1991): in the plane, the complex regression z -> a z + b.

    Raises:
        ValueError: a size that is no multiple of 112 or 128, or points that are not finite.
    """
    source = finite_array("landmarks", landmarks, (5, 2)).astype(np.float64) @ (1, 1j)
    target = template(size).astype(np.float64) @ (1, 1j)
    centred = source - source.mean()
    if (spread := np.vdot(centred, centred).real) < 1e-6:
        return None
    a = np.vdot(centred, target) / spread
    b = target.mean() - a * source.mean()
    matrix = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    return cv2.warpAffine(rgb, matrix, (size, size), borderValue=0)
