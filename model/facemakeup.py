"""Face-MakeUp: the trainable parts as one module around the frozen UNet of Stable Diffusion 1.5.

    identity, CLIP features --projector--> four face tokens --+--> ControlNet (sees the pose map, not the text)
                                                              +--> UNet: image attention beside the text attention

The arrangement is that of the paper (arXiv 2501.02523) and of InstantID's IdentityNet; every part is diffusers' or
peft's. Encoders (VAE, text, CLIP, identity) are not in this module: they are frozen and stay outside the training engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from diffusers import ControlNetModel
from torch import nn

from model.config import POSE_CHANNELS
from model.face_unet import FaceUNet
from model.projector import FaceProjector


class FaceMakeUp(nn.Module):
    """The UNet with its face adapter, the ControlNet and the projector.

    `unet` must be adapted (`FaceUNet.attach`). Its own weights are frozen here; everything else is trainable.
    """

    def __init__(self, unet: FaceUNet, controlnet: ControlNetModel, projector: FaceProjector):
        super().__init__()
        if not unet.adapted:
            raise ValueError("the UNet has no face adapter: call unet.attach(rank) first")
        self.unet, self.controlnet, self.projector = unet, controlnet, projector
        self.requires_grad_(False)
        for _, parameter in self.trainable():
            parameter.requires_grad_(True)

    @classmethod
    def from_unet(
        cls,
        unet: FaceUNet,
        identity_dim: int,
        clip_dim: int,
        rank: int,
        shortcut: bool = True,
        pose_channels: Sequence[int] = POSE_CHANNELS,
    ) -> FaceMakeUp:
        """Untrained parts around a stock `unet`. The ControlNet starts as its copy with zero outputs, and with the
        pose encoder of `init_pose_encoder`.

        `identity_dim`: length of the identity vector; `clip_dim`: width of the CLIP hidden states; `rank`: of the LoRA;
        `shortcut`: see `FaceProjector`; `pose_channels`: of the pose encoder's four sizes.
        """
        # before the adapter, whose keys it could not load
        controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=tuple(pose_channels))
        init_pose_encoder(controlnet)
        unet.attach(rank)
        projector = FaceProjector(identity_dim, clip_dim, unet.config.cross_attention_dim, shortcut)
        for part in (controlnet, projector):
            if part.dtype != unet.dtype:
                part.to(unet.dtype)
        return cls(unet, controlnet, projector)

    def forward(
        self,
        noisy_latents: torch.Tensor,
        timesteps: torch.Tensor,
        text: torch.Tensor,
        identity: torch.Tensor,
        clip_features: torch.Tensor,
        pose_map: torch.Tensor,
    ) -> torch.Tensor:
        """The prediction of one training step; all scales are 1.

        Args:
            noisy_latents: (B, 4, H/8, W/8).
            timesteps: (B,).
            text: hidden states of the text encoder, (B, 77, d).
            identity: (B, D).
            clip_features: (B, S, C), the penultimate hidden states of the image encoder.
            pose_map: (B, 3, H, W) in 0..1.

        Returns:
            (B, 4, H/8, W/8): the noise, or the velocity, as the scheduler's `prediction_type` says.
        """
        tokens = self.projector(identity, clip_features)
        down, mid = self.controlnet(
            noisy_latents, timesteps, encoder_hidden_states=tokens, controlnet_cond=pose_map, return_dict=False
        )
        return self.unet(
            noisy_latents,
            timesteps,
            encoder_hidden_states=(text, [tokens]),
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """(name, parameter) of each trainable parameter, named as in this module."""
        adapter = {id(parameter) for parameter in self.unet.adapter_parameters()}
        for name, parameter in self.named_parameters():
            if not name.startswith("unet.") or id(parameter) in adapter:
                yield name, parameter


SILU_GAIN = 1.676  # of a layer after SiLU: E[silu(x)^2] = 0.356 for a standard normal x


def init_pose_encoder(controlnet: ControlNetModel) -> None:
    """Start the pose encoder's convolutions as He et al. do (arXiv 1502.01852), for SiLU; the last one stays zero.

    torch's default shrinks the signal in every layer: of 64 different poses the encoder's last layer was given features
    whose standard deviation over poses was 5e-6, and 2e-2 with this (tests/training/test_conditions_learnt.py). The
    biases drown the first, and for hundreds of steps the ControlNet learns to denoise and sees no pose.
    """
    encoder = controlnet.controlnet_cond_embedding
    for convolution in (encoder.conv_in, *encoder.blocks):
        fan_in = convolution.weight[0].numel()
        nn.init.normal_(convolution.weight, 0.0, SILU_GAIN / fan_in**0.5)
        nn.init.zeros_(convolution.bias)
