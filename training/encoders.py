"""The frozen encoders: micro-batch -> what the model is trained on. Outside the engine, without gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from model.conditioning.features import clip_features, zero_image_features
from training.data.micro_batch import MicroBatch, to_device


@dataclass
class Inputs:
    """Arguments of `FaceMakeUp.forward` (all in the model's dtype), and what the loss is made of in fp32: the target's
    ingredients, and `valid` (B,), 0 for a slot without a sound sample."""

    noisy_latents: torch.Tensor
    timesteps: torch.Tensor
    text: torch.Tensor
    identity: torch.Tensor
    clip_features: torch.Tensor
    pose_map: torch.Tensor
    latents: torch.Tensor
    noise: torch.Tensor
    valid: torch.Tensor

    def arguments(self) -> tuple[torch.Tensor, ...]:
        return self.noisy_latents, self.timesteps, self.text, self.identity, self.clip_features, self.pose_map


class Encoders:
    """VAE, text and image encoder on one device in one dtype."""

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        image_encoder: CLIPVisionModelWithProjection,
        tokenizer: CLIPTokenizer,
        scheduler: DDPMScheduler,
        device: torch.device,
        dtype: torch.dtype,
        noise_offset: float = 0.0,
    ):
        parts = (vae, text_encoder, image_encoder)
        for part in parts:
            part.requires_grad_(False).eval()
            if part.dtype != dtype or part.device != device:
                part.to(device, dtype)
        self.vae, self.text_encoder, self.image_encoder = parts
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(device)  # diffusers would copy it with every step
        self.scheduler, self.device, self.dtype, self.noise_offset = scheduler, device, dtype, noise_offset
        empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
        self._no_text = self._states(empty.input_ids)

    @torch.no_grad()
    def __call__(self, batch: MicroBatch) -> Inputs:
        """Encode, replace dropped conditions by unconditional ones, add the noise.

        Which rows are kept is read from the masks on the host: asked of the device, it would have to be waited for.
        """
        texts, clips = (kept_rows(mask, self.device) for mask in (batch.keep_text, batch.keep_clip))
        batch = batch.to(self.device)
        if batch.moments is None:
            latents = self.latents(batch.image, batch.vae_noise)
        else:
            latents = self._sampled(batch.moments.float(), batch.vae_noise)
        noise = batch.noise + self.noise_offset * batch.offset
        noisy = self.scheduler.add_noise(latents, noise, batch.timestep)
        text = self._no_text.repeat(len(batch.ids), 1, 1)
        if len(texts):
            text[texts] = self._states(batch.input_ids[texts])
        clip_inputs = batch.clip_pixels if batch.clip_states is None else batch.clip_states
        features = self._features(clip_inputs, clips)
        return Inputs(
            noisy_latents=noisy.to(self.dtype),
            timesteps=batch.timestep,
            text=text,
            identity=(batch.identity * batch.keep_identity[:, None]).to(self.dtype),
            clip_features=features,
            pose_map=(batch.pose_map * batch.keep_pose[:, None, None, None]).to(self.dtype),
            latents=latents,
            noise=noise,
            valid=batch.valid,
        )

    @torch.no_grad()
    def latents(self, image: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in -1..1 and standard normal (B, 4, H/8, W/8) -> a sample of the latents, fp32."""
        return self._sampled(vae_moments(self.vae, image), sampled)

    def _sampled(self, moments: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
        mean, std = moments.chunk(2, dim=1)
        return (mean + std * sampled) * self.vae.config.scaling_factor

    def _states(self, input_ids: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.text_encoder(input_ids.to(self.device))[0]

    def _features(self, inputs: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """CLIP features (B, 1 + patches, C). Only kept ones go through the encoder: the zero image's are a constant.

        `inputs`: pixels (B, 3, S, S), or features (B, 1 + patches, C) that were computed before; `keep`: rows.
        """
        features = zero_image_features(self.image_encoder).repeat(len(inputs), 1, 1)
        if len(keep):
            kept = inputs[keep]
            features[keep] = kept.to(self.dtype) if inputs.ndim == 3 else clip_features(self.image_encoder, kept)
        return features


def kept_rows(mask: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(B,) of 0 and 1, on the host -> the numbers of the rows of 1, on the device."""
    return to_device(mask.nonzero().flatten(), device)


@torch.no_grad()
def vae_moments(vae: AutoencoderKL, image: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) in -1..1 -> fp32 (B, 2 C, H/8, W/8): means and standard deviations of the latents."""
    posterior = vae.encode(image.to(vae.device, vae.dtype)).latent_dist
    return torch.cat([posterior.mean, posterior.std], dim=1).float()
