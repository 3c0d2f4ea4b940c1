"""IP-Adapter-FaceID, -Plus and -PlusV2 on Stable Diffusion 1.5, by stock diffusers.

The files are the authors' (h94/IP-Adapter-FaceID): `image_proj` makes four tokens of the recogniser's unit vector, in -Plus with the
CLIP features of the aligned face (224 pixels), in -PlusV2 added to the vector's own tokens; `ip_adapter` is LoRA of every attention
and K and V for the tokens. Without guidance there is no identity (zeros) and the CLIP features of an all-zero image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from common.settings import Section
from evaluation.methods.base import DrawingMethod, Twin
from evaluation.methods.faces import BUFFALO, FaceReader
from evaluation.methods.networks.adapter_files import attach, read_face_id, read_face_id_plus
from evaluation.methods.sources import MethodSources, Needed
from model.conditioning.alignment import align
from model.dtypes import torch_dtype

if TYPE_CHECKING:  # torch takes seconds to import: not before something is drawn
    import torch

SIDE = 224  # pixels of the aligned face
SCHEDULER = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
BASE = Needed("base", "CreativeML OpenRAIL-M", "SG161222/Realistic_Vision_V4.0_noVAE")
VAE = Needed("vae", "MIT", "stabilityai/sd-vae-ft-mse")
CLIP = Needed("image_encoder", "MIT", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K")


def adapter(file: str) -> Needed:
    return Needed("adapter", "non-commercial research", "h94/IP-Adapter-FaceID", file)


class IpAdapterSettings(Section):
    """The authors' wrapper's; the scale is 0.6 to 1 in what was published."""

    steps: int = Field(30, ge=1)
    guidance: float = 7.5
    ip_scale: float = Field(1.0, description="of the face tokens")
    shortcut_scale: float = Field(1.0, description="-PlusV2: of what CLIP adds to the identity")
    size: int = Field(512, description="pixels of a side", ge=8)
    negative_prompt: str = "monochrome, lowres, bad anatomy, worst quality, low quality"
    clip_channels: Literal["rgb", "bgr"] = Field(
        "rgb", description="-Plus: the authors' example hands CLIP OpenCV's bgr"
    )


@dataclass(frozen=True)
class FaceInput:
    """`identity`: (1, 512), of length 1; `features`: (1, 1 + patches, C), CLIP's penultimate hidden states; None in plain FaceID."""

    identity: torch.Tensor
    features: torch.Tensor | None


