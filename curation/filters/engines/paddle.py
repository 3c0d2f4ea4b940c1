"""PaddleOCR as the engine of the text filter, in an environment of its own.

PaddleOCR and this project cannot share one: it insists on another build of OpenCV. It runs as a process that
speaks over pipes. Make its environment with

    python -m curation.filters.engines.paddle [--folder FOLDER] [--python PYTHON]

which needs 0.7 GB and, on a bare system, the package libgl1 (for OpenCV). It is found in the cache, or where
FACEMAKEUP_PADDLE names it. The model is the same ONNX file that our own engine runs; so are the boxes, but for
rounding (tested).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.pinned_files.packages import cache_dir
from curation.filters.base import FilterBroken
from curation.filters.engines import paddle_worker
from curation.filters.engines.paddle_worker import packed, receive, send, unpacked
from curation.filters.engines.ppocr import TEXT_FLOOR, TextEngineSettings

ENVIRONMENT = "FACEMAKEUP_PADDLE"
PINS = ("paddleocr==3.7.0", "paddlex==3.7.2", "onnxruntime==1.31.1", "opencv-contrib-python==4.10.0.84")
NAMES = {"ppocr-v4-mobile-det": "PP-OCRv4_mobile_det", "ppocr-v6-small-det": "PP-OCRv6_small_det"}


class PaddleError(FilterBroken):
    """PaddleOCR's environment is missing, or its process failed; the message has the remedy."""


def folder() -> Path:
    return Path(os.environ.get(ENVIRONMENT) or cache_dir() / "paddle-env").expanduser()


class PaddleEngine:
    """Lines of text by PaddleOCR's own code. The process ends when this object, or this process, does."""

    def __init__(self, path: Path, settings: TextEngineSettings, device: str):
        python = folder() / "bin" / "python"
        if not python.exists():
            raise PaddleError(
                f"filters.text.engine is paddleocr, but there is no environment for it at {folder()}\n"
                f"  remedy: python -m curation.filters.engines.paddle, or name one in {ENVIRONMENT}, or set engine: onnxruntime"
            )
        options = {
            "model_name": NAMES[settings.model],
            "file": str(path),
            "thresh": settings.binarize,
            "box_thresh": TEXT_FLOOR,
            "unclip": settings.unclip,
            "max_side": settings.max_side,
            "device": device,
        }
        self.log = tempfile.TemporaryFile()
        # -P: the folder of the worker is not to be searched for the modules that paddleocr imports
        command = [str(python), "-P", str(Path(paddle_worker.__file__)), json.dumps(options)]
        quiet = {**os.environ, "PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK": "True"}
        quiet.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=quiet
        )
        self._answer()

    def __call__(self, images: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        boxes = []
        for image in images:
            try:
                send(self.process.stdin, b"A", packed(np.ascontiguousarray(image[:, :, ::-1])))
            except BrokenPipeError:
                raise self._failure("it ended") from None
            answer = self._answer()
            boxes.append((answer[:, :8].reshape(-1, 4, 2), answer[:, 8]))
        return boxes

    def _answer(self) -> np.ndarray:
        message = receive(self.process.stdout)
        if message is None:
            raise self._failure("it ended")
        if message[0] == b"E":
            raise self._failure(message[1].decode())
        return unpacked(message[1])

    def _failure(self, what: str) -> PaddleError:
        self.log.seek(0)
        last = self.log.read().decode(errors="replace").strip().splitlines()[-5:]
        return PaddleError(f"PaddleOCR's process failed: {what}\n  " + "\n  ".join(last))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(timeout=30)
        self.process.stdout.close()
        self.log.close()

    def __del__(self) -> None:
        if hasattr(self, "process"):
            self.close()


def make(target: Path, python: str) -> None:
    """The environment, from pins. Raises CalledProcessError if the package index cannot serve them."""
    subprocess.run([python, "-m", "venv", str(target)], check=True)
    subprocess.run([str(target / "bin" / "python"), "-m", "pip", "install", "-q", *PINS], check=True)


def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m curation.filters.engines.paddle", description=make.__doc__)
    parser.add_argument("--folder", type=Path, default=folder(), help=f"default: {ENVIRONMENT}, or in the cache")
    parser.add_argument("--python", default=sys.executable, help="3.10 to 3.12; default: this one")
    options = parser.parse_args(arguments)
    make(options.folder, options.python)
    print(f"made {options.folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
