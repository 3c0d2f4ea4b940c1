"""Model files for nodes that lack them: the driver puts them into the object store, a node into its cache, once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ray

from common.hashing import sha256_of_bytes
from common.pinned_files.packages import cache_dir
from common.pinned_files.weight_table import WEIGHTS
from common.pinned_files.weights import RefusedError, Resolved, WeightError, resolve


@dataclass(frozen=True)
class ShippedWeights:
    """Pinned model files, each with where its bytes are in the object store; nothing where there is one node."""

    files: tuple[tuple[str, ray.ObjectRef], ...] = ()

    @classmethod
    def of(cls, files: Iterable[Resolved]) -> ShippedWeights:
        """A file that the recipe names by its path is no pinned one, and must be on every node."""
        pinned = {file.name: file.path for file in files if file.name in WEIGHTS}
        return cls(tuple((name, ray.put(path.read_bytes())) for name, path in pinned.items()))

    def place(self, folder: str | None) -> list[str]:
        """Put what this node lacks into its cache; the names of those files.

        Args:
            folder: the recipe's folder of weights, looked in first.

        Raises:
            RefusedError: a folder that the user named holds another file under that name.
        """
        return [name for name, reference in self.files if _placed(name, reference, folder)]


def _placed(name: str, reference: ray.ObjectRef, folder: str | None) -> bool:
    try:
        resolve(name, folder, download=False)
    except RefusedError:
        raise
    except WeightError:
        weight, cache = WEIGHTS[name], cache_dir() / "weights"
        data = ray.get(reference)
        if sha256_of_bytes(data) != weight.sha256:
            raise WeightError(f"{weight.file} came from the driver with another sha256") from None
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".", suffix=".part", delete=False) as file:
            file.write(data)
        Path(file.name).replace(cache / weight.file)
        return True
    return False
