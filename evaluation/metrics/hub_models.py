"""Models of the Hugging Face hub: from a folder, or from this machine's cache of the hub. Nothing is downloaded here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from common.hashing import sha256_of_file
from evaluation.metrics.base import Sources, Unavailable

WEIGHT_FILES = ("*.safetensors", "*.bin")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_name(place: str) -> bool:
    """Whether a model of the hub may be called so: OWNER/NAME, where OWNER is no folder here."""
    return bool(HUB_NAME.fullmatch(place)) and not Path(place).parent.is_dir()


def find_model(role: str, default: str, sources: Sources) -> tuple[str, Path]:
    """What the model of `role` is called, and its folder.

    Raises:
        Unavailable: it is not on this machine, with what to fetch.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    asked = sources.models.get(role, default)
    if (folder := Path(asked).expanduser()).is_dir():
        return folder.name, folder
    try:
        return asked, Path(snapshot_download(asked, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise Unavailable(
            f"{asked} is not on this machine: `hf download {asked}` fetches it, or name a folder with it: --model-of "
            f"{role}=FOLDER"
        ) from error


def hashes_of(folder: Path) -> dict[str, str]:
    """sha256 of a model's weight and settings files, by name."""
    files = {file for pattern in (*WEIGHT_FILES, "*config.json") for file in folder.glob(pattern)}
    return {file.name: sha256_of_file(file) for file in sorted(files)}


def as_list(tensor: Any) -> list[float]:
    """One vector of a batch of one, as features keep it."""
    return tensor[0].float().cpu().numpy().astype(np.float32).tolist()
