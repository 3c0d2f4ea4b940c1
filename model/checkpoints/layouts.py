"""Key names and shapes of a Face-MakeUp checkpoint: what must be there, and how big. Pure: no file, no tensor.

The canonical form is the authors' (OpenFace-CQUPT/Face-MakeUp_SD1.5, `model.bin`), which is IP-Adapter-FaceID-Plus's
with a ControlNet beside it: three dictionaries `image_proj`, `ip_adapter`, `controlnet`. Sizes are read out of the
file and checked against each other, so any identity encoder and any UNet of Stable Diffusion's kind fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.errors import UserError
from model.config import HEAD_DIM

Shapes = Mapping[str, tuple[int, ...]]

# stock diffusers builds every FaceID-Plus projection with these, and cannot read them out of a file
TOKENS = 4
DEPTH = 4

LAYER = "perceiver_resampler.layers."
ADAPTER_KEY = re.compile(r"(\d+)\.(to_(?:q|k|v|out)_lora\.(?:down|up)|to_[kv]_ip)\.weight")
ATTENTION = re.compile(
    r"(down_blocks|up_blocks|mid_block)((?:\.\d+)?)\.attentions\.(\d+)\.transformer_blocks\.(\d+)\.attn([12])"
)
BLOCK_ORDER = ("down_blocks", "up_blocks", "mid_block")  # that of UNet2DConditionModel.attn_processors


class CheckpointError(UserError, ValueError):
    """A checkpoint that is refused; the message names what is wrong and the remedy."""


@dataclass(frozen=True)
class Dimensions:
    """`identity`: length of the identity vector; `clip`: width of the CLIP hidden states; `token`: width of a face
    token, the UNet's cross_attention_dim; `rank`: of the LoRA; `widths`: hidden size of each attention, in order."""

    identity: int
    clip: int
    token: int
    rank: int
    widths: tuple[int, ...]


def listed(keys: Iterable[str], limit: int = 10) -> str:
    """`a, b and 12 more`."""
    keys = list(keys)
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


# -- the two dictionaries of the adapter -----------------------------------------------------------------------


def image_proj_shapes(identity: int, clip: int, token: int) -> dict[str, tuple[int, ...]]:
    """The 56 tensors of the projector (IP-Adapter's ProjPlusModel)."""
    shapes: dict[str, tuple[int, ...]] = {
        "proj.0.weight": (2 * identity, identity),
        "proj.0.bias": (2 * identity,),
        "proj.2.weight": (TOKENS * token, 2 * identity),
        "proj.2.bias": (TOKENS * token,),
        "norm.weight": (token,),
        "norm.bias": (token,),
        "perceiver_resampler.proj_in.weight": (token, clip),
        "perceiver_resampler.proj_in.bias": (token,),
        "perceiver_resampler.proj_out.weight": (token, token),
        "perceiver_resampler.proj_out.bias": (token,),
        "perceiver_resampler.norm_out.weight": (token,),
        "perceiver_resampler.norm_out.bias": (token,),
    }
    for layer in range(DEPTH):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes[f"{LAYER}{layer}.{norm}.weight"] = shapes[f"{LAYER}{layer}.{norm}.bias"] = (token,)
        shapes[f"{LAYER}{layer}.0.to_q.weight"] = (token, token)
        shapes[f"{LAYER}{layer}.0.to_kv.weight"] = (2 * token, token)
        shapes[f"{LAYER}{layer}.0.to_out.weight"] = (token, token)
        shapes[f"{LAYER}{layer}.1.1.weight"] = (4 * token, token)
        shapes[f"{LAYER}{layer}.1.3.weight"] = (token, 4 * token)
    return shapes


