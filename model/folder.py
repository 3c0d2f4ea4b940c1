"""What makes a saved pipeline folder complete: its own code, and an index that points at it.

diffusers finds a component's class in a Python file inside the component's folder, and the pipeline's in
`pipeline.py` beside the index. With both there, the folder loads where this project is not installed:
`DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.
"""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

BESIDE_THE_INDEX = ("pipeline.py", "views.py", "conditions.py", "features.py", "folder.py", "presets.py")


def carry_code(pipeline: Any, folder: Path) -> None:
    """Complete a folder that `save_pretrained` wrote: copy the code and correct `model_index.json`."""
    index_file = folder / "model_index.json"
    index = json.loads(index_file.read_text())
    here = Path(inspect.getfile(type(pipeline))).parent
    for name in BESIDE_THE_INDEX:
        shutil.copyfile(here / name, folder / name)
    index["_class_name"] = ["pipeline", type(pipeline).__name__]
    for part in ("unet", "projector"):
        kind = type(getattr(pipeline, part))
        source = Path(inspect.getfile(kind))
        shutil.copyfile(source, folder / part / source.name)
        index[part] = [source.stem, kind.__name__]
    # without torchvision transformers substitutes this class; other machines know the public name
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index_file.write_text(json.dumps(index, indent=2) + "\n")