class IpAdapterFaceId(DrawingMethod):
    """`pipeline`: diffusers' StableDiffusionPipeline with the adapter in it, once loaded; `clip`: the image encoder, of -Plus."""

    name = "ip-adapter-faceid"
    title = "IP-Adapter-FaceID"
    needs = (BASE, VAE, adapter("ip-adapter-faceid_sd15.bin"), BUFFALO)
    Settings = IpAdapterSettings
    settings: IpAdapterSettings
    plus: ClassVar[bool] = False
    shortcut: ClassVar[bool] = False

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        self.reader = FaceReader(self.found["recogniser"].path, sources.weights)
        self.pipeline: Any = None
        self.clip: Any = None

    @classmethod
    def facts(cls, settings: IpAdapterSettings, sources: MethodSources) -> dict[str, Any]:
        told = {
            "base_model": cls.base_name(sources, BASE),
            "native_size": f"{settings.size} x {settings.size}",
            "scheduler": "DDIM",
        }
        return super().facts(settings, sources) | told

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"reader": self.reader.describe(), "scheduler": SCHEDULER}

    def load(self) -> None:
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
        from transformers import CLIPVisionModelWithProjection

        from model.build import image_processor

        places = {role: found.path for role, found in self.found.items()}
        dtype, device = torch_dtype(self.sources.dtype_name), self.sources.device_name
        file = places["adapter"]
        state = read_face_id_plus(file, self.shortcut) if self.plus else read_face_id(file)
        pipeline = StableDiffusionPipeline.from_pretrained(
            places["base"], vae=AutoencoderKL.from_pretrained(places["vae"], dtype=dtype), dtype=dtype,
            scheduler=DDIMScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
        attach(pipeline, state, self.settings.ip_scale)
        self.pipeline = pipeline.to(device)
        if self.plus:
            self.clip = (
                CLIPVisionModelWithProjection.from_pretrained(places["image_encoder"], dtype=dtype).eval().to(device)
            )
            self.processor = image_processor(self.clip)
            self.projection.shortcut, self.projection.shortcut_scale = self.shortcut, self.settings.shortcut_scale

    @property
    def projection(self) -> Any:
        """What makes tokens of a face, in diffusers' UNet."""
        return self.pipeline.unet.encoder_hid_proj.image_projection_layers[0]

    def prepare(self, photos: Sequence[np.ndarray]) -> FaceInput:
        import torch

        from model.conditioning.features import clip_features, clip_pixels

        rgb = photos[0]
        face = self.reader.largest(rgb)
        identity = torch.from_numpy(self.reader.unit_vector(rgb, face))[None]
        if not self.plus:
            return FaceInput(identity, None)
        view = align(rgb, face.landmarks, SIDE)  # there: the same points gave a vector
        view = view if self.settings.clip_channels == "rgb" else np.ascontiguousarray(view[..., ::-1])
        return FaceInput(identity, clip_features(self.clip, clip_pixels(self.processor, [view])))

    def embeddings(self, face: FaceInput) -> torch.Tensor:
        """The vectors that the projection takes, unconditional first where there is guidance: (1 or 2, 1, 512). Of -Plus its CLIP
        features are set beside, as diffusers has it."""
        import torch

        from model.conditioning.features import zero_image_features

        guided = self.settings.guidance > 1
        identity = face.identity[None].to(self.pipeline.device, self.pipeline.dtype)
        if face.features is not None:
            features = face.features[None].to(identity)
            nothing = zero_image_features(self.clip)[None].to(identity)
            self.projection.clip_embeds = torch.cat([nothing, features]) if guided else features
        return torch.cat([torch.zeros_like(identity), identity]) if guided else identity

    def face_tokens(self, face: FaceInput) -> torch.Tensor:
        """What the UNet's attention sees of the face: (1 or 2, 4, d), unconditional first."""
        import torch

        with torch.no_grad():
            return self.pipeline.unet.encoder_hid_proj([self.embeddings(face)])[0].flatten(0, 1)

    def draw(self, face: FaceInput, prompt: str, seed: int, output_type: str = "pil") -> Image.Image | torch.Tensor:
        """A picture; or, as `output_type` "latent", the latents (1, 4, H/8, W/8)."""
        import torch

        return self.pipeline(
            prompt,
            negative_prompt=self.settings.negative_prompt,
            ip_adapter_image_embeds=[self.embeddings(face)],
            num_inference_steps=self.settings.steps,
            guidance_scale=self.settings.guidance,
            height=self.settings.size,
            width=self.settings.size,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type=output_type,
        ).images[0 if output_type == "pil" else slice(None)]

    def close(self) -> None:
        self.pipeline = self.clip = None

    @classmethod
    def twin(cls, folder: Path) -> Twin:
        from evaluation.methods.networks import twins

        base = twins.sd15(folder / "base")
        parts = {"base": base, "vae": base / "vae", "recogniser": twins.recogniser(folder / "recogniser.onnx")}
        if cls.plus:
            parts["image_encoder"] = twins.image_encoder(folder / "image_encoder")
        parts["adapter"] = twins.face_id_adapter(folder / cls.needs[2].file, base, parts.get("image_encoder"))
        return Twin(parts, {"steps": 2, "size": twins.SIDE})


class IpAdapterFaceIdPlus(IpAdapterFaceId):
    name = "ip-adapter-faceid-plus"
    title = "IP-Adapter-FaceID-Plus"
    needs = (BASE, VAE, adapter("ip-adapter-faceid-plus_sd15.bin"), CLIP, BUFFALO)
    plus = True


class IpAdapterFaceIdPlusV2(IpAdapterFaceId):
    name = "ip-adapter-faceid-plusv2"
    title = "IP-Adapter-FaceID-PlusV2"
    needs = (BASE, VAE, adapter("ip-adapter-faceid-plusv2_sd15.bin"), CLIP, BUFFALO)
    plus = shortcut = True
