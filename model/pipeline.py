"""FaceMakeUpPipeline: photo and prompt in, pictures of that face out.

A diffusers pipeline on top of Stable Diffusion's (prompt, latents, decoding, offload are inherited). Exported folders
carry this file (folder.py), so of this project it imports only modules that they carry too.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers import KarrasDiffusionSchedulers
from diffusers.utils import BaseOutput
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from .conditioning.faces import Face, choose_face
from .conditioning.features import (
    FaceConditions,
    encode_conditions,
    mix_conditions,
    repeat_for_prompts,
    zero_image_features,
)
from .conditioning.folder_finder import finder_in
from .conditioning.views import Photo, face_views, upright
from .folder import carry_code
from .presets import Scales, scales_of

_LOCKS: "WeakKeyDictionary[torch.nn.Module, threading.Lock]" = WeakKeyDictionary()


@dataclass
class FaceMakeUpOutput(BaseOutput):
    """`images`: as `output_type` says; `conditions`: the faces and the pictures of them that the model was conditioned on."""

    images: Any
    conditions: FaceConditions


class FaceMakeUpPipeline(StableDiffusionPipeline):
    """Draws pictures of a person: see `__call__`.

    It finds the faces of photos with `face_finder`, a callable (uint8 RGB) -> [Face] with a method
    `embed(rgb, Face) -> Face`: the one that is set, or else that of the exported folder (conditioning/folder_finder.py).
    """

    Face = Face  # what `encode_faces` takes; a user of an exported folder has no other way to it
    model_cpu_offload_seq = "text_encoder->image_encoder->projector->unet->vae"
    _optional_components = ["safety_checker"]

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        controlnet: ControlNetModel,
        projector: ModelMixin,
        scheduler: KarrasDiffusionSchedulers,
        image_encoder: CLIPVisionModelWithProjection,
        feature_extractor: CLIPImageProcessor,
        safety_checker: Any = None,
        conditions: dict | None = None,
        requires_safety_checker: bool = False,
    ):
        super().__init__(
            vae, text_encoder, tokenizer, unet, scheduler, safety_checker, feature_extractor, image_encoder,
            requires_safety_checker,
        )  # fmt: skip
        self.register_modules(controlnet=controlnet, projector=projector)
        self.register_to_config(conditions=conditions)
        self.face_finder: Any = None

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        photo: Photo | Sequence[Photo] | None = None,
        face: FaceConditions | None = None,
        *,
        negative_prompt: str | Sequence[str] = "",
        preset: str = "realistic",
        ip_scale: float | None = None,
        controlnet_scale: float | None = None,
        guidance_scale: float | None = None,
        shortcut_scale: float | None = None,
        policy: str = "only",
        box: Sequence[float] | None = None,
        num_inference_steps: int = 50,
        num_images_per_prompt: int = 1,
        seed: int = 42,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
    ) -> FaceMakeUpOutput:
        """Draw `num_images_per_prompt` pictures for each prompt and photo (one of either serves all of the other).

        Args:
            photo: one or several; or give `face`, made by `encode_faces` (mixing, several faces, own landmarks).
            policy, box: which of several faces, as in `encode_faces`.
            preset: the scales (presets.py); each `*_scale` that is not None overrides its own.
            guidance_scale: the unconditional side has identity 0, the CLIP features of an all-zero image and
                `negative_prompt`; its pose map is the same. As in training.
            seed: of the first picture; each next one takes the next number, so a picture does not depend on its batch.
            callback_on_step_end: called as diffusers does, (pipeline, index, timestep, {"latents": ...}) -> dict.

        Raises:
            NoFaceError, SeveralFacesError: with the photo's place in the list.
            ValueError: neither or both of photo and face; an unknown preset; counts that do not go together; latents
                that are not finite.
        """
        scales = scales_of(
            preset, ip=ip_scale, controlnet=controlnet_scale, guidance=guidance_scale, shortcut=shortcut_scale
        )
        if (photo is None) == (face is None):
            raise ValueError("give either photo=..., or face=... made by encode_faces")
        if min(num_inference_steps, num_images_per_prompt) < 1:
            raise ValueError("num_inference_steps and num_images_per_prompt: give 1 or more of each")
        face = face or self.encode_faces(photo, policy=policy, box=box)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        count = max(len(prompts), len(face.faces))
        if {len(prompts), len(face.faces)} - {1, count}:
            raise ValueError(f"{len(prompts)} prompts, {len(face.faces)} faces: give as many, or one of either")
        negatives = [negative_prompt] * count if isinstance(negative_prompt, str) else list(negative_prompt)
        callback = callback_on_step_end or (lambda pipeline, index, timestep, tensors: tensors)
        options = (num_inference_steps, num_images_per_prompt, seed, output_type, callback)
        # scales and the scheduler's position are state of the modules: one drawing at a time
        with _LOCKS.setdefault(self.unet, threading.Lock()):
            try:
                images = self._draw(prompts * (count // len(prompts)), negatives, face, scales, *options)
            finally:
                self.maybe_free_model_hooks()
        return FaceMakeUpOutput(images=images, conditions=face)

    def _draw(
        self,
        prompts: list[str],
        negatives: list[str],
        face: FaceConditions,
        scales: Scales,
        steps: int,
        each: int,
        seed: int,
        output_type: str,
        callback: Callable[..., dict],
    ) -> Any:
        self._guidance_scale, self._interrupt, self._cross_attention_kwargs = scales.guidance, False, None
        self.unet.set_ip_scale(scales.ip)
        device, guided = self._execution_device, scales.guidance > 1
        text, negative_text = self.encode_prompt(prompts, device, each, guided, negatives)
        times = (len(prompts) // len(face.faces), each)
        tokens, no_face_tokens = (repeat_for_prompts(part, *times) for part in self._tokens(face, scales.shortcut))
        poses = repeat_for_prompts(face.pose_map.to(device, self.controlnet.dtype), *times)
        if guided:
            text, tokens, poses = (
                torch.cat([negative_text, text]),
                torch.cat([no_face_tokens, tokens]),
                torch.cat([poses, poses]),
            )

        self.scheduler.set_timesteps(steps, device=device)  # first: the strength of the noise may depend on it
        total = len(prompts) * each
        generator = [torch.Generator("cpu").manual_seed(seed + index) for index in range(total)]
        latents = self.prepare_latents(
            total, self.unet.config.in_channels, *poses.shape[-2:], text.dtype, device, generator
        )
        options = self.prepare_extra_step_kwargs(generator, 0.0)
        self._num_timesteps = len(self.scheduler.timesteps)
        with self.progress_bar(total=self._num_timesteps) as bar:
            for index, timestep in enumerate(self.scheduler.timesteps):
                noisy = self.scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, timestep)
                noise = self._predict(noisy, timestep, text, tokens, poses, scales.controlnet)
                if guided:
                    unconditional, conditional = noise.chunk(2)
                    noise = unconditional + scales.guidance * (conditional - unconditional)
                latents = self.scheduler.step(noise, timestep, latents, **options, return_dict=False)[0]
                latents = callback(self, index, timestep, {"latents": latents}).get("latents", latents)
                bar.update()
                if self._interrupt:
                    break
        if not torch.isfinite(latents).all():
            raise ValueError(
                f"the drawing is not finite after {self._num_timesteps} steps: take smaller scales, or another number format "
                "(bf16 or fp32)"
            )
        return latents if output_type == "latent" else self._decoded(latents, output_type)

    def encode_faces(
        self,
        photos: Photo | Sequence[Photo],
        faces: Sequence[Face] | None = None,
        *,
        policy: str = "only",
        box: Sequence[float] | None = None,
        mix_with: Photo | None = None,
        alpha: float = 0.5,
        renormalise: bool = False,
    ) -> FaceConditions:
        """Photos -> the model's inputs for one face of each.

        Args:
            faces: one a photo, with identity; None: `face_finder` finds and embeds them.
            policy: which of several faces: only (refuses several), largest, highest_score, match_box (with `box`).
            mix_with: a second photo whose identity and CLIP features are mixed in by `alpha`; the pose is the first's.
        """
        pictures = [upright(photo) for photo in (photos if isinstance(photos, list | tuple) else [photos])]
        if faces is None:
            places = [f"photo {i + 1}" for i in range(len(pictures))] if len(pictures) > 1 else ["the photo"]
            faces = [self._find_face(rgb, policy, box, place) for rgb, place in zip(pictures, places, strict=True)]
        size = self.unet.config.sample_size * self.vae_scale_factor
        views = [
            face_views(rgb, self._checked(face), self.config.conditions, size)
            for rgb, face in zip(pictures, faces, strict=True)
        ]
        conditions = encode_conditions(self.image_encoder, self.feature_extractor, faces, views)
        if mix_with is None:
            return conditions
        others = "only" if policy == "match_box" else policy  # the box is the first photo's
        second = self._find_face(upright(mix_with), others, None, "the photo to mix in")
        return mix_conditions(conditions, self.encode_faces(mix_with, [second]), alpha, renormalise)

    def _find_face(self, rgb: np.ndarray, policy: str, box: Sequence[float] | None, where: str) -> Face:
        self.face_finder = self.face_finder or finder_in(self.name_or_path)
        if self.face_finder is None:
            raise ValueError(
                f"{where}: its face cannot be found: set pipeline.face_finder, or give encode_faces the faces"
            )
        face = choose_face(self.face_finder(rgb), policy, box, where)
        return face if face.identity is not None else self.face_finder.embed(rgb, face)

    def _checked(self, face: Face) -> Face:
        expected = self.projector.config.identity_dim
        if face.identity is None or len(face.identity) != expected:
            has = "none" if face.identity is None else len(face.identity)
            raise ValueError(
                f"identity: this model takes {expected} numbers, the face has {has}; use the right encoder"
            )
        return face

    def _tokens(self, face: FaceConditions, shortcut_scale: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Face tokens, conditional and unconditional, each (B, 4, d); computed once a drawing."""
        device, dtype = self._execution_device, self.projector.dtype
        identity, features = face.identity.to(device, dtype), face.clip_features.to(device, dtype)
        no_features = zero_image_features(self.image_encoder).to(device, dtype).expand_as(features)
        tokens = self.projector(
            torch.cat([identity, torch.zeros_like(identity)]), torch.cat([features, no_features]), shortcut_scale
        )
        return tokens.chunk(2)

    def _predict(self, noisy, timestep, text, tokens, poses, controlnet_scale) -> torch.Tensor:
        down, mid = None, None
        if controlnet_scale:
            down, mid = self.controlnet(
                noisy, timestep, tokens, poses, conditioning_scale=controlnet_scale, return_dict=False
            )
        return self.unet(
            noisy, timestep, (text, [tokens]), down_block_additional_residuals=down, mid_block_additional_residual=mid
        ).sample

    def _decoded(self, latents: torch.Tensor, output_type: str) -> Any:
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        pixels, unsafe = self.run_safety_checker(pixels, self._execution_device, latents.dtype)
        clear = [not flagged for flagged in unsafe] if unsafe else [True] * len(pixels)
        return self.image_processor.postprocess(pixels.detach(), output_type=output_type, do_denormalize=clear)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write a folder that loads where this project is not installed: with its own code (see folder.py)."""
        super().save_pretrained(folder, **options)
        carry_code(self, Path(folder))
