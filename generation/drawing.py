"""What generate.py and demo.py share: a pipeline that is ready to draw, and pictures saved with their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from common.version import VERSION
from common.weights import resolve, sha256_of_weights
from generation.provenance import Provenance, Saved, save
from model.build import base_parts, load_pipeline, pretrained_pipeline, random_pipeline
from model.conditioning.face_finder import FaceFinder
from model.config import CONFIGS, Conditions, load_config
from model.dtypes import torch_dtype
from model.pipeline import FaceMakeUpPipeline
from model.presets import Scales

TRAINED = ("unet/adapter.safetensors", "projector/*.safetensors", "controlnet/*.safetensors")


@dataclass
class Artist:
    """A pipeline with a face finder. `notes`: what whoever looks at its pictures has to know.

    `base`, `weights` (component -> sha256) and `size` (pixels) go into the provenance.
    """

    pipeline: FaceMakeUpPipeline
    base: str
    weights: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor

    def save(
        self, image: Any, path: Path, *, seed: int, scales: Scales, prompt: str | None = None, watermark: bool = True
    ) -> Saved:
        """A drawn picture into a file, marked and with its record. The prompt is written only if it is given."""
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


def open_artist(
    model: str = "tiny",
    checkpoint: str | None = None,
    base: str | None = None,
    image_encoder: str | None = None,
    vae: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offload: bool = False,
    weights_folder: str | None = None,
) -> Artist:
    """A pipeline that is ready to draw.

    Args:
        model: an exported folder; or a configuration (`sd15`, `tiny`, a YAML file) for `checkpoint` and `base`.
        checkpoint: any layout that `model.checkpoints` reads.
        base, image_encoder, vae: folders or hub names; default: what the configuration names. A configuration that
            names none (`tiny`) and no `base`: random weights.
        device: auto (a GPU if there is one), cpu, cuda, cuda:1 ...
        dtype: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16.
        offload: keep parts in main memory while they are not needed; for a GPU with little memory.
        weights_folder: where detector and identity files are looked for first (else FACEMAKEUP_WEIGHTS).

    Raises:
        ConfigError, CheckpointError, WeightError, ValueError, OSError: what is missing or does not fit, and the remedy.
    """
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device}: no GPU can be used here; take auto or cpu")
    given_parts = {"checkpoint": checkpoint, "base": base, "image_encoder": image_encoder, "vae": vae}
    if dtype == "auto":
        dtype = "fp16" if device.startswith("cuda") else "fp32"
    if Path(model).is_dir():
        if ignored := [name for name, given in given_parts.items() if given is not None]:
            raise ValueError(
                f"{model} is a whole model: it takes no {', '.join(ignored)}; name a configuration instead"
            )
        artist = _from_folder(Path(model), torch_dtype(dtype))
    elif load_config(model).pretrained is None and base is None:
        artist = _random(model, checkpoint, weights_folder)
    else:
        artist = _pretrained(model, checkpoint, base, image_encoder, vae, torch_dtype(dtype))
    how = Conditions.model_validate(artist.pipeline.config.conditions)
    artist.pipeline.face_finder = FaceFinder(
        identity=how.identity_encoder, channel_order=how.channel_order, weights=weights_folder
    )
    if offload:
        artist.pipeline.enable_model_cpu_offload(device=device)
    else:
        artist.pipeline.to(device)
    artist.pipeline.set_progress_bar_config(disable=True)  # whoever draws shows its own
    return artist


def _random(model: str, checkpoint: str | None, weights_folder: str | None) -> Artist:
    if checkpoint is not None:
        raise ValueError(
            f"{model} names no pretrained weights: a checkpoint needs the base it was trained on (base=...)"
        )
    config = load_config(model)
    pipeline = random_pipeline(config, resolve("clip-vocabulary", weights_folder).path)
    note = f"Random weights ({config.name}): this tries the program. What it draws is noise, whatever face and prompt."
    return Artist(pipeline, f"random weights, {config.name}", notes=[note])


def _from_folder(folder: Path, dtype: torch.dtype) -> Artist:
    weights = {
        file.relative_to(folder).parts[0]: sha256_of_weights(file)
        for pattern in TRAINED
        for file in sorted(folder.glob(pattern))
    }
    return Artist(load_pipeline(folder, dtype), folder.resolve().name, weights)


def _pretrained(
    model: str,
    checkpoint: str | None,
    base: str | None,
    image_encoder: str | None,
    vae: str | None,
    dtype: torch.dtype,
) -> Artist:
    from model.checkpoints.reading import read

    config = load_config(model)
    places = base_parts(config, base, image_encoder, vae)
    conditions, weights, notes, trained = config.conditions, {}, [], None
    if checkpoint is None:
        notes.append("No checkpoint: the face adapter is untrained, the face has next to no influence.")
    else:
        trained = read(checkpoint)
        weights = {"checkpoint": sha256_of_weights(Path(checkpoint))} if Path(checkpoint).is_file() else {}
        if trained.controlnet is None:
            notes.append("The checkpoint has no pose branch: the pose of the photo has no influence.")
        if conditions_json := trained.json_metadata("conditions"):
            conditions = Conditions.model_validate(conditions_json)
        elif trained.metadata["layout"] == "ip-adapter" and "origin" not in trained.metadata:
            conditions = conditions.model_copy(update={"align_size": 224})
            notes.append("Faces are aligned at 224 pixels, as IP-Adapter-FaceID-Plus was trained.")
    pipeline = pretrained_pipeline(
        **places,
        conditions=conditions,
        checkpoint=trained,
        identity_dim=config.identity_dim,
        rank=config.lora_rank,
        shortcut=config.shortcut,
        pose_channels=config.pose_channels,
        dtype=dtype,
    )
    # a record in a picture says no place of this machine
    return Artist(pipeline, Path(base).resolve().name if Path(base).is_dir() else base, weights, notes)


def known_models() -> str:
    return ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
