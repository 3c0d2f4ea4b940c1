"""Turn an official yolov5-face checkpoint (.pt) into the ONNX file that the face filter runs.

    python -m curation.filters.engines.export_yolov5face yolov5s-face.pt yolov5s-face.onnx
    python -m curation.filters.engines.export_yolov5face yolov5s-face.pt yolov5s-face.onnx --repo CHECKOUT

and then in the recipe: `filters: {faces: {file: yolov5s-face.onnx}}`.

The checkpoints pickle the project's own classes, so loading one runs that project's code (GPL-3.0). Therefore
it happens once, here, in an environment that this command makes for it, and never in the pipeline. The code
comes through torch hub at a pinned commit, or from your checkout. Loading a pickle executes what is in it: take
checkpoints only from where their authors publish them. One that is not known here is refused unless you say its hash
(`--sha256`), so that what is executed is what you meant.

What was run and what was not: this command was run on a stand-in project with the same hub entry (tests), and
its steps on the real code with random weights. It was never run on the authors' weights, nor did it ever fetch
from GitHub: the machines that it was written on reach neither. The detector that was tested on faces is the
pinned ONNX file.
"""

from __future__ import annotations

import argparse
import hashlib  # not common.hashing: this file also runs alone, in an environment of its own
import subprocess
import sys
from pathlib import Path
from typing import Any

PROJECT = "deepcam-cn/yolov5-face"
# Only this much of the commit's name was to be had; GitHub serves it as long as it is unambiguous.
# The second line: what the project's modules import when they are loaded, used or not.
REF = "84ef013"
PINS = (
    *("torch==2.13.0", "torchvision", "onnx==1.23.2", "onnxruntime==1.31.1", "opencv-python-headless<5", "numpy"),
    *("matplotlib", "pandas", "pyyaml", "requests", "scipy", "seaborn", "tqdm"),
)
# yolov5n-0.5.pt as its authors publish it; any other pickle is loaded only when its hash is given
KNOWN = {"9f7cdbcf5cd63f454c47b18e7400a69630b96a01efb7559367e91b6e962ad3bd"}
OPSET = 17
TOLERANCE = 0.01  # between torch and onnxruntime: pixels and probabilities


class ExportError(RuntimeError):
    """The checkpoint could not be exported; the message says why."""


def export(checkpoint: Path, out: Path, repo: Path | None, ref: str, side: int) -> str:
    """Write `out`, with one output (1, N, 16): centre, size, confidence, five points, class. Returns its sha256.

    Raises:
        ExportError: not a checkpoint of this project, or the exported model has other outputs or other numbers.
    """
    import torch

    network = _network(checkpoint, repo or _from_hub(ref))
    network.model[-1].export_cat = True  # the other two ways give an invalid graph under current torch
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        result = network(image)
        names = {"input_names": ["data"], "output_names": ["output"]}
        torch.onnx.export(network, (image,), str(out), opset_version=OPSET, dynamo=False, **names)
    expected = (result[0] if isinstance(result, (tuple, list)) else result).numpy()
    try:
        _check(out, image.numpy(), expected)
    except ExportError:
        out.unlink()
        raise
    return hashlib.sha256(out.read_bytes()).hexdigest()


def _from_hub(ref: str) -> Path:
    """The project's folder in torch hub's cache, fetched if it is not there."""
    import torch

    # no validation: it knows branches and tags only, and asks GitHub's rate-limited interface about them
    torch.hub.list(f"{PROJECT}:{ref}", skip_validation=True, trust_repo=True)
    return Path(torch.hub.get_dir()) / f"{PROJECT.replace('/', '_')}_{ref.replace('/', '_')}"


def _network(checkpoint: Path, folder: Path) -> Any:
    """The float32 module, through the hub entry `custom`."""
    import torch

    sys.path.insert(0, str(folder))  # where the pickle finds the classes that it names
    try:
        # every stock checkpoint is a pickled module, which weights_only refuses: hence the separate environment
        stored = torch.load(checkpoint, map_location="cpu", weights_only=False)
        if not isinstance(stored, dict) or not (stored.get("ema") or stored.get("model")):
            raise ExportError(f"{checkpoint} is not a yolov5-face checkpoint: it holds neither `ema` nor `model`")
        loaded = torch.hub.load(str(folder), "custom", source="local", path_or_model=stored)
    finally:
        sys.path.remove(str(folder))
    # some versions wrap the network into one that reads image files
    return (loaded.model if type(loaded).__name__.lower() == "autoshape" else loaded).float().eval()


def _check(out: Path, image: Any, expected: Any) -> None:
    import onnxruntime

    outputs = onnxruntime.InferenceSession(str(out)).run(None, {"data": image})
    shapes = [output.shape for output in outputs]
    if shapes != [expected.shape] or len(shapes[0]) != 3 or shapes[0][2] != 16:
        raise ExportError(f"the exported model has outputs {shapes}, expected one (1, N, 16)")
    if (apart := float(abs(outputs[0] - expected).max())) > TOLERANCE:
        raise ExportError(f"the exported model's numbers differ from the checkpoint's by up to {apart:.3g}")


def make_environment(folder: Path, python: str) -> Path:
    """The Python of an environment with what the project needs; made once."""
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "-q", *PINS], check=True)
    return interpreter


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Raises SystemExit with a sentence where an argument cannot be right."""
    parser = argparse.ArgumentParser(prog="python -m curation.filters.engines.export_yolov5face", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", type=Path, help="an official .pt file")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    parser.add_argument("--repo", type=Path, help="a checkout of the project, instead of fetching it")
    parser.add_argument("--sha256", help="of the checkpoint; needed unless it is one that is known here")
    parser.add_argument("--ref", default=REF, help=f"commit to fetch; default {REF}")
    parser.add_argument("--side", type=int, default=640, help="input side, a multiple of 32; filters.faces.input_side")
    parser.add_argument("--env", type=Path, help="where the environment is or shall be; default: in the cache")
    parser.add_argument("--here", action="store_true", help="in the Python that runs this, which must have it all")
    options = parser.parse_args(arguments)
    if not options.checkpoint.is_file():
        parser.error(f"{options.checkpoint}: no such file; get it from the links in the README of {PROJECT}")
    digest = hashlib.sha256(options.checkpoint.read_bytes()).hexdigest()
    if digest != options.sha256 and (options.sha256 or digest not in KNOWN):
        parser.error(
            f"{options.checkpoint} has sha256 {digest}, which is {'not the one given' if options.sha256 else 'not known here'}. "
            "Loading it executes what is in it: compare it with its authors' file, then give --sha256"
        )
    if options.repo and not (options.repo / "hubconf.py").is_file():
        parser.error(f"{options.repo}: not a checkout of {PROJECT}: it has no hubconf.py")
    if options.side % 32 or options.side <= 0:
        parser.error(f"--side {options.side}: must be a multiple of 32")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if not options.here:
        from common.pinned_files.packages import cache_dir

        python = make_environment(options.env or cache_dir() / "yolov5face-env", sys.executable)
        again = sys.argv[1:] if arguments is None else arguments
        # -P: the modules beside this file are not to be found in place of the project's
        return subprocess.run([str(python), "-P", __file__, "--here", *again], check=False).returncode
    try:
        digest = export(
            options.checkpoint, options.out, options.repo and options.repo.resolve(), options.ref, options.side
        )
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {options.out}, sha256 {digest}\nin the recipe: filters: {{faces: {{file: {options.out}}}}}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
