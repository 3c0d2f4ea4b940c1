"""The other end of `PaddleEngine`: PaddleOCR's text detector as a process, in an environment of its own.

Run by path with that environment's Python; imports nothing of this project. Argument: JSON (`model_name`, `file`,
`thresh`, `box_thresh`, `unclip`, `max_side`, `device`). On stdin one image a message (npy, uint8 BGR (h, w, 3)),
on stdout one answer each: npy float64 (n, 9), four corners in pixels of the image and the score. A message is
its kind (one byte: `A` an array, `E` an error in words), its length (4 bytes, big-endian), its content.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

CONFIG = """\
Global:
  model_name: {model_name}
PreProcess:
  transform_ops:
  - DecodeImage: {{channel_first: false, img_mode: BGR}}
  - DetResizeForTest: null
  - NormalizeImage:
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
      order: hwc
      scale: 1./255.
  - ToCHWImage: null
  - KeepKeys: {{keep_keys: [image, shape]}}
PostProcess:
  name: DBPostProcess
  thresh: {thresh}
  box_thresh: {box_thresh}
  max_candidates: 1000
  unclip_ratio: {unclip}
"""


def send(stream: BinaryIO, kind: bytes, content: bytes) -> None:
    stream.write(kind + struct.pack(">I", len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Kind and content of the next message; None at the end of the stream."""
    head = stream.read(5)
    if len(head) < 5:
        return None
    (length,) = struct.unpack(">I", head[1:])
    content = stream.read(length)
    return (head[:1], content) if len(content) == length else None


def packed(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def unpacked(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content), allow_pickle=False)


def detector(options: dict[str, Any], folder: Path) -> Any:
    """PaddleOCR's TextDetection on the ONNX file, with PaddlePaddle itself neither needed nor used."""
    from paddleocr import TextDetection

    # a copy: paddleocr wants a folder with these names, and a link may not be allowed on this file system
    shutil.copy(options["file"], folder / "inference.onnx")
    (folder / "inference.yml").write_text(CONFIG.format(**options))
    return TextDetection(
        model_name=options["model_name"],
        model_dir=str(folder),
        engine="onnxruntime",
        engine_config={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        device=options["device"],
        limit_side_len=options["max_side"],
        limit_type="max",
        thresh=options["thresh"],
        box_thresh=options["box_thresh"],
        unclip_ratio=options["unclip"],
    )


def answers(stream: BinaryIO, model: Any) -> Iterator[np.ndarray]:
    while (message := receive(stream)) is not None:
        (result,) = model.predict(unpacked(message[1]), batch_size=1)
        polygons = np.asarray(result["dt_polys"], np.float64).reshape(-1, 8)
        yield np.concatenate([polygons, np.asarray(result["dt_scores"], np.float64).reshape(-1, 1)], axis=1)


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print; what they print must not end up between the messages
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = detector(json.loads(sys.argv[1]), Path(folder))
            send(out, b"A", packed(np.zeros((0, 9))))  # ready
            for answer in answers(sys.stdin.buffer, model):
                send(out, b"A", packed(answer))
        except Exception as error:  # told to the other end, which raises it there
            send(out, b"E", f"{type(error).__name__}: {error}".encode())
            raise


if __name__ == "__main__":
    main()
