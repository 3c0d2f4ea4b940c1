"""Loads a model that is ready to draw, and saves its pictures with their provenance."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common.errors import UserError
from common.pinned_files.weights import resolve, sha256_of_weights
from common.version import VERSION
from generation.options import ModelOptions
from generation.provenance import Provenance, SavedPicture, save
from model.build import base_parts, load_pipeline, random_pipeline
from model.conditioning.face_finder import FaceFinder
from model.config import Conditions, load_config
from model.dtypes import torch_dtype
from model.pipeline import FaceMakeUpPipeline
from model.presets import Scales

# diffusers prints what it cuts of a prompt; who gave the prompt is told (`truncated_words`), the terminal is not
logging.getLogger("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion").addFilter(
    lambda record: "part of your input was truncated" not in str(record.msg)
)
TRAINED = ("unet/adapter.safetensors", "projector/*.safetensors", "controlnet/*.safetensors")


@dataclass
class LoadedModel:
    """A pipeline with a face finder. `notes`: what a user has to know about its pictures.

    `base`, `weights` (component -> sha256) and `size` (pixels) go into the provenance.
    """

    pipeline: FaceMakeUpPipeline
    base: str
    weights: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Side of its pictures, in pixels."""
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    def save(
        self, image: Any, path: Path, *, seed: int, scales: Scales, prompt: str | None = None, watermark: bool = True
    ) -> SavedPicture:
        """A drawn picture into a file, marked and with its record. The prompt is written only if it is given.

        Raises:
            ValueError: the picture is of one colour, which no drawing is, or cannot be saved.
        """
        if all(low == high for low, high in Image.fromarray(np.asarray(image)).getextrema()):
            raise ValueError(
                "the picture is of one colour: the drawing failed; take smaller scales, or another number format (--dtype "
                "bf16 or fp32)"
            )
        record = Provenance(
            software="facemakeup",
            version=VERSION,
            drawn_at=datetime.now(UTC),
            pipeline=type(self.pipeline).__name__,
            base_model=self.base,
            weights=self.weights,
            prompt=prompt,
            seed=seed,
            scales=scales._asdict(),
        )
        return save(image, path, record, watermark)


def load_for_command(options: ModelOptions) -> LoadedModel:
    """`load_model`, for a command: what is missing or does not fit is one message.

    Raises:
        UserError: what is missing or does not fit, and the remedy.
    """
    try:
        return load_model(options)
    except UserError:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{type(error).__name__}: {error}") from error


def load_model(options: ModelOptions) -> LoadedModel:
    """The pipeline that the options name, on its device, with a face finder.

    Raises:
        RecipeError, CheckpointError, WeightError, ValueError, OSError: what is missing or does not fit, and the remedy.
    """
    model, device, dtype = options.model, options.device, options.dtype
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: no GPU can be used here; take auto or cpu")
    if dtype == "auto":
        dtype = "fp16" if device.startswith("cuda") else "fp32"
    if Path(model).is_dir():
        parts = ("checkpoint", "base", "image_encoder", "vae")
        if ignored := [name for name in parts if getattr(options, name) is not None]:
            raise ValueError(
                f"{model} is a whole model: it takes no {', '.join(ignored)}; name a configuration instead"
            )
        loaded = _load_exported_folder(Path(model), torch_dtype(dtype))
    elif load_config(model).pretrained is None and options.base is None:
        loaded = _random_weights(options)
    else:
        loaded = _load_pretrained(options, torch_dtype(dtype))
    conditions = Conditions.model_validate(loaded.pipeline.config.conditions)
    loaded.pipeline.face_finder = FaceFinder(
        identity=conditions.identity_encoder, channel_order=conditions.channel_order
    )
    if options.offload:
        loaded.pipeline.enable_model_cpu_offload(device=device)
    else:
        loaded.pipeline.to(device)
    loaded.pipeline.set_progress_bar_config(disable=True)  # the caller shows its own
    return loaded


def _random_weights(options: ModelOptions) -> LoadedModel:
    if options.checkpoint is not None:
        raise ValueError(
            f"{options.model} names no pretrained weights: a checkpoint needs the base it was trained on (base=...)"
        )
    config = load_config(options.model)
    pipeline = random_pipeline(config, resolve("clip-vocabulary").path)
    note = f"Random weights ({config.name}): this tries the program. What it draws is noise, whatever face and prompt."
    return LoadedModel(pipeline, f"random weights, {config.name}", notes=[note])


def _load_exported_folder(folder: Path, dtype: torch.dtype) -> LoadedModel:
    weights = {
        file.relative_to(folder).parts[0]: sha256_of_weights(file)
        for pattern in TRAINED
        for file in sorted(folder.glob(pattern))
    }
    return LoadedModel(load_pipeline(folder, dtype), folder.resolve().name, weights)


def _load_pretrained(options: ModelOptions, dtype: torch.dtype) -> LoadedModel:
    from model.checkpoints.on_model import pipeline_with_checkpoint
    from model.checkpoints.reading import read

    config = load_config(options.model)
    places = base_parts(config, options.base, options.image_encoder, options.vae)
    base = places["base"]
    conditions, weights, notes, trained = config.conditions, {}, [], None
    if (checkpoint := options.checkpoint) is None:
        notes.append("No checkpoint: the face adapter is untrained, the face has next to no influence.")
    else:
        trained = read(checkpoint)
        notes += trained.notes
        weights = {"checkpoint": sha256_of_weights(Path(checkpoint))} if Path(checkpoint).is_file() else {}
        if trained.controlnet is None:
            notes.append("The checkpoint has no pose branch: the pose of the photo has no influence.")
        if conditions_json := trained.json_metadata("conditions"):
            conditions = Conditions.model_validate(conditions_json)
        elif trained.metadata["layout"] == "ip-adapter" and "origin" not in trained.metadata:
            conditions = conditions.model_copy(update={"align_size": 224})
            notes.append("Faces are aligned at 224 pixels, as IP-Adapter-FaceID-Plus was trained.")
    pipeline = pipeline_with_checkpoint(trained, **places, conditions=conditions, dtype=dtype, **config.adapter)
    # only the folder's name: a picture's record holds no path of this machine
    return LoadedModel(pipeline, Path(base).resolve().name if Path(base).is_dir() else base, weights, notes)
