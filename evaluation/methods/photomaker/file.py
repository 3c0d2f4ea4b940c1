"""PhotoMaker's file, {id_encoder, lora_weights}, read whole: sizes from its shapes, every key accounted for, the version from its keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import CLIPVisionConfig

from evaluation.methods.photomaker.encoder import IdEncoder, Perceiver
from model.checkpoints.layouts import CheckpointError, listed
from model.checkpoints.tensor_files import open_tensors
from model.projector import from_authors

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

CLIP_HEAD = 64  # width of a head of any CLIP: no shape in the file says it
RESAMPLER = "qformer_perceiver.perceiver_resampler."
POSITIONS = "vision_model.embeddings.position_ids"  # old versions of transformers saved these: 0, 1, 2, ...
PARTS = ("id_encoder", "lora_weights")
Tensors = Mapping[str, torch.Tensor]


class PhotoMakerFile(NamedTuple):
    """`encoder`: with its weights; `lora`: of the UNet's attentions, as the file has it."""

    encoder: IdEncoder
    lora: dict[str, torch.Tensor]


def read_photomaker(file: Path, version: int) -> PhotoMakerFile:
    """Version 1 or 2, fp32 or as the file has it.

    Raises:
        CheckpointError: it is the other version, another model, or not whole.
    """
    parts = _parts(file)
    weights = {key: value for key, value in parts["id_encoder"].items() if key != POSITIONS}
    found = 2 if any(key.startswith("qformer_perceiver.") for key in weights) else 1
    if found != version:
        raise CheckpointError(
            f"{file} is PhotoMaker version {found}, not version {version}: name the other method, or the other file"
        )
    try:
        with torch.device("meta"):
            encoder = encoder_like({key: tuple(value.shape) for key, value in weights.items()})
    except KeyError as error:
        raise CheckpointError(f"{file}: id_encoder lacks {error}; download it again") from error
    state = from_file(weights)
    expected = {key: tuple(value.shape) for key, value in encoder.state_dict().items()}
    if lacking := [key for key in expected if key not in state]:
        raise CheckpointError(f"{file}: id_encoder lacks {len(lacking)} keys: {listed(lacking)}; download it again")
    if foreign := [key for key in state if key not in expected]:
        raise CheckpointError(f"{file}: id_encoder has keys that do not belong there: {listed(foreign)}")
    if wrong := [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if tuple(state[key].shape) != shape
    ]:
        raise CheckpointError(f"{file}: id_encoder has shapes that contradict each other: {listed(wrong)}")
    encoder.load_state_dict(state, assign=True)
    encoder.clip.vision_model.embeddings.position_ids = torch.arange(
        expected["clip.vision_model.embeddings.position_embedding.weight"][0]
    )[None]
    return PhotoMakerFile(encoder.eval(), parts["lora_weights"])


def encoder_like(shapes: Mapping[str, tuple[int, ...]]) -> IdEncoder:
    """An encoder of the sizes of these tensors, by the authors' names.

    Raises:
        KeyError: one that tells a size is not there.
    """
    embeddings, layers = "vision_model.embeddings", "vision_model.encoder.layers."
    width, _, patch, _ = shapes[f"{embeddings}.patch_embedding.weight"]
    places = shapes[f"{embeddings}.position_embedding.weight"][0] - 1
    first, second = shapes["visual_projection.weight"][0], shapes["visual_projection_2.weight"][0]
    clip = CLIPVisionConfig(
        hidden_size=width, intermediate_size=shapes[f"{layers}0.mlp.fc1.weight"][0], num_hidden_layers=_count(shapes, layers),
        num_attention_heads=width // CLIP_HEAD, patch_size=patch, image_size=patch * round(places**0.5), projection_dim=first,
    )  # fmt: skip
    perceiver = None
    if any(key.startswith(RESAMPLER) for key in shapes):
        inner, vector = shapes["qformer_perceiver.token_proj.0.weight"]
        perceiver = Perceiver(vector, inner, first + second, width, _count(shapes, f"{RESAMPLER}layers."))
    return IdEncoder(clip, second, perceiver)


def from_file(weights: Tensors) -> dict[str, torch.Tensor]:
    """The authors' names of the ID encoder -> this module's; unknown names pass, for the reader to refuse."""
    resampler = from_authors(_part(weights, RESAMPLER))
    renamed = {key: value for key, value in weights.items() if not key.startswith(RESAMPLER)}
    clip = ("vision_model.", "visual_projection.")
    return {f"clip.{key}" if key.startswith(clip) else key: value for key, value in renamed.items()} | {
        f"{RESAMPLER}{key}": value for key, value in resampler.items()
    }


def check_lora(file: Path, lora: Tensors, unet: UNet2DConditionModel) -> None:
    """Each pair belongs to a layer of this UNet and is whole: diffusers would pass over what does not fit.

    Raises:
        CheckpointError: what does not.
    """
    layers = dict(unet.named_modules())
    halves = {"down.weight": ("up.weight", 1, "in_features"), "up.weight": ("down.weight", 0, "out_features")}
    for key, value in lora.items():
        name, _, half = key.rpartition("_lora.")
        name = name.removeprefix("unet.").replace(".processor.", ".")
        layer = layers.get(f"{name}.0" if name.endswith("to_out") else name)
        other, side, width = halves.get(half, ("", 0, ""))
        if layer is None or f"{key.removesuffix(half)}{other}" not in lora:
            raise CheckpointError(
                f"{file}: lora_weights has {key}: the base model has no such layer, or the other half of it is missing"
            )
        if value.shape[side] != getattr(layer, width):
            raise CheckpointError(
                f"{file}: lora_weights has {key} of shape {tuple(value.shape)}, which does not fit the base model's layer"
            )


def _parts(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Both dictionaries: of a pickle, or, of a safetensors file, where their names are before the keys."""
    opened = open_tensors(file)
    if opened.nested:
        content = {key: opened.stored(key) for key in opened}
        parts = {key: value for key, value in content.items() if key in PARTS and isinstance(value, dict)}
        foreign = [key for key in content if key not in parts]
        foreign += [
            f"{part}.{key}"
            for part, inner in parts.items()
            for key, value in inner.items()
            if not torch.is_tensor(value)
        ]
    else:
        parts = {part: _part(opened, f"{part}.") for part in PARTS}
        foreign = [key for key in opened if not key.startswith(tuple(f"{part}." for part in PARTS))]
    if foreign or not all(parts.get(part) for part in PARTS):
        raise CheckpointError(
            f"{file} is no file of PhotoMaker, which has {' and '.join(PARTS)}, of tensors, and nothing else: {listed(foreign or list(opened), 3)}"
        )
    return parts


def _part(tensors: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})
