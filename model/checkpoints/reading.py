"""Reading checkpoints: every layout in use becomes a `Checkpoint` that is complete and consistent.

Read are the authors' `model.bin`; IP-Adapter-FaceID-Plus v1 and v2; the raw output of their trainers (accelerate);
what this project writes. Nothing is loaded that could run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoints.folders import ADAPTER_FILE, require_utf8
from model.checkpoints.layouts import CheckpointError, processor_order
from model.checkpoints.recognition import PROCESSOR, SUPPORTED, recognise, shortcut_in_name
from model.checkpoints.state import Checkpoint, bit_equal
from model.checkpoints.tensor_files import PARTS, TensorFile, open_tensors

if TYPE_CHECKING:
    from model.checkpoints.state import Tensors

PIPELINE_ADAPTER = Path("unet", "adapter.safetensors")  # of a pipeline folder


def read(path: str | Path, shortcut: bool | None = None) -> Checkpoint:
    """A checkpoint in any of the layouts, checked to be complete and consistent.

    `shortcut` overrides what the file says; it must be given where the file cannot say: an IP-Adapter whose name has
    no `plus` or `plusv2`, or a trainer's output without ControlNet. Files are mapped: do not change them meanwhile.

    Raises:
        CheckpointError: what the file is instead, or what it lacks, and the remedy.
    """
    checkpoint = read_unchecked(path, shortcut)
    if "shortcut" not in checkpoint.metadata:
        raise CheckpointError(
            f"{path} does not say whether it is FaceID-Plus v1 or v2, and the tensors are alike; remedy: a file name with "
            "`plus` for v1 or `plusv2` for v2; or `python -m model.checkpoints convert FILE OUT.safetensors --to "
            "ip-adapter` with --no-shortcut for v1 or --shortcut for v2, then take OUT.safetensors"
        )
    if checkpoint.metadata["shortcut"] not in ("true", "false"):
        raise CheckpointError(
            f"{path}: metadata `shortcut` is {checkpoint.metadata['shortcut']!r}, not true or false; write the file again "
            "with `python -m model.checkpoints convert` and --shortcut or --no-shortcut"
        )
    try:
        checkpoint.dimensions()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return checkpoint


def read_unchecked(path: str | Path, shortcut: bool | None = None) -> Checkpoint:
    """As `read`, but incomplete or inconsistent parts pass, and `shortcut` may be missing: for inspection."""
    path = Path(path).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder; name a checkpoint. What is read: {SUPPORTED}")
    require_utf8(path)
    if (path / PIPELINE_ADAPTER).is_file():
        checkpoint = _read_pipeline(path)
    elif (path / ADAPTER_FILE).is_file():
        checkpoint = _read_diffusers(path)
    else:
        checkpoint = _read_weights(path)
    if shortcut is not None:
        checkpoint.metadata["shortcut"] = "true" if shortcut else "false"
    elif "shortcut" not in checkpoint.metadata and (by_name := shortcut_in_name(path)) is not None:
        checkpoint.metadata["shortcut"] = "true" if by_name else "false"
        version, other = (
            ("v2", "v1, convert it with --no-shortcut") if by_name else ("v1", "v2, convert it with --shortcut")
        )
        checkpoint.notes.append(f"FaceID-Plus {version} by the name {path.name}; no tensor says so. If it is {other}")
    return checkpoint


def _read_weights(path: Path) -> Checkpoint:
    file = open_tensors(path)
    layout = recognise(file)
    checkpoint = _split_raw(file) if layout == "raw" else _split(file)
    checkpoint.metadata |= file.metadata | {"layout": layout}
    checkpoint.metadata.pop("format", None)  # safetensors' own word
    if layout == "authors" or (layout == "raw" and checkpoint.controlnet is not None):
        checkpoint.metadata.setdefault("shortcut", "true")  # the authors train, and draw, with the shortcut only
    checkpoint.notes += file.notes
    return checkpoint


def _split(file: TensorFile) -> Checkpoint:
    parts: dict[str, Tensors] = {part: {} for part in PARTS}
    for key in file:
        part, _, name = key.partition(".")
        parts[part][name] = file[key]
    return Checkpoint(parts["image_proj"], parts["ip_adapter"], parts["controlnet"] or None)


def _split_raw(file: TensorFile) -> Checkpoint:
    """accelerate's flat output. An adapter's tensor has two names there, its place in the list and in the UNet."""
    in_unet = {key: match for key in file if (match := PROCESSOR.fullmatch(key))}
    frozen = {key for key in file if key.startswith("unet.") and key not in in_unet}
    # frozen names count too: with an attention missing, all indices after it would be wrong
    attentions = {match[1] for match in in_unet.values()}
    attentions |= {
        key[len("unet.") : -len(".to_q.weight")]
        for key in frozen
        if key.endswith((".attn1.to_q.weight", ".attn2.to_q.weight"))
    }
    order = processor_order(attentions) if in_unet else {}
    found: dict[str, dict[str, str]] = {part: {} for part in PARTS}
    for key in file:
        if match := in_unet.get(key):
            part, name = "ip_adapter", f"{order[match[1]]}.{match[2]}"
        elif key in frozen:
            continue
        else:
            prefix, _, name = key.partition(".")
            part = {"image_proj_model": "image_proj", "adapter_modules": "ip_adapter"}.get(prefix, "controlnet")
        other = found[part].setdefault(name, key)
        if other != key and not bit_equal(file[other], file[key]):
            raise CheckpointError(
                f"{file.path}: {other} and {key} are two names of one tensor but differ; the file mixes two states "
                "of training, and the right one is unknown; take another checkpoint of the run"
            )
    parts = {part: {name: file[key] for name, key in names.items()} for part, names in found.items()}
    metadata = {"frozen_ignored": str(len(frozen))} if frozen else {}
    return Checkpoint(parts["image_proj"], parts["ip_adapter"], parts["controlnet"] or None, metadata)


def _read_diffusers(folder: Path) -> Checkpoint:
    checkpoint = _read_weights(folder / ADAPTER_FILE)
    if (folder / "controlnet").is_dir():
        _add_controlnet(checkpoint, folder / "controlnet")
    checkpoint.metadata["layout"] = "diffusers"
    return checkpoint


def _read_pipeline(folder: Path) -> Checkpoint:
    from model.projector import to_authors

    adapter = open_tensors(folder / PIPELINE_ADAPTER)
    projector = {key.removeprefix("resampler."): value for key, value in open_tensors(folder / "projector").items()}
    try:
        image_proj = to_authors(projector)
    except KeyError as error:
        raise CheckpointError(f"{folder / 'projector'} is no FaceProjector: {error} is missing or unknown") from error
    ip_adapter = {key.removeprefix("ip_adapter."): adapter[key] for key in adapter}
    config = _json(folder / "projector" / "config.json")
    # how a face becomes conditions belongs to the weights and goes with them into a single file
    conditions = _json(folder / "model_index.json").get("conditions")
    metadata = {"conditions": json.dumps(conditions, sort_keys=True)} if conditions else {}
    metadata |= adapter.metadata | {"shortcut": "true" if config.get("shortcut") else "false", "layout": "pipeline"}
    metadata.pop("format", None)
    checkpoint = Checkpoint(image_proj, ip_adapter, None, metadata)
    _add_controlnet(checkpoint, folder / "controlnet")
    return checkpoint


def _add_controlnet(checkpoint: Checkpoint, folder: Path) -> None:
    checkpoint.controlnet = dict(open_tensors(folder))
    checkpoint.metadata["controlnet_config"] = json.dumps(_json(folder / "config.json"), sort_keys=True)


def _json(file: Path) -> dict:
    try:
        value = json.loads(file.read_text())
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}, not an object")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}; the folder is incomplete, export or copy it again") from error
    return value
