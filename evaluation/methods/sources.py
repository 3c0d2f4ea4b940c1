"""Where methods find what they draw with: places that a person names, a folder of model files, this machine's cache of the hub.

Nothing is downloaded here: what is missing is said, with the command that fetches it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from common.errors import UserError
from common.hashing import canonical_json, sha256_of_bytes
from common.pinned_files.weights import RefusedError, WeightError, resolve, sha256_of_weights
from common.settings import Section, validated, with_changes
from evaluation.methods.fetched import fetched

WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".dat"}
SETTINGS = {".json", ".txt", ".model"}
VARIANT = re.compile(r"\.(fp16|bf16|non_ema|ema)\.")
Settings = TypeVar("Settings", bound=Section)


class Unavailable(Exception):
    """A method that cannot draw here: why, and what to fetch, stand in its row."""


@dataclass(frozen=True)
class Needed:
    """A file or a folder that a method draws with.

    `role`: what it is called in --part METHOD.ROLE=PLACE; `hub`: the repository on the Hugging Face hub; `file`: in it, or, without
    `hub`, how the file is called; "" is the whole folder; `pinned`: its name in common/pinned_files, in the place of both;
    `fetch`: how to have it, where `hf download` does not do it; `sha256`: of the published file, "" where it was never seen here:
    then it is only recorded.
    """

    role: str
    licence: str
    hub: str = ""
    file: str = ""
    pinned: str = ""
    fetch: str = ""
    sha256: str = ""

    def how(self) -> str:
        """What is missing, and how to have it."""
        what = "/".join(filter(None, (self.hub, self.file)))
        get = self.fetch or f"`hf download {' '.join(filter(None, (self.hub, self.file)))}`"
        return f"{self.role} ({what}, {self.licence}): {get}"


@dataclass(frozen=True)
class Found:
    """A file or a folder on this machine."""

    path: Path

    @cached_property
    def sha256(self) -> str:
        """Of the file; of a folder, of its files that a model is read from, with their names."""
        if self.path.is_file():
            return sha256_of_weights(self.path)
        return folder_hash(self.path)


@dataclass(frozen=True)
class MethodSources:
    """`weights`: a folder of model files, looked in first; `named`: METHOD.ROLE -> place; `changes`: METHOD.SETTING=VALUE;
    `device`: auto (a GPU if there is one), cpu, cuda ...; `dtype`: auto (fp16 on a GPU, else fp32), fp32, fp16, bf16."""

    weights: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[str] = ()
    device: str = "auto"
    dtype: str = "auto"

    @property
    def device_name(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def dtype_name(self) -> str:
        return self.dtype if self.dtype != "auto" else ("fp16" if self.device_name.startswith("cuda") else "fp32")

    def place(self, method: str, role: str) -> str | None:
        return self.named.get(f"{method}.{role}")

    def settings(self, method: str, kind: type[Settings], defaults: Mapping[str, Any]) -> Settings:
        """The settings of a method with what a person changed.

        Raises:
            UserError: it has no such setting, or the value cannot be.
        """
        own = [change.removeprefix(f"{method}.") for change in self.changes if change.startswith(f"{method}.")]
        return validated(kind, with_changes(defaults, own), f"--set {method}")

    def find(self, method: str, needs: Sequence[Needed]) -> dict[str, Found]:
        """Where each of them is.

        Raises:
            Unavailable: some are not here; the message names all of them.
            UserError: a place that a person named is not there, or holds another file than the published one.
        """
        found, lacking = {}, []
        for part in needs:
            path = self._find(method, part)
            if path is None:
                lacking.append(part)
                continue
            found[part.role] = Found(path)
            if part.sha256 and not self.place(method, part.role) and part.sha256 != found[part.role].sha256:
                raise UserError(
                    f"{path}: its sha256 is {found[part.role].sha256}, the published file's is {part.sha256}"
                )
        if lacking:
            roles, how = ", ".join(part.role for part in lacking), "; ".join(part.how() for part in lacking)
            raise Unavailable(f"not here: {roles}. Name them (--part {method}.{lacking[0].role}=PLACE), or fetch {how}")
        return found

    def _find(self, method: str, part: Needed) -> Path | None:
        if named := self.place(method, part.role):
            if "://" in named:
                return fetched(named)
            if not Path(named).expanduser().exists():
                raise UserError(f"--part {method}.{part.role}={named}: no such file or folder")
            return Path(named).expanduser()
        if part.pinned:
            return _pinned(part.pinned, self.weights)
        name = Path(part.file).name if part.file else part.hub.rpartition("/")[2]
        if self.weights and (place := Path(self.weights).expanduser() / name).exists():
            return place
        return _in_cache(part) if part.hub else None


def folder_hash(folder: Path) -> str:
    """The sha256 of a folder's files that a model is read from, with their names."""
    rows = [[file.relative_to(folder).as_posix(), sha256_of_weights(file)] for file in files_read(folder)]
    return sha256_of_bytes(canonical_json(rows).encode())


def files_read(folder: Path) -> list[Path]:
    """What stock loaders read of a folder: safetensors where there are any beside other weights, no variant (`.fp16.`), and of
    a pipeline's folder no checkpoint in one file beside its model_index.json. The rest may be tens of gigabytes."""
    chosen = []
    for place in sorted({file.parent for file in folder.rglob("*") if file.is_file()}):
        files = sorted(file for file in place.iterdir() if file.is_file())
        weights = [file for file in files if file.suffix in WEIGHTS and not VARIANT.search(file.name)]
        safe = [file for file in weights if file.suffix == ".safetensors"]
        whole = place == folder and (folder / "model_index.json").is_file()
        chosen += [file for file in files if file.suffix in SETTINGS] + ([] if whole else safe or weights)
    return chosen


def _pinned(name: str, folder: str | None) -> Path | None:
    try:
        return resolve(name, folder, download=False).path
    except RefusedError:
        raise
    except WeightError:
        return None


def _in_cache(part: Needed) -> Path | None:
    """The file or the folder in this machine's cache of the hub."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        if part.file and "." in Path(part.file).name:
            return Path(hf_hub_download(part.hub, part.file, local_files_only=True))
        place = Path(snapshot_download(part.hub, local_files_only=True)) / part.file
    except LocalEntryNotFoundError:
        return None
    return place if place.exists() else None
