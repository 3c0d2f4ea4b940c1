"""Face-MakeUp, drawn by this project's own pipeline: with and without the pose, and each preset of scales.

`model` is an exported folder (what `make train` left), or a configuration, `sd15`, with --part face-makeup.checkpoint=model.bin
and face-makeup.base=FOLDER: so the authors' released weights have a row, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from common.errors import UserError
from common.pinned_files.weights import WeightError, in_short
from common.settings import Section
from evaluation.method_facts import NOT_SAID
from evaluation.methods.base import DrawingMethod
from evaluation.methods.sources import Found, MethodSources, Unavailable
from generation.options import ModelOptions
from model.conditioning.faces import ChoicePolicy
from model.config import CONFIGS, load_config
from model.presets import scales_of

if TYPE_CHECKING:  # torch takes seconds to import: not before something is drawn
    from model.conditioning.features import FaceConditions

TRAINED_HERE = Path("runs/train/tiny/export/pipeline")  # what `make train` leaves
OTHERS = ("checkpoint", "base", "image_encoder", "vae")  # besides the model, as ModelOptions has them


class FaceMakeUpSettings(Section):
    """The steps and the empty negative prompt are the authors' test script's; a scale of None is the preset's."""

    preset: Literal["realistic", "soft_style", "strong_style"] = "realistic"
    pose: bool = Field(True, description="False: the ControlNet is left out")
    steps: int = Field(50, ge=1)
    ip_scale: float | None = None
    controlnet_scale: float | None = None
    guidance: float | None = None
    shortcut_scale: float | None = None
    negative_prompt: str = ""
    policy: ChoicePolicy = Field("largest", description="which of several faces of a reference")


class FaceMakeUp(DrawingMethod):
    """Made for a folder that is not there it is Unavailable; for one that a person named, an error."""

    name = "face-makeup"
    title = "Face-MakeUp"
    Settings = FaceMakeUpSettings
    settings: FaceMakeUpSettings

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        places = {role: self._place(sources, role) for role in OTHERS}
        named = self._place(sources, "model")
        self.options = ModelOptions(named or str(TRAINED_HERE), **places, device=sources.device, dtype=sources.dtype)
        if not named and not TRAINED_HERE.is_dir():
            raise Unavailable(f"not here: {TRAINED_HERE}: run `make train`, or name an exported folder: --model FOLDER")
        if not any(places.values()) and not (Path(self.options.model) / "model_index.json").is_file():
            raise UserError(
                f"--model {self.options.model}: no such exported folder: run `make train` first, or name yours"
            )
        self.found |= {
            role: Found(Path(place).expanduser())
            for role, place in {"model": self.options.model, **places}.items()
            if place and Path(place).expanduser().exists()
        }
        from model.conditioning.face_finder import FaceFinder

        try:
            self.finder = FaceFinder(identity=None).describe()["detector"]
        except WeightError as error:
            raise Unavailable(f"no face detector: {in_short(error)}") from error

    @classmethod
    def _place(cls, sources: MethodSources, role: str) -> str | None:
        """A variant draws with the model of the first where it has none of its own."""
        return sources.place(cls.name, role) or sources.place(FaceMakeUp.name, role)

    @classmethod
    def roles(cls) -> tuple[str, ...]:
        return "model", *OTHERS

    @classmethod
    def facts(cls, settings: FaceMakeUpSettings, sources: MethodSources) -> dict[str, Any]:
        model = Path(cls._place(sources, "model") or TRAINED_HERE)
        base = cls._place(sources, "base") or model.resolve().name
        scales = {name if name == "guidance" else f"{name}_scale": value for name, value in _scales(settings).items()}
        return super().facts(settings, sources) | {"base_model": Path(base).name} | _of_the_model(model) | scales

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"options": self._named_by_the_hub(), "detector": self.finder}

    def _named_by_the_hub(self) -> dict[str, str]:
        """What is no file here and so has no hash."""
        told = {role: getattr(self.options, role) for role in ("model", *OTHERS)}
        return {role: place for role, place in told.items() if place and role not in self.found}

    def load(self) -> None:
        from generation.loading import load_for_command

        self.pipeline = load_for_command(self.options).pipeline

    def prepare(self, photos: Sequence[np.ndarray]) -> FaceConditions:
        return self.pipeline.encode_faces(photos[0], policy=self.settings.policy)

    def draw(self, face: FaceConditions, prompt: str, seed: int) -> Image.Image:
        scales = _scales(self.settings)
        return self.pipeline(
            prompt,
            face=face,
            negative_prompt=self.settings.negative_prompt,
            num_inference_steps=self.settings.steps,
            seed=seed,
            **{f"{name}_scale": value for name, value in scales.items()},
        ).images[0]

    def close(self) -> None:
        self.pipeline = None


def _of_the_model(model: Path) -> dict[str, str]:
    """What an exported folder, in diffusers' layout, or a configuration says of itself; nothing where it is neither."""
    places = ("unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    if not all((model / place).is_file() for place in places):
        if not (CONFIGS / f"{model}.yaml").is_file():
            return {}
        side = load_config(str(model)).resolution
        return {"native_size": f"{side} x {side}", "scheduler": "DDIM"}
    unet, vae, scheduler = (json.loads((model / place).read_bytes()) for place in places)
    side = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    return {"native_size": f"{side} x {side}", "scheduler": scheduler.get("_class_name", NOT_SAID)}


class FaceMakeUpWithoutPose(FaceMakeUp):
    name = "face-makeup-without-pose"
    title = "Face-MakeUp, without the pose"
    defaults = {"pose": False}


class FaceMakeUpSoftStyle(FaceMakeUp):
    name = "face-makeup-soft-style"
    title = "Face-MakeUp, soft style"
    defaults = {"preset": "soft_style"}


class FaceMakeUpStrongStyle(FaceMakeUp):
    name = "face-makeup-strong-style"
    title = "Face-MakeUp, strong style"
    defaults = {"preset": "strong_style"}


def _scales(settings: FaceMakeUpSettings) -> dict[str, float]:
    scales = scales_of(
        settings.preset, ip=settings.ip_scale, controlnet=settings.controlnet_scale,
        guidance=settings.guidance, shortcut=settings.shortcut_scale,
    )  # fmt: skip
    return (scales if settings.pose else scales._replace(controlnet=0.0))._asdict()
