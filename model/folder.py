"""Adds to a saved pipeline folder the code that loads it where this project is not installed.

`DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` finds a component's class in a Python file inside
the component's folder, and the pipeline's class in `pipeline.py` beside `model_index.json`. With that file diffusers
takes only files of the same folder, and only those that the file itself imports. So the modules of conditioning/ are
copied beside it, `from .conditioning.x import` becomes `from .x import`, as does `from .detectors.x import`, and each of them is imported once more at the
end of `pipeline.py`; nothing else in the code changes.
"""

import inspect
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

BESIDE_THE_INDEX = ("pipeline.py", "folder.py", "presets.py")
CONDITIONING = (
    "alignment.py",
    "checks.py",
    "crops.py",
    "detectors/centerface.py",
    "detectors/detections.py",
    "faces.py",
    "features.py",
    "folder_finder.py",
    "identity_networks.py",
    "pose_map.py",
    "views.py",
)


def carry_code(pipeline: Any, folder: Path) -> None:
    """Complete a folder that `save_pretrained` wrote: copy the code and correct `model_index.json`."""
    _copy_code(Path(inspect.getfile(type(pipeline))).parent, folder)
    finder = Path(pipeline.name_or_path or "", "face_finder")  # of the folder that the pipeline came from
    if pipeline.name_or_path and finder.is_dir() and finder.resolve() != (folder / "face_finder").resolve():
        shutil.copytree(finder, folder / "face_finder", dirs_exist_ok=True)
    index_file = folder / "model_index.json"
    index = json.loads(index_file.read_text())
    index.pop("_name_or_path", None)  # a path of the machine that wrote the folder
    index["_class_name"] = ["pipeline", type(pipeline).__name__]
    for part in ("unet", "projector"):
        kind = type(getattr(pipeline, part))
        source = Path(inspect.getfile(kind))
        shutil.copyfile(source, folder / part / source.name)
        index[part] = [source.stem, kind.__name__]
    # without torchvision transformers substitutes this class; other machines know the public name
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index_file.write_text(json.dumps(index, indent=2) + "\n")
    for config_file in folder.glob("*/config.json"):
        config = json.loads(config_file.read_text())
        if config.pop("_name_or_path", None) is not None:
            config_file.write_text(json.dumps(config, indent=2) + "\n")
    usual_modes(folder)


def usual_modes(place: Path) -> None:
    """Give a file, or all files of a folder, the mode that the umask says: safetensors writes for its owner only."""
    umask = os.umask(0)
    os.umask(umask)
    for file in [place] if place.is_file() else place.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~umask)


def _copy_code(here: Path, folder: Path) -> None:
    """Copy the pipeline's modules flat into `folder`; `here` is this package, or where diffusers put such a copy."""
    if not (here / "conditioning").is_dir():  # the pipeline was loaded from such a folder: its code is flat already
        for name in BESIDE_THE_INDEX + CONDITIONING:
            shutil.copyfile(here / Path(name).name, folder / Path(name).name)
        return
    for source in (
        *(here / name for name in BESIDE_THE_INDEX),
        *(here / "conditioning" / name for name in CONDITIONING),
    ):
        (folder / source.name).write_text(
            re.sub(r"from \.(conditioning|detectors)(\.detectors)?\.", "from .", source.read_text())
        )
    with open(folder / "pipeline.py", "a") as file:
        file.write("\n# diffusers takes only the files that this one imports\n")
        file.writelines(f"from .{Path(name).stem} import __doc__ as _  # noqa: E402, F401\n" for name in CONDITIONING)
