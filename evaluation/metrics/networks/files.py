"""Weight files that the user names: found, hashed, and put into a network, or a reason why not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.pinned_files.weights import sha256_of_weights
from evaluation.metrics.base import Sources, Unavailable

if TYPE_CHECKING:
    from torch import nn

NESTED = ("state_dict", "model")  # where trainers put the weights among other things


def find_file(role: str, default: str, sources: Sources, fetch: str) -> tuple[Path, str]:
    """The file of `role` and its sha256. `default`: its name in a folder of weights; `fetch`: where it is to be had.

    Raises:
        Unavailable: it is not on this machine.
    """
    import torch

    if asked := sources.models.get(role):
        places = [Path(asked).expanduser()]
    else:
        folders = [Path(sources.weights).expanduser()] if sources.weights else []
        places = [folder / default for folder in (*folders, Path(torch.hub.get_dir()) / "checkpoints")]
    for place in places:
        if place.is_file():
            return place, sha256_of_weights(place)
    missing = f"{asked}: no such file" if asked else f"{default} is not on this machine"
    raise Unavailable(f"{missing}: {fetch}, and name it: --model-of {role}=FILE")


def read_weights(file: Path) -> dict[str, Any]:
    """The tensors of a PyTorch file by name; no pickled code is run.

    Raises:
        Unavailable: it is no such file.
    """
    import torch

    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise Unavailable(f"{file}: no file of weights alone: {str(error).splitlines()[0]}") from error
    for name in NESTED:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise Unavailable(f"{file}: holds no weights by name")
    # a network that was trained on several GPUs has its names behind `module.`
    return {name.removeprefix("module."): value for name, value in found.items() if isinstance(value, torch.Tensor)}


def fill(network: nn.Module, weights: dict[str, Any], file: Path, ignored: tuple[str, ...] = ()) -> nn.Module:
    """The network with these weights, ready to run. `ignored`: beginnings of names that it does not need.

    Raises:
        Unavailable: weights are missing, too many, or of another shape.
    """
    used = {name: value for name, value in weights.items() if not name.startswith(ignored)} if ignored else weights
    try:
        network.load_state_dict(used)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise Unavailable(f"{file}: not the weights of {type(network).__name__}: {told[:200]}") from error
    return network.eval().requires_grad_(False)