def ip_adapter_shapes(widths: Iterable[int], token: int, rank: int) -> dict[str, tuple[int, ...]]:
    """LoRA of every attention and the image-prompt K and V of every second one; `widths` in processor order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, width in enumerate(widths):
        source = token if index % 2 else width
        for projection, inputs in (("q", width), ("k", source), ("v", source), ("out", width)):
            shapes[f"{index}.to_{projection}_lora.down.weight"] = (rank, inputs)
            shapes[f"{index}.to_{projection}_lora.up.weight"] = (width, rank)
        if index % 2:
            shapes[f"{index}.to_k_ip.weight"] = shapes[f"{index}.to_v_ip.weight"] = (width, token)
    return shapes


def measure(image_proj: Shapes, ip_adapter: Shapes) -> Dimensions:
    """The dimensions that the two dictionaries agree on.

    Raises:
        CheckpointError: missing or unexpected keys, shapes that contradict each other, or sizes that stock
            diffusers would misread.
    """
    _check_keys("image_proj", image_proj, image_proj_shapes(1, 1, 1), "take the file of a complete training output")
    count = _processor_count(ip_adapter)
    _check_keys("ip_adapter", ip_adapter, ip_adapter_shapes([1] * count, 1, 1), DROPPED_ALIAS)
    matrices = [
        ("image_proj", image_proj, key)
        for key in ("proj.0.weight", "proj.2.weight", "perceiver_resampler.proj_in.weight")
    ]
    matrices += [("ip_adapter", ip_adapter, f"{index}.to_q_lora.down.weight") for index in range(count)]
    for part, shapes, key in matrices:
        if len(shapes[key]) != 2:
            raise CheckpointError(f"{part}.{key} has shape {tuple(shapes[key])}; a matrix is expected")
    token, clip = image_proj["perceiver_resampler.proj_in.weight"]
    dimensions = Dimensions(
        identity=image_proj["proj.0.weight"][1],
        clip=clip,
        token=token,
        rank=ip_adapter["0.to_q_lora.down.weight"][0],
        widths=tuple(ip_adapter[f"{index}.to_q_lora.down.weight"][1] for index in range(count)),
    )
    rows = image_proj["proj.2.weight"][0]
    if rows != TOKENS * token:
        raise CheckpointError(
            f"image_proj.proj.2.weight has {rows} rows, {rows / token:g} tokens of {token}; Face-MakeUp and stock "
            f"diffusers know {TOKENS} tokens only"
        )
    if token % HEAD_DIM:
        raise CheckpointError(
            f"tokens of width {token}: not a multiple of {HEAD_DIM}, the head size that stock diffusers assumes; "
            "it would load this file and compute something else"
        )
    if 0 in (token, clip, dimensions.identity, dimensions.rank, *dimensions.widths):
        raise CheckpointError(f"a size is 0: {dimensions}; the file is damaged")
    wrong = _mismatches("image_proj", image_proj, image_proj_shapes(dimensions.identity, clip, token))
    wrong += _mismatches("ip_adapter", ip_adapter, ip_adapter_shapes(dimensions.widths, token, dimensions.rank))
    if wrong:
        raise CheckpointError(
            f"shapes that contradict the rest of the file: {listed(wrong)}; the file mixes two models, or is damaged"
        )
    return dimensions


DROPPED_ALIAS = (
    "accelerate stores the adapter under two names and its safetensors output keeps one of them: convert the whole "
    "training output (`unet.*` included), not an extract of `adapter_modules.*`, or save with safe_serialization=False"
)


def _processor_count(ip_adapter: Shapes) -> int:
    if not ip_adapter:
        raise CheckpointError(f"ip_adapter is empty. {DROPPED_ALIAS}")
    matches = {key: ADAPTER_KEY.fullmatch(key) for key in ip_adapter}
    indices = [int(match[1]) for match in matches.values() if match]
    if not indices:
        raise CheckpointError(f"ip_adapter has no key of IP-Adapter's kind, but {listed(ip_adapter, 3)}")
    if not any("_lora." in key for key in ip_adapter):
        raise CheckpointError(
            "ip_adapter has image-prompt K and V but no LoRA (`I.to_q_lora.down.weight` ...): an IP-Adapter without "
            "LoRA, or one that was folded into its UNet; take the file from before folding"
        )
    return (max(indices) // 2 + 1) * 2


def _check_keys(part: str, found: Shapes, expected: Shapes, remedy: str) -> None:
    layers = {key.removeprefix(LAYER).partition(".")[0] for key in found if key.startswith(LAYER)}
    if part == "image_proj" and layers and layers != {str(layer) for layer in range(DEPTH)}:
        raise CheckpointError(
            f"image_proj has {len(layers)} resampler layers; stock diffusers and Face-MakeUp build {DEPTH}"
        )
    if missing := [key for key in expected if key not in found]:
        raise CheckpointError(f"{part} lacks {len(missing)} of {len(expected)} keys: {listed(missing)}. {remedy}")
    if extra := [key for key in found if key not in expected]:
        raise CheckpointError(
            f"{part} has {len(extra)} keys that do not belong there: {listed(extra)}; this is another model, and "
            "dropping them in silence would change what it draws"
        )


def _mismatches(part: str, found: Shapes, expected: Shapes) -> list[str]:
    return [
        f"{part}.{key} {tuple(found[key])} instead of {shape}"
        for key, shape in expected.items()
        if tuple(found[key]) != shape
    ]


# -- order of the attention processors -------------------------------------------------------------------------


def processor_order(names: Iterable[str]) -> dict[str, int]:
    """{`down_blocks.0.attentions.0.transformer_blocks.0.attn1`: 0, ...} from the names alone, whatever their order.

    Raises:
        CheckpointError: a name of another kind, or a gap that would shift every index after it.
    """
    parsed: dict[tuple[int, ...], str] = {}
    for name in names:
        match = ATTENTION.fullmatch(name)
        if not match:
            raise CheckpointError(f"attention {name} is not of a UNet2DConditionModel")
        block = int(match[2].lstrip(".") or 0)
        parsed[(BLOCK_ORDER.index(match[1]), block, int(match[3]), int(match[4]), int(match[5]))] = name
    for group, block, attention, layer, kind in sorted(parsed):
        before = {(group, block, attention, layer, 3 - kind)}  # its other half
        if attention:
            before.add((group, block, attention - 1, 0, 1))
        if layer:
            before.add((group, block, attention, layer - 1, 1))
        if gaps := sorted(before - parsed.keys()):
            raise CheckpointError(
                f"the file has {parsed[group, block, attention, layer, kind]} but nothing of "
                f"{_attention_name(*gaps[0])}; all indices after it would be wrong; take a complete file"
            )
    return {parsed[place]: index for index, place in enumerate(sorted(parsed))}


def _attention_name(group: int, block: int, attention: int, layer: int, kind: int) -> str:
    place = "mid_block" if BLOCK_ORDER[group] == "mid_block" else f"{BLOCK_ORDER[group]}.{block}"
    return f"{place}.attentions.{attention}.transformer_blocks.{layer}.attn{kind}"
