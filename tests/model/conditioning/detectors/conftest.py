from __future__ import annotations

from tests.real_photos import photo, yolov5_face  # noqa: F401  (fixtures)
