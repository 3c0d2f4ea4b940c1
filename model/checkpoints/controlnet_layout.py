"""The ControlNet's side of a checkpoint: its configuration out of its shapes, and a strict check against diffusers'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoints.layouts import CheckpointError, Dimensions, Shapes, listed

if TYPE_CHECKING:
    import torch

# options that leave no trace in a shape; with another value the same tensors compute something else
NOT_IN_SHAPES = (
    "attention_head_dim",
    "num_attention_heads",
    "norm_num_groups",
    "norm_eps",
    "act_fn",
    "flip_sin_to_cos",
    "freq_shift",
    "downsample_padding",
    "mid_block_scale_factor",
    "upcast_attention",
    "resnet_time_scale_shift",
)
SD15 = {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}


def config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """The `ControlNetModel` options that follow from the shapes; those in `NOT_IN_SHAPES` are left to the caller.

    Raises:
        CheckpointError: tensors that are needed for it are missing.
    """
    try:
        return _config_from_shapes(shapes)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"controlnet is not a whole diffusers ControlNet: {error} is not as expected; {len(shapes)} keys are "
            f"there: {listed(shapes, 3)}"
        ) from error


def _config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    blocks = _count(shapes, "down_blocks.")
    attended = [f"down_blocks.{block}.attentions.0.norm.weight" in shapes for block in range(blocks)]
    first = f"down_blocks.{attended.index(True)}.attentions.0"
    embedding = "controlnet_cond_embedding"
    widths = [shapes[f"{embedding}.conv_in.weight"][0]]
    widths += [shapes[f"{embedding}.blocks.{n}.weight"][0] for n in range(1, _count(shapes, f"{embedding}.blocks."), 2)]
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "conditioning_channels": shapes[f"{embedding}.conv_in.weight"][1],
        "conditioning_embedding_out_channels": tuple(widths),
        "block_out_channels": tuple(shapes[f"down_blocks.{n}.resnets.0.conv1.weight"][0] for n in range(blocks)),
        "layers_per_block": _count(shapes, "down_blocks.0.resnets."),
        "down_block_types": tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attended),
        "transformer_layers_per_block": _count(shapes, f"{first}.transformer_blocks."),
        "cross_attention_dim": shapes[f"{first}.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[f"{first}.proj_in.weight"]) == 2,
    }


def _count(shapes: Shapes, prefix: str) -> int:
    return len({key.removeprefix(prefix).partition(".")[0] for key in shapes if key.startswith(prefix)})


def full_config(
    shapes: Shapes, stored: Mapping[str, Any] | None = None, unet: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A complete `ControlNetModel` configuration: shapes first, the rest from `stored` (the ControlNet's own
    config), else from the base `unet`'s config (ControlNetModel.from_unet copies them), else Stable Diffusion 1.5's.

    Raises:
        CheckpointError: the shapes are not Stable Diffusion 1.5's and the number of heads is unknown.
    """
    config = config_from_shapes(shapes)
    source = stored or unet
    if source:
        return config | {option: source[option] for option in NOT_IN_SHAPES if option in source}
    if any(config[option] != value for option, value in SD15.items()):
        raise CheckpointError(
            "the ControlNet's number of attention heads is in no tensor, and its sizes "
            f"{config['block_out_channels']} are not Stable Diffusion 1.5's; remedy: name the base model's folder (--base)"
        )
    return config | {"attention_head_dim": 8}


def check(shapes: Shapes, dimensions: Dimensions | None) -> None:
    """The keys and shapes are those of diffusers' ControlNetModel, and fit the adapter's.

    Raises:
        CheckpointError: what is missing, too much or of another shape.
    """
    import torch
    from diffusers import ControlNetModel

    config = config_from_shapes(shapes)
    try:
        with torch.device("meta"):
            # shapes do not depend on heads and groups; these divide whatever is there
            model = ControlNetModel(**config, attention_head_dim=1, norm_num_groups=1)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(f"controlnet: diffusers cannot build a ControlNet of these shapes: {error}") from error
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if missing := [key for key in expected if key not in shapes]:
        raise CheckpointError(
            f"controlnet lacks {len(missing)} of {len(expected)} keys: {listed(missing)}; the file is incomplete"
        )
    if extra := [key for key in shapes if key not in expected]:
        raise CheckpointError(f"controlnet has {len(extra)} keys that no such ControlNet has: {listed(extra)}")
    if wrong := [f"{k} {tuple(shapes[k])} instead of {s}" for k, s in expected.items() if tuple(shapes[k]) != s]:
        raise CheckpointError(f"controlnet has shapes that contradict each other: {listed(wrong)}")
    if dimensions and config["cross_attention_dim"] != dimensions.token:
        raise CheckpointError(
            f"the ControlNet attends to tokens of width {config['cross_attention_dim']}, the projector makes "
            f"{dimensions.token}: they are not of one model"
        )
    widths = [
        shapes[key][0]
        for key in expected
        if key.startswith("down_blocks.") and ".attn" in key and key.endswith("to_q.weight")
    ]
    if dimensions and dimensions.widths[: len(widths)] != tuple(widths):
        raise CheckpointError(
            f"the ControlNet's attentions have widths {widths}, the adapter's first {len(widths)} have "
            f"{list(dimensions.widths[: len(widths)])}: they are not of one model"
        )


def save(tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], folder: Path) -> None:
    """Write a diffusers ControlNet folder; each tensor keeps its dtype."""
    import torch
    from diffusers import ControlNetModel

    with torch.device("meta"):
        model = ControlNetModel.from_config(dict(config))
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    model.save_pretrained(folder)
