"""PhotoMaker on Stable Diffusion XL, by diffusers' stock pipeline: version 1 and version 2, in one process with everything else.

The first steps, 0 to `start_merge_step`, know the prompt alone; from the next on the class noun's embeddings are those that were
fused with the face, and the pooled embedding is of the prompt with the noun repeated. The LoRA is in the UNet from the first step on.
Nothing of the authors' code is here: what the files hold stands in encoder.py, and was read from the paper and their model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from common.settings import Section
from evaluation.methods.base import DrawingMethod, Twin
from evaluation.methods.faces import BUFFALO, FaceReader
from evaluation.methods.photomaker.prompt import halves, repeated
from evaluation.methods.sources import MethodSources, Needed
from model.conditioning.faces import choose_face
from model.dtypes import torch_dtype

if TYPE_CHECKING:  # torch takes seconds to import: not before something is drawn
    import torch

BASE = Needed("base", "CreativeML OpenRAIL++-M", "SG161222/RealVisXL_V4.0")
NOUNS = ("person", "man", "woman", "boy", "girl", "child")
NEGATIVE = "(asymmetry, worst quality, low quality, illustration, 3d, 2d, painting, cartoons, sketch), open mouth"


class PhotoMakerSettings(Section):
    """As the authors' scripts and demos have it."""

    steps: int = Field(50, ge=1)
    start_merge_step: int = Field(10, description="the last step that knows nothing of the face", ge=0)
    guidance: float = Field(5.0, description="above 1", gt=1)
    size: int = Field(1024, description="pixels of a side", ge=8)
    trigger: str = Field(
        "img", description="stands in a prompt after its class noun; it is put there where it does not"
    )
    class_nouns: tuple[str, ...] = Field(
        NOUNS, description="the first of these in a prompt is its class noun", min_length=1
    )
    negative_prompt: str = NEGATIVE + ", grayscale"

    @model_validator(mode="after")
    def _merges(self) -> PhotoMakerSettings:
        if self.start_merge_step + 1 >= self.steps:
            raise ValueError(
                f"start_merge_step {self.start_merge_step} of {self.steps} steps: no step would see the face"
            )
        return self


@dataclass(frozen=True)
class Embeddings:
    """Of a prompt: (1, 77, W) each, and pooled (1, P). `text_only`: of the first steps; `merged`: of the others."""

    text_only: torch.Tensor
    merged: torch.Tensor
    negative: torch.Tensor
    pooled_text_only: torch.Tensor
    pooled_merged: torch.Tensor
    pooled_negative: torch.Tensor


