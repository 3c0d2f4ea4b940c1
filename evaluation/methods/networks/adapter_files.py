"""Adapter files in their authors' layout, read whole: every key and shape that must be there, and none besides.

Two dictionaries, `image_proj` and `ip_adapter`. Stock diffusers would pass over a missing or a foreign key; here it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoints import reading
from model.checkpoints.layouts import TOKENS, CheckpointError, Shapes, ip_adapter_shapes, listed
from model.checkpoints.tensor_files import open_tensors

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    Parts = dict[str, dict[str, torch.Tensor]]

HEAD_DIM = 64  # of every resampler of this family; stock diffusers assumes it
FEED_FORWARD = 4  # its inner width, in widths


def read_face_id_plus(file: Path, shortcut: bool) -> Parts:
    """Of IP-Adapter-FaceID-Plus and -PlusV2.

    Raises:
        CheckpointError: what the file is instead, or what it lacks.
    """
    checkpoint = reading.read(file, shortcut)
    return {"image_proj": dict(checkpoint.image_proj), "ip_adapter": dict(checkpoint.ip_adapter)}


def read_face_id(file: Path) -> Parts:
    """Of IP-Adapter-FaceID: two layers on the recogniser's vector, and LoRA, K and V of the attentions."""
    parts = _parts(file, ("proj.0.weight", "norm.weight"), "0.to_q_lora.down.weight")
    image_proj, adapter = parts["image_proj"], parts["ip_adapter"]
    identity, token = image_proj["proj.0.weight"].shape[1], image_proj["norm.weight"].shape[0]
    downs = [key for key in adapter if key.endswith(".to_q_lora.down.weight")]
    widths = [adapter[f"{index}.to_q_lora.down.weight"].shape[1] for index in range(len(downs))]
    rank = adapter["0.to_q_lora.down.weight"].shape[0]
    expected = {"image_proj": face_id_shapes(identity, token), "ip_adapter": ip_adapter_shapes(widths, token, rank)}
    _check(file, parts, expected)
    return parts


def read_instant_id(file: Path) -> Parts:
    """Of InstantID: the resampler of IP-Adapter-Plus on the recogniser's vector, and K and V of the cross-attentions."""
    parts = _parts(file, ("latents", "proj_in.weight", "proj_out.weight", "layers.0.0.to_q.weight"), "1.to_k_ip.weight")
    image_proj, adapter = parts["image_proj"], parts["ip_adapter"]
    depth = len({key.split(".")[1] for key in image_proj if key.startswith("layers.")})
    token, width = image_proj["proj_out.weight"].shape
    sizes = (image_proj["latents"].shape[1], image_proj["proj_in.weight"].shape[1], width, token, depth)
    heads = image_proj["layers.0.0.to_q.weight"].shape[0] // HEAD_DIM
    widths = {key: value.shape[0] for key, value in adapter.items()}
    count = 2 * len([key for key in adapter if key.endswith(".to_k_ip.weight")])
    kinds = [f"{index}.to_{kind}_ip.weight" for index in range(1, count, 2) for kind in "kv"]
    expected = {
        "image_proj": resampler_shapes(*sizes, heads),
        "ip_adapter": {key: (widths.get(key, 0), token) for key in kinds},
    }
    _check(file, parts, expected)
    return parts


def attach(pipeline: Any, state: Parts, scale: float) -> None:
    """Puts the adapter into the UNet of a stock pipeline, by the stock loader."""
    pipeline.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    pipeline.set_ip_adapter_scale(scale)
    pipeline.set_progress_bar_config(disable=True)


def face_id_shapes(identity: int, token: int) -> dict[str, tuple[int, ...]]:
    """The projector of IP-Adapter-FaceID."""
    return {
        "proj.0.weight": (2 * identity, identity), "proj.0.bias": (2 * identity,),
        "proj.2.weight": (TOKENS * token, 2 * identity), "proj.2.bias": (TOKENS * token,),
        "norm.weight": (token,), "norm.bias": (token,),
    }  # fmt: skip


def resampler_shapes(
    queries: int, embedding: int, width: int, token: int, depth: int, heads: int
) -> dict[str, tuple[int, ...]]:
    """The resampler of IP-Adapter-Plus. `embedding`: width of what it sees; `token`: of what it makes."""
    inner, hidden = heads * HEAD_DIM, FEED_FORWARD * width
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, queries, width), "proj_in.weight": (width, embedding), "proj_in.bias": (width,),
        "proj_out.weight": (token, width), "proj_out.bias": (token,), "norm_out.weight": (token,), "norm_out.bias": (token,),
    }  # fmt: skip
    for layer in range(depth):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes[f"layers.{layer}.{norm}.weight"] = shapes[f"layers.{layer}.{norm}.bias"] = (width,)
        shapes[f"layers.{layer}.0.to_q.weight"] = (inner, width)
        shapes[f"layers.{layer}.0.to_kv.weight"] = (2 * inner, width)
        shapes[f"layers.{layer}.0.to_out.weight"] = (width, inner)
        shapes[f"layers.{layer}.1.1.weight"] = (hidden, width)
        shapes[f"layers.{layer}.1.3.weight"] = (width, hidden)
    return shapes


def _parts(file: Path, of_projector: tuple[str, ...], of_adapter: str) -> Parts:
    """Both dictionaries, in which the named keys are what tells this layout from its relatives'."""
    tensors = open_tensors(file)
    foreign = [key for key in tensors if not key.startswith(("image_proj.", "ip_adapter."))]
    parts: Parts = {
        part: {key.removeprefix(f"{part}."): tensors[key] for key in tensors if key.startswith(f"{part}.")}
        for part in ("image_proj", "ip_adapter")
    }
    lacking = [f"image_proj.{key}" for key in of_projector if key not in parts["image_proj"]]
    lacking += [f"ip_adapter.{of_adapter}"] if of_adapter not in parts["ip_adapter"] else []
    if lacking or foreign:
        said = f"lacks {listed(lacking)}" if lacking else f"has keys of something else: {listed(foreign)}"
        raise CheckpointError(f"{file} {said}: it is another model's, or not whole; download it again")
    return parts


def _check(file: Path, parts: Mapping[str, Mapping[str, torch.Tensor]], expected: Mapping[str, Shapes]) -> None:
    for part, shapes in expected.items():
        found = {key: tuple(value.shape) for key, value in parts[part].items()}
        if lacking := [key for key in shapes if key not in found]:
            raise CheckpointError(f"{file}: {part} lacks {len(lacking)} keys: {listed(lacking)}; download it again")
        if foreign := [key for key in found if key not in shapes]:
            raise CheckpointError(f"{file}: {part} has keys that do not belong there: {listed(foreign)}")
        if wrong := [f"{key} {found[key]} instead of {shape}" for key, shape in shapes.items() if found[key] != shape]:
            raise CheckpointError(f"{file}: {part} has shapes that contradict each other: {listed(wrong)}")
