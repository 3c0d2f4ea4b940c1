"""Writing checkpoints: whole or not at all, in the layouts that others load.

authors     model.bin as the authors publish it
facemakeup  one .safetensors with all parts and metadata; stock `load_ip_adapter` reads it as it is
ip-adapter  .bin or .safetensors without the ControlNet
diffusers   a folder for stock diffusers: the adapter, a ControlNet, a model card
pipeline    a folder for `DiffusionPipeline.from_pretrained`, base model included
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from model.checkpoints import controlnet_layout
from model.checkpoints.folders import ADAPTER_FILE, require_utf8
from model.checkpoints.layouts import CheckpointError, listed
from model.checkpoints.recognition import shortcut_in_name
from model.checkpoints.state import Checkpoint, cast, shapes_of
from model.dtypes import DTYPES, torch_dtype
from model.folder import usual_modes

if TYPE_CHECKING:
    import torch

LAYOUTS = {
    "authors": (".bin",),
    "facemakeup": (".safetensors",),
    "ip-adapter": (".bin", ".safetensors"),
    "diffusers": (),
    "pipeline": (),
}
NEED_CONTROLNET = ("authors", "facemakeup", "pipeline")
CARD = Path(__file__).parent / "model_card.md"


def write(
    checkpoint: Checkpoint,
    path: str | Path,
    layout: str,
    *,
    base: str | Path | None = None,
    image_encoder: str | Path | None = None,
    vae: str | Path | None = None,
    dtype: str | None = None,
    fold_lora: bool = False,
    force: bool = False,
    allow_non_finite: bool = False,
) -> list[str]:
    """Write `checkpoint` as `layout` (see the module); every tensor keeps its dtype unless `dtype` says otherwise.

    Args:
        base: a diffusers folder of the base model; needed by `pipeline`, and where a ControlNet's heads are unknown.
        image_encoder, vae: folders or hub names for `pipeline`, where `base` has none or another is preferred.
        dtype: `fp16`, `bf16` or `fp32`, for all parts. Lossy where it has fewer bits.
        fold_lora: `pipeline` only: add the LoRA to the UNet's weights. Lossy where the base is not fp32.
        force: replace what is at `path`: a file, or a folder that was exported.
        allow_non_finite: write NaN and infinity too.

    Returns:
        What was lost or has to be known, as sentences.

    Raises:
        CheckpointError: before anything is written.
    """
    path = Path(path).expanduser()
    base = Path(base).expanduser() if base is not None else None
    notes: list[str] = []
    _check_request(checkpoint, path, layout, base, fold_lora, force)
    checkpoint.dimensions()
    if dtype is not None:
        checkpoint, largest = _cast(checkpoint, dtype)
        if largest:
            notes.append(f"LOSSY: every number is {dtype} now; the largest change is {largest:.3g}")
    if not allow_non_finite and (broken := checkpoint.non_finite()):
        raise CheckpointError(
            f"not finite: {listed(f'{key} ({count})' for key, count in broken.items())}; such a model draws black "
            "images; remedy: an earlier checkpoint, another dtype, or --allow-non-finite"
        )
    unet = _unet_config(base) if base is not None else None
    if unet is not None:
        from model.checkpoints.on_model import require_fit

        require_fit(checkpoint.dimensions(), unet)
    if not any(value.any() for key, value in checkpoint.ip_adapter.items() if key.endswith("_lora.up.weight")):
        notes.append("every LoRA is zero: untrained, or folded into the UNet of the folder that it was read from")
    if layout in ("ip-adapter", "diffusers"):
        notes += _stock_notes(checkpoint, layout)
    if path.suffix == ".bin":
        notes += _pickle_notes(checkpoint, path, layout)

    def fill(scratch: Path) -> None:
        if layout == "pipeline":
            from model.checkpoints.pipeline_folder import write_pipeline

            try:
                notes.extend(
                    write_pipeline(checkpoint, base, scratch, image_encoder=image_encoder, vae=vae, fold_lora=fold_lora)
                )
            except (ValueError, RuntimeError) as error:  # torch raises RuntimeError for a shape that does not fit
                raise CheckpointError(f"no pipeline can be made on {base}: {error}") from error
        elif layout == "diffusers":
            _write_diffusers(checkpoint, scratch, unet)
        elif path.suffix == ".bin":
            _write_bin(checkpoint, scratch, with_controlnet=layout == "authors")
        else:
            _write_safetensors(checkpoint, scratch, layout)

    _atomically(path, folder=not LAYOUTS[layout], fill=fill)
    return notes


def _check_request(
    checkpoint: Checkpoint, path: Path, layout: str, base: Path | None, fold_lora: bool, force: bool
) -> None:
    if layout not in LAYOUTS:
        raise CheckpointError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    require_utf8(path)
    suffixes = LAYOUTS[layout]
    if suffixes and path.suffix not in suffixes:
        raise CheckpointError(f"{path}: layout {layout} is a file that ends in {' or '.join(suffixes)}")
    if not suffixes and path.suffix in (".bin", ".safetensors"):
        raise CheckpointError(f"{path}: layout {layout} is a folder, not a {path.suffix} file")
    if checkpoint.controlnet is None and layout in NEED_CONTROLNET:
        raise CheckpointError(
            f"layout {layout} has a ControlNet and this checkpoint ({checkpoint.metadata.get('layout')}) has none; "
            "remedy: --to ip-adapter or --to diffusers, or train Face-MakeUp from it first"
        )
    if layout == "pipeline" and base is None:
        raise CheckpointError("layout pipeline holds the base model too; remedy: name its folder with --base")
    if fold_lora and layout != "pipeline":
        raise CheckpointError(f"--fold-lora changes the UNet, which layout {layout} does not hold; use --to pipeline")
    if path.exists() and not force:
        raise CheckpointError(f"{path} is there already; remedy: another name, or --force to replace it")
    if path.exists() and path.is_dir() == bool(suffixes):
        raise CheckpointError(
            f"{path} is a {'folder' if path.is_dir() else 'file'}, layout {layout} is not: not replaced"
        )
    exported = ("model_index.json", ADAPTER_FILE)
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in exported):
        raise CheckpointError(
            f"{path} is not an exported folder (it has none of {listed(exported)}): not replaced, even so"
        )


def _cast(checkpoint: Checkpoint, dtype: str) -> tuple[Checkpoint, float]:
    if dtype not in DTYPES:
        raise CheckpointError(f"no dtype {dtype!r}; there are {', '.join(DTYPES)}")
    return cast(checkpoint, torch_dtype(dtype))


def _unet_config(base: Path) -> dict:
    file = base / "unet" / "config.json"
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--base {base}: {error}; a diffusers folder with unet/config.json is needed") from error
    needed = {"block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim"}
    if not isinstance(config, dict) or not needed <= config.keys():
        raise CheckpointError(f"--base {base}: unet/config.json is not of a UNet2DConditionModel; name another folder")
    return config


def _stock_notes(checkpoint: Checkpoint, layout: str) -> list[str]:
    notes = [
        f"load with image_encoder_folder=None, then set clip_embeds and shortcut = {checkpoint.shortcut} on "
        "pipe.unet.encoder_hid_proj.image_projection_layers[0]"
    ]
    if checkpoint.controlnet is not None and layout == "ip-adapter":
        notes.append("the pose branch (ControlNet) is not in this layout: it is dropped")
    elif checkpoint.controlnet is not None:
        notes.append(
            "stock ControlNet pipelines give the ControlNet the text, not the face tokens: stock diffusers draws what "
            "Face-MakeUp draws only without the pose branch; --to pipeline has both"
        )
    return notes


def _pickle_notes(checkpoint: Checkpoint, path: Path, layout: str) -> list[str]:
    """A .bin has no place for metadata; what the reader will take for granted must be so."""
    notes = []
    read_as = True if layout == "authors" else shortcut_in_name(path)
    if layout == "ip-adapter" and read_as is not None and read_as != checkpoint.shortcut:
        right = "plusv2" if checkpoint.shortcut else "plus"
        raise CheckpointError(f"{path.name} would be read as shortcut={read_as}; remedy: a name with `{right}` in it")
    if read_as != checkpoint.shortcut:
        option = "--shortcut" if checkpoint.shortcut else "--no-shortcut"
        named = "plusv2" if checkpoint.shortcut else "plus"
        notes.append(f"the file cannot record its shortcut: reading it needs {option}, or a name with `{named}` in it")
    lost = sorted(checkpoint.metadata.keys() - {"layout", "shortcut", "origin", "frozen_ignored"})
    if lost:
        notes.append(f"a .bin has no place for metadata; dropped: {listed(lost)}")
    return notes


# -- the layouts -----------------------------------------------------------------------------------------------


def _write_bin(checkpoint: Checkpoint, file: Path, with_controlnet: bool) -> None:
    from collections import OrderedDict

    import torch

    parts = checkpoint.parts if with_controlnet else {k: v for k, v in checkpoint.parts.items() if k != "controlnet"}
    torch.save({part: OrderedDict(_owned(tensors)) for part, tensors in parts.items()}, file)


def _write_safetensors(checkpoint: Checkpoint, file: Path, layout: str) -> None:
    from safetensors.torch import save_file

    flat = {
        f"{part}.{key}": value
        for part, tensors in checkpoint.parts.items()
        if part != "controlnet" or layout == "facemakeup"
        for key, value in _owned(tensors).items()
    }
    metadata = dict(checkpoint.metadata)
    metadata.setdefault("origin", metadata.get("layout", "training"))
    save_file(flat, file, metadata=metadata | {"format": "pt", "layout": layout})


def _write_diffusers(checkpoint: Checkpoint, folder: Path, unet: dict | None) -> None:
    folder.mkdir()
    _write_safetensors(checkpoint, folder / ADAPTER_FILE, "ip-adapter")
    if checkpoint.controlnet is not None:
        config = controlnet_layout.full_config(
            shapes_of(checkpoint.controlnet), checkpoint.json_metadata("controlnet_config"), unet
        )
        controlnet_layout.save(checkpoint.controlnet, config, folder / "controlnet")
    dimensions = checkpoint.dimensions()
    conditions = checkpoint.json_metadata("conditions")
    card = CARD.read_text()
    for name, value in {
        "SHORTCUT": checkpoint.shortcut,
        "IDENTITY": dimensions.identity,
        "CLIP": dimensions.clip,
        "ENCODER": conditions.get("identity_encoder", "not recorded"),
        "CHANNELS": conditions.get("channel_order", "not recorded"),
        "ALIGNMENT": conditions.get("align_size", "not recorded"),
    }.items():
        card = card.replace(f"@{name}@", str(value))
    (folder / "README.md").write_text(card)


def _owned(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, contiguous, sharing memory with nothing: a view would drag its whole storage into the file."""
    here = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return {key: v if v.untyped_storage().nbytes() == v.nbytes else v.clone() for key, v in here.items()}


def _atomically(path: Path, folder: bool, fill: Callable[[Path], None]) -> None:
    """Fill a scratch beside `path`, then give it its name; what was there goes only once the new one is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        new, old = Path(scratch, path.name), Path(scratch, "old")
        fill(new)
        usual_modes(new)
        if folder and path.exists():
            path.rename(old)
        try:
            os.replace(new, path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        if old.exists():
            shutil.rmtree(old)