class PhotoMaker(DrawingMethod):
    """`pipeline`: diffusers' StableDiffusionXLPipeline with the LoRA in its UNet, `encoder`: the ID encoder, once loaded."""

    name = "photomaker"
    title = "PhotoMaker"
    version = 2  # 1 cut the end token off every long prompt
    needs = (BASE, Needed("adapter", "Apache-2.0", "TencentARC/PhotoMaker", "photomaker-v1.bin"))
    Settings = PhotoMakerSettings
    settings: PhotoMakerSettings
    file_version: ClassVar[int] = 1

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        self.pipeline: Any = None
        self.encoder: Any = None

    @classmethod
    def facts(cls, settings: PhotoMakerSettings, sources: MethodSources) -> dict[str, Any]:
        told = {
            "base_model": cls.base_name(sources, BASE),
            "native_size": f"{settings.size} x {settings.size}",
            "scheduler": "Euler",
        }
        return super().facts(settings, sources) | told

    def load(self) -> None:
        from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

        from evaluation.methods.photomaker.file import check_lora, read_photomaker

        file, dtype = self.found["adapter"].path, torch_dtype(self.sources.dtype_name)
        read = read_photomaker(file, self.file_version)
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            self.found["base"].path, torch_dtype=dtype, add_watermarker=False
        )
        check_lora(file, read.lora, pipeline.unet)
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
        pipeline.unet.load_lora_adapter(read.lora, prefix="unet", adapter_name="photomaker")
        pipeline.unet.fuse_lora()
        pipeline.unet.unload_lora()  # its numbers are in the weights now
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline.to(self.sources.device_name)
        self.encoder = read.encoder.to(self.sources.device_name, dtype)

    def prepare(self, photos: Sequence[np.ndarray]) -> torch.Tensor:
        """Tokens of the face (photos, W), before they are fused with a prompt."""
        import torch

        with torch.no_grad():
            return self.encoder(self.pixels(photos))

    def pixels(self, photos: Sequence[np.ndarray]) -> torch.Tensor:
        """What CLIP sees of the whole photos, (N, 3, H, W): the face is not cut out."""
        from transformers import CLIPImageProcessor

        side = self.encoder.clip.config.image_size
        processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        pixels = processor(images=[Image.fromarray(photo) for photo in photos], return_tensors="pt").pixel_values
        return pixels.to(self.sources.device_name, self.encoder.clip.dtype)

    def embeddings(self, face: torch.Tensor, prompt: str) -> Embeddings:
        """What the UNet is told.

        Raises:
            ValueError: the prompt has no class noun, or a second trigger word.
        """
        import torch

        words = halves(prompt, self.settings.trigger, self.settings.class_nouns)
        pipeline = self.pipeline
        with torch.no_grad():
            hidden = []
            for tokenizer, encoder in (
                (pipeline.tokenizer, pipeline.text_encoder),
                (pipeline.tokenizer_2, pipeline.text_encoder_2),
            ):
                tokens = repeated(tokenizer, words, len(face))
                told = encoder(torch.tensor([tokens.ids], device=encoder.device), output_hidden_states=True)
                hidden.append(told.hidden_states[-2])
            merged = self.encoder.merged(torch.cat(hidden, dim=-1), tokens.first, face)
            text_only, negative, pooled, pooled_negative = pipeline.encode_prompt(
                words.text_only, negative_prompt=self.settings.negative_prompt, do_classifier_free_guidance=True
            )
        return Embeddings(text_only, merged, negative, pooled, told.text_embeds, pooled_negative)

    def draw(self, face: torch.Tensor, prompt: str, seed: int, output_type: str = "pil") -> Image.Image | torch.Tensor:
        """A picture; or, as `output_type` "latent", the latents (1, 4, H/8, W/8)."""
        import torch

        told = self.embeddings(face, prompt)
        from_now_on = {
            "prompt_embeds": torch.cat([told.negative, told.merged]),
            "add_text_embeds": torch.cat([told.pooled_negative, told.pooled_merged]),
        }

        def merge(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            return dict(from_now_on) if step == self.settings.start_merge_step else {}

        return self.pipeline(
            prompt_embeds=told.text_only,
            negative_prompt_embeds=told.negative,
            pooled_prompt_embeds=told.pooled_text_only,
            negative_pooled_prompt_embeds=told.pooled_negative,
            num_inference_steps=self.settings.steps,
            guidance_scale=self.settings.guidance,
            height=self.settings.size,
            width=self.settings.size,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=merge,
            callback_on_step_end_tensor_inputs=["latents"],
            output_type=output_type,
        ).images[0 if output_type == "pil" else slice(None)]

    def close(self) -> None:
        self.pipeline = self.encoder = None

    @classmethod
    def twin(cls, folder: Path) -> Twin:
        from evaluation.methods.networks import twins
        from evaluation.methods.photomaker.twin import photomaker_file

        base = twins.sdxl(folder / "base")
        parts = {"base": base, "adapter": photomaker_file(folder / cls.needs[1].file, base, cls.file_version)}
        if BUFFALO in cls.needs:
            parts["recogniser"] = twins.recogniser(folder / "recogniser.onnx")
        return Twin(parts, {"steps": 3, "start_merge_step": 0, "size": twins.SIDE})


class PhotoMakerV2(PhotoMaker):
    """Also sees the recogniser's vector of the face that the detector is surest of; the photo without a face is refused."""

    name = "photomaker-v2"
    title = "PhotoMaker V2"
    needs = (BASE, Needed("adapter", "Apache-2.0", "TencentARC/PhotoMaker-V2", "photomaker-v2.bin"), BUFFALO)
    defaults = {"negative_prompt": NEGATIVE}
    file_version = 2

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        self.reader = FaceReader(self.found["recogniser"].path, sources.weights)

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"reader": self.reader.describe()}

    def prepare(self, photos: Sequence[np.ndarray]) -> torch.Tensor:
        """Two tokens of the face a photo (2 * photos, W), before they are fused with a prompt."""
        import torch

        with torch.no_grad():
            return self.encoder(self.pixels(photos), self.vectors(photos))

    def vectors(self, photos: Sequence[np.ndarray]) -> torch.Tensor:
        """insightface's `embedding`, of any length, (N, 512)."""
        import torch

        faces = [choose_face(self.reader.finder(photo), "highest_score", where="the reference") for photo in photos]
        vectors = [self.reader.vector(photo, face) for photo, face in zip(photos, faces, strict=True)]
        return torch.from_numpy(np.stack(vectors)).to(self.sources.device_name, self.encoder.clip.dtype)
