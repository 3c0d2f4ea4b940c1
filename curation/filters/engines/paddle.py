"""PaddleOCR as the engine of the text filter, in an environment of its own.

PaddleOCR and this project cannot share one: it insists on another build of OpenCV. It runs as a process that
speaks over pipes. Make its environment with

    python -m curation.filters.engines.paddle [--folder FOLDER] [--python PYTHON]

which needs 0.6 GB and, on a bare system, the package libgl1 (for OpenCV). Every package is pinned by its hash in
paddle.txt. It is found in the cache, or where FACEMAKEUP_PADDLE names it. The model is the same ONNX file that our own
engine runs; so are the boxes, but for rounding (tested). PaddlePaddle is not needed: PaddleOCR brings its own way from
a picture to the network and from its map to boxes, and that is what differs between engines.
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

from common.command_line import exit_code_of
from common.hashing import sha256_of_file
from common.pinned_files.packages import cache_dir
from curation.filters.base import FilterBroken
from curation.filters.engines import paddle_worker
from curation.filters.engines.paddle_worker import packed, receive, send, unpacked
from curation.filters.engines.ppocr import TEXT_FLOOR, TextEngineSettings

ENVIRONMENT = "FACEMAKEUP_PADDLE"
PINS = Path(__file__).with_name("paddle.txt")
NAMES = {"ppocr-v4-mobile-det": "PP-OCRv4_mobile_det", "ppocr-v6-small-det": "PP-OCRv6_small_det"}


class PaddleError(FilterBroken):
    """PaddleOCR's environment is missing, or its process failed; the message has the remedy."""


def folder() -> Path:
    """Where the environment is, or is to be made: of other pins another one."""
    return Path(os.environ.get(ENVIRONMENT) or cache_dir() / f"paddle-{sha256_of_file(PINS)[:8]}").expanduser()


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


def make(target: Path, python: str = sys.executable) -> None:
    """The environment at `target`, of pinned wheels; one that is there stays as it is.

    Raises:
        PaddleError: it cannot be made here: no `python`, no package index, no wheel for this machine.
    """
    if (target / "bin" / "python").exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # beside it, and renamed when it is whole: what a kill leaves half made must not be taken for an environment
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        half = Path(scratch) / "env"
        _run([python, "-m", "venv", "--without-pip", str(half)])
        _run([*(sys.executable, "-m", "pip", "--python", str(half / "bin" / "python"), "install", "-q", "--no-deps"),
              *("--only-binary", ":all:", "--require-hashes", "-r", str(PINS))])  # fmt: skip
        try:
            half.rename(target)
        except OSError:
            if not (
                target / "bin" / "python"
            ).exists():  # otherwise another process was faster: same hashes, same content
                raise


def _run(command: list[str]) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise PaddleError(f"PaddleOCR's environment cannot be made with {command[0]}: {error}") from None
    if run.returncode:
        said = (run.stdout + run.stderr).strip().splitlines()
        reason = [line for line in said if "ERROR" in line] or said[-1:]
        raise PaddleError(
            f"PaddleOCR's environment cannot be made here: {' '.join(reason)}\n"
            f"  remedy: check that `pip download --no-deps --require-hashes -r {PINS}` works here, or set engine: onnxruntime"
        )


def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m curation.filters.engines.paddle", description=make.__doc__)
    parser.add_argument("--folder", type=Path, default=folder(), help=f"default: {ENVIRONMENT}, or in the cache")
    parser.add_argument("--python", default=sys.executable, help="3.11 or 3.12; default: this one")
    options = parser.parse_args(arguments)

    def made() -> None:
        make(options.folder, options.python)
        print(f"made {options.folder}")

    return exit_code_of(made)


if __name__ == "__main__":
    raise SystemExit(main())
