"""InstantID on SDXL: the stock ControlNet pipeline, the stock loader of IP-Adapter-Plus, a ControlNet that attends to the face.

The files are the authors' (InstantX/InstantID): ip-adapter.bin has a resampler, `image_proj`, that makes 16 tokens of the
recogniser's vector (not of length 1), and K and V for them, `ip_adapter`; ControlNetModel/ sees the five points as a stick drawing.
Without guidance the vector is zero, and goes through the resampler too. The picture has the reference's shape, its longer side 1280.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import Field

from common.settings import Section
from evaluation.methods.base import DrawingMethod, Twin
from evaluation.methods.faces import ANTELOPE, FaceReader
from evaluation.methods.networks.adapter_files import attach, read_instant_id
from evaluation.methods.sources import MethodSources, Needed
from model.conditioning.pose_map import stick_drawing
from model.dtypes import torch_dtype

if TYPE_CHECKING:  # torch takes seconds to import: not before something is drawn
    import torch

BASE = Needed(
    "base", "CreativeML Open RAIL++-M", "stabilityai/stable-diffusion-xl-base-1.0",
    fetch="`hf download stabilityai/stable-diffusion-xl-base-1.0 --include '*.json' '*.txt' '*model.safetensors'`",
)  # fmt: skip
ADAPTER = Needed("adapter", "Apache-2.0", "InstantX/InstantID", "ip-adapter.bin")
CONTROLNET = Needed(
    "controlnet", "Apache-2.0", "InstantX/InstantID", "ControlNetModel",
    fetch="`hf download InstantX/InstantID --include 'ControlNetModel/*'`",
)  # fmt: skip
NEGATIVE = (
    "(lowres, low quality, worst quality:1.2), (text:1.2), watermark, painting, drawing, illustration, glitch, deformed, "
    "mutated, cross-eyed, ugly, disfigured"
)
SHORTER = 1024  # pixels: the authors' first step towards the size, kept for its rounding


class InstantIdSettings(Section):
    """Of the authors' infer.py. Their infer_full.py adds a depth map of another photo, which is another question."""

    steps: int = Field(30, ge=1)
    guidance: float = 5.0
    ip_scale: float = Field(0.8, description="of the face tokens in the UNet")
    controlnet_scale: float = Field(0.8, description="of the ControlNet")
    longest: int = Field(1280, ge=64, description="pixels of the longer side")
    multiple: int = Field(64, ge=8, description="of which both sides are")
    negative_prompt: str = f"{NEGATIVE} {NEGATIVE}"  # twice in infer.py; the text encoders see its first 77 tokens


@dataclass(frozen=True)
class FaceInput:
    """`vector`: (1, 512), as the recogniser gives it; `pose`: the stick drawing, as large as the picture will be."""

    vector: torch.Tensor
    pose: Image.Image


class InstantId(DrawingMethod):
    """`pipeline`: diffusers' StableDiffusionXLControlNetPipeline with the adapter in its UNet, once loaded."""

    name = "instantid"
    title = "InstantID"
    needs = (BASE, ADAPTER, CONTROLNET, ANTELOPE)
    Settings = InstantIdSettings
    settings: InstantIdSettings

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        self.reader = FaceReader(self.found["recogniser"].path, sources.weights)
        self.pipeline: Any = None

    @classmethod
    def facts(cls, settings: InstantIdSettings, sources: MethodSources) -> dict[str, Any]:
        size = f"{settings.longest} on the longer side, of the reference's shape"
        told = {"base_model": cls.base_name(sources, BASE), "native_size": size, "scheduler": "the base's own"}
        return super().facts(settings, sources) | told

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"reader": self.reader.describe()}

    def load(self) -> None:
        from diffusers import StableDiffusionXLControlNetPipeline

        from evaluation.methods.networks.face_token_controlnet import FaceTokenControlNet

        places = {role: found.path for role, found in self.found.items()}
        dtype = torch_dtype(self.sources.dtype_name)
        state = read_instant_id(places["adapter"])
        pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
            places["base"], controlnet=FaceTokenControlNet.from_pretrained(places["controlnet"], dtype=dtype),
            dtype=dtype, add_watermarker=False,
        )  # fmt: skip
        attach(pipeline, state, self.settings.ip_scale)
        self.pipeline = pipeline.to(self.sources.device_name)

    def prepare(self, photos: Sequence[np.ndarray]) -> FaceInput:
        import torch

        canvas = resized(photos[0], self.settings.longest, self.settings.multiple)
        face = self.reader.largest(canvas)
        vector = torch.from_numpy(self.reader.vector(canvas, face))[None]
        height, width = canvas.shape[:2]
        return FaceInput(vector, Image.fromarray(stick_drawing(face.landmarks, width, height)))

    def embeddings(self, face: FaceInput) -> torch.Tensor:
        """The vectors that the resampler takes, unconditional first where there is guidance: (1 or 2, 1, 1, 512)."""
        import torch

        vector = face.vector[None, None].to(self.pipeline.device, self.pipeline.dtype)
        return torch.cat([torch.zeros_like(vector), vector]) if self.settings.guidance > 1 else vector

    def face_tokens(self, face: FaceInput) -> torch.Tensor:
        """What the UNet's attention and the ControlNet see of the face: (1 or 2, 16, d), unconditional first."""
        import torch

        with torch.no_grad():
            return self.pipeline.unet.encoder_hid_proj([self.embeddings(face)])[0].flatten(0, 1)

    def draw(self, face: FaceInput, prompt: str, seed: int, output_type: str = "pil") -> Image.Image | torch.Tensor:
        """A picture; or, as `output_type` "latent", the latents (1, 4, H/8, W/8)."""
        import torch

        self.pipeline.controlnet.face_tokens = self.face_tokens(face)
        return self.pipeline(
            prompt,
            negative_prompt=self.settings.negative_prompt,
            image=face.pose,
            ip_adapter_image_embeds=[self.embeddings(face)],
            controlnet_conditioning_scale=self.settings.controlnet_scale,
            num_inference_steps=self.settings.steps,
            guidance_scale=self.settings.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type=output_type,
        ).images[0 if output_type == "pil" else slice(None)]

    def close(self) -> None:
        self.pipeline = None

    @classmethod
    def twin(cls, folder: Path) -> Twin:
        from evaluation.methods.networks import twins

        base = twins.sdxl(folder / "base")
        parts = {
            "base": base,
            "adapter": twins.instant_id_adapter(folder / "ip-adapter.bin", base),
            "controlnet": twins.controlnet(folder / "ControlNetModel", base),
            "recogniser": twins.recogniser(folder / "recogniser.onnx"),
        }
        return Twin(parts, {"steps": 2, "longest": 256})


def resized(rgb: np.ndarray, longest: int, multiple: int) -> np.ndarray:
    """The photo with its longer side `longest`, both cut down to a multiple: resized twice, bilinear, as the authors do."""
    height, width = rgb.shape[:2]
    first = SHORTER / min(width, height)
    width, height = round(first * width), round(first * height)
    second = longest / max(width, height)
    size = round(second * width), round(second * height)
    whole = [max(side // multiple, 1) * multiple for side in size]
    photo = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(photo.resize(whole, Image.Resampling.BILINEAR))
