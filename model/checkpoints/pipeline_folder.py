"""A checkpoint on a base model -> one folder that `DiffusionPipeline.from_pretrained` loads (see folder.py)."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from model.checkpoints.on_model import pipeline_with_checkpoint
from model.checkpoints.state import Checkpoint
from model.config import Conditions, load_config
from model.face_unet import LORA, FaceUNet
from model.finder_files import carry_finder


def write_pipeline(
    checkpoint: Checkpoint,
    base: Path,
    out: Path,
    *,
    image_encoder: str | Path | None = None,
    vae: str | Path | None = None,
    fold_lora: bool = False,
) -> list[str]:
    """Write the folder; what was lost or has to be known, as sentences.

    Args:
        base: a diffusers folder of Stable Diffusion, or an exported pipeline folder.
        image_encoder, vae: folders or hub names, where `base` has none, or another one is wanted.
        fold_lora: add the LoRA to the UNet's weights (W + up down) and zero it: one matrix product less a projection.
    """
    conditions, note = conditions_of_checkpoint(checkpoint, base)
    pipeline = pipeline_with_checkpoint(checkpoint, base, image_encoder, vae, conditions=conditions, keep_dtypes=True)
    notes = [note] if note else []
    if fold_lora:
        notes.append(f"LOSSY: LoRA folded into the UNet; rounding moves a weight by at most {fold(pipeline.unet):.3g}")
    pipeline.save_pretrained(out)
    return notes + carry_finder(out, conditions)


def conditions_of_checkpoint(checkpoint: Checkpoint, base: Path) -> tuple[Conditions, str | None]:
    """How faces were made into conditions in training: the checkpoint says so, or the base folder; else a guess."""
    index = base / "model_index.json"
    known = checkpoint.json_metadata("conditions")
    if not known and index.is_file():
        known = json.loads(index.read_text()).get("conditions")
    if known:
        return Conditions.model_validate(known), None
    return load_config("sd15").conditions, (
        "the checkpoint does not say how faces were cropped, aligned and embedded in its training: the folder assumes "
        "configs/sd15.yaml; correct `conditions` in model_index.json if you know better"
    )


@torch.no_grad()
def fold(unet: FaceUNet) -> float:
    """Add the LoRA to the frozen weights, in fp64, and zero its `up`; the largest rounding error of a weight."""
    largest = 0.0
    for _, attention in unet.attentions():
        for target in ("to_q", "to_k", "to_v", "to_out.0"):
            layer = attention.get_submodule(target)
            up, down = layer.lora_B[LORA].weight, layer.lora_A[LORA].weight
            exact = layer.base_layer.weight.double() + up.double() @ down.double()
            layer.base_layer.weight.copy_(exact)
            largest = max(largest, float((layer.base_layer.weight.double() - exact).abs().max()))
            up.data = torch.zeros_like(up)  # the checkpoint may own the old one
    return largest
