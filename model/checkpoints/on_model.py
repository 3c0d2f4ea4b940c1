"""Between a checkpoint and the model: its weights into a model, a model's weights as a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from model.build import pretrained_pipeline, trained_parts
from model.checkpoints.controlnet_layout import config_from_shapes
from model.checkpoints.layouts import CheckpointError, Dimensions
from model.checkpoints.state import Checkpoint, shapes_of
from model.config import Conditions
from model.face_unet import FaceUNet
from model.facemakeup import FaceMakeUp
from model.pipeline import FaceMakeUpPipeline


def checkpoint_of(model: FaceMakeUp, **metadata: str) -> Checkpoint:
    """What is trained, under the authors' names; the tensors are the model's own, not copies."""
    shortcut = str(model.projector.config.shortcut).lower()
    return Checkpoint(
        model.projector.image_proj_state(),
        model.unet.ip_adapter_state(),
        {key: value.detach() for key, value in model.controlnet.state_dict().items()},
        {"shortcut": shortcut, **metadata},
    )


def load_into(model: FaceMakeUp, checkpoint: Checkpoint, assign: bool = False) -> None:
    """Take a checkpoint's weights; without a ControlNet in it, the model's stays. `assign`: and their dtypes.

    Raises:
        ValueError, RuntimeError: keys or shapes differ, with their names.
    """
    model.projector.load_image_proj_state(checkpoint.image_proj, assign)
    model.projector.register_to_config(shortcut=checkpoint.shortcut)
    model.projector.resampler.shortcut = checkpoint.shortcut
    model.unet.load_ip_adapter_state(checkpoint.ip_adapter, assign)
    if checkpoint.controlnet is not None:
        model.controlnet.load_state_dict(checkpoint.controlnet, strict=True, assign=assign)


def require_fit(dimensions: Dimensions, config: Mapping[str, Any]) -> None:
    """Check a checkpoint against a base model's `unet/config.json`.

    Raises:
        CheckpointError: diffusers builds no UNet of it, or the checkpoint was trained for another one.
    """
    try:
        with torch.device("meta"):
            unet = FaceUNet.from_config(config)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise CheckpointError(f"diffusers cannot build the base's UNet from its config.json: {error}") from error
    widths = tuple(attention.to_q.in_features for _, attention in unet.attentions())
    if (dimensions.token, dimensions.widths) == (config["cross_attention_dim"], widths):
        return
    sdxl = " (the size of SDXL)" if dimensions.token == 2048 else ""
    raise CheckpointError(
        f"the checkpoint is for a UNet with cross_attention_dim {dimensions.token}{sdxl} and {len(dimensions.widths)} "
        f"attentions of widths {sorted(set(dimensions.widths))}, the base has {config['cross_attention_dim']} and "
        f"{len(widths)} of {sorted(set(widths))}; take the base model that it was trained for"
    )


def pipeline_with_checkpoint(
    checkpoint: Checkpoint | None,
    base: str | Path,
    image_encoder: str | Path | None = None,
    vae: str | Path | None = None,
    *,
    conditions: Conditions,
    dtype: torch.dtype = torch.float32,
    keep_dtypes: bool = False,
    **adapter: Any,
) -> FaceMakeUpPipeline:
    """`build.pretrained_pipeline` with the checkpoint's adapter on it.

    Args:
        checkpoint: None for an untrained adapter.
        keep_dtypes: each tensor of the checkpoint keeps its own dtype: for writing it elsewhere. The authors' has two,
            and a model of two dtypes cannot draw.
        adapter: `shortcut`, and what the checkpoint does not say by its shapes: `identity_dim`, `rank`, `pose_channels`.

    Raises:
        OSError: a part is not there; the message is diffusers' or transformers'.
        ValueError: the checkpoint does not fit the base, with the keys; or there is no image encoder.
    """
    if checkpoint is None:
        return pretrained_pipeline(base, image_encoder, vae, conditions=conditions, dtype=dtype, **adapter)
    dimensions = checkpoint.dimensions()
    adapter |= {"identity_dim": dimensions.identity, "rank": dimensions.rank}
    if checkpoint.controlnet is not None:
        controlnet = config_from_shapes(shapes_of(checkpoint.controlnet))
        adapter["pose_channels"] = controlnet["conditioning_embedding_out_channels"]
    pipeline = pretrained_pipeline(base, image_encoder, vae, conditions=conditions, dtype=dtype, **adapter)
    load_into(trained_parts(pipeline), checkpoint, assign=keep_dtypes)
    return pipeline
