"""The model's configuration from YAML: the architecture of every part, what is trained, how a face is prepared.

`sd15` is the paper's model; `tiny` is the same code at a size for two CPU cores, with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from common.settings import Section, read_yaml, validated, yaml_file

CONFIGS = Path(__file__).parent / "configs"
HEAD_DIM = 64  # width of a resampler head; as in projector.py, which exported folders carry on its own
POSE_CHANNELS = (16, 32, 96, 256)  # of the pose encoder: diffusers' own, and the authors'


class Conditions(Section):
    """How a photo's face becomes the model's inputs. Must be the same in training and in drawing."""

    crop: Literal["clip", "pad", "shift", "whole"] = Field(
        "shift", description="the square of 1.5 face boxes near a border: cut (the authors), padded, moved; or no crop"
    )
    crop_factor: float = Field(1.5, gt=0, description="side of the square in face boxes")
    clip_view: Literal["aligned", "crop", "whole"] = Field(
        "aligned",
        description="what the CLIP image encoder sees: the aligned face (authors' training and demo), the "
        "crop, or the whole photo (authors' evaluation)",
    )
    align_size: Literal[112, 224, 512] = Field(
        512, description="template of the aligned face: 512 the authors' (shifted by 32 pixels), 224 IP-Adapter's"
    )
    legacy_pose_map: bool = Field(False, description="strokes in pixels of the source photo, as the authors drew them")
    identity_encoder: Literal["arcface", "dlib"] = "arcface"
    channel_order: Literal["rgb", "bgr"] = Field(
        "bgr", description="of the identity network's input; bgr is right for ArcFace, the authors' scripts swapped it"
    )


class Sources(Section):
    """Where pretrained parts come from: a diffusers folder or a hub name each; None where `base` has the part."""

    base: str = Field(description="folder or hub name with unet, vae, text_encoder, tokenizer, scheduler")
    vae: str | None = None
    image_encoder: str | None = None


class ModelConfig(Section):
    name: str
    resolution: int = Field(ge=8, description="side of the drawn image, pixels; a multiple of the VAE's factor")
    identity_dim: int = Field(512, ge=1)
    lora_rank: int = Field(128, ge=1)
    pose_channels: list[int] = Field(
        list(POSE_CHANNELS), min_length=4, max_length=4, description="of the ControlNet's pose encoder"
    )
    shortcut: bool = Field(True, description="add the resampler's output to the projected identity (FaceID-Plus v2)")
    conditions: Conditions = Conditions()
    unet: dict[str, Any]
    vae: dict[str, Any]
    text_encoder: dict[str, Any]
    image_encoder: dict[str, Any]
    scheduler: dict[str, Any]
    pretrained: Sources | None = Field(None, description="None: random weights, for tests and demonstrations only")

    @property
    def adapter(self) -> dict[str, Any]:
        """What is trained, as `FaceMakeUp.from_unet` and `pretrained_pipeline` take it."""
        adapter = {"identity_dim": self.identity_dim, "rank": self.lora_rank, "shortcut": self.shortcut}
        return adapter | {"pose_channels": self.pose_channels}

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        for part in ("unet", "vae"):
            if not isinstance(getattr(self, part).get("block_out_channels"), list):
                raise ValueError(f"{part}.block_out_channels: a list of channels, one a block, is needed")
        width = self.unet.get("cross_attention_dim")
        if not isinstance(width, int) or width % HEAD_DIM:
            raise ValueError(
                f"unet.cross_attention_dim {width} must be a multiple of {HEAD_DIM}, the resampler's heads"
            )
        if self.text_encoder.get("hidden_size") != width:
            raise ValueError(f"text_encoder.hidden_size must be unet.cross_attention_dim, {width}")
        factor = 2 ** (len(self.vae["block_out_channels"]) - 1)
        if factor != 8:
            raise ValueError(
                f"vae.block_out_channels: 4 blocks are needed (factor 8, the pose encoder's), not {factor}"
            )
        if self.resolution % (factor * 2 ** (len(self.unet["block_out_channels"]) - 1)):
            raise ValueError(f"resolution {self.resolution} cannot be halved by the VAE and the UNet")
        return self


def load_config(name: str | Path) -> ModelConfig:
    """The configuration `sd15` or `tiny`, or that of a YAML file.

    Raises:
        RecipeError: no such file, or a wrong field, with its name.
    """
    file = yaml_file(name, CONFIGS)
    return validated(ModelConfig, read_yaml(file), str(file))
