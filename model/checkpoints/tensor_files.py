"""Opening files of tensors safely: safetensors and torch pickles, single or sharded. Code in a pickle never runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoints.layouts import CheckpointError, listed

if TYPE_CHECKING:
    import torch

PARTS = ("image_proj", "ip_adapter", "controlnet")
STEMS = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class TensorFile(Mapping[str, "torch.Tensor"]):
    """Tensors by flat key, each read when asked for. `nested`: the file is a dictionary of dictionaries, whose keys
    are joined by a dot; `metadata`: what a safetensors header says besides."""

    def __init__(self, path: Path, metadata: dict[str, str] | None = None, nested: bool = False):
        self.path, self.metadata, self.nested = path, metadata or {}, nested
        self._sources: dict[str, Any] = {}  # a tensor, or an open safetensors file

    def __getitem__(self, key: str) -> torch.Tensor:
        source = self._sources[key]
        if not hasattr(source, "get_tensor"):
            return source.detach()
        return source.get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def open_tensors(path: Path) -> TensorFile:
    """A file, a shard index, or a folder that holds either under one of the names of `STEMS`.

    Raises:
        CheckpointError: absent, truncated, of no known format, or a pickle that would run code.
    """
    if path.is_dir():
        path = _weights_of(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    if path.name.endswith(".index.json"):
        return _open_sharded(path)
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path} is empty; download it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a git-lfs pointer, not the file it points to; remedy: git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a checkpoint; download the file itself")
    # a safetensors file starts with the length of its JSON header
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return _open_safetensors(path)
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        return _open_pickle(path, mmap=head[:2] == b"PK")
    raise CheckpointError(f"{path} is neither a safetensors file nor a torch pickle (.bin, .pt)")


def _open_safetensors(path: Path) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); download or copy it again") from error
    opened = TensorFile(path, handle.metadata())
    opened._sources = {key: handle for key in handle.keys()}
    return opened


def _open_pickle(path: Path, mmap: bool) -> TensorFile:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a damaged file can make torch raise anything
        text = str(error)
        if globals_in_pickle := re.findall(
            r"(?:GLOBAL|Unsupported (?:global|class)[^\w]*(?:GLOBAL)?)\s*([\w.]+)", text
        ):
            raise CheckpointError(
                f"{path} asks for {listed(sorted(set(globals_in_pickle)), 3)} when it is loaded: that would run code, so it is "
                "refused; remedy: take the safetensors version, or have its owner save plain tensors"
            ) from error
        reason = text.splitlines()[0] if text else type(error).__name__
        raise CheckpointError(f"{path} is truncated or damaged ({reason}); download or copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    nested = any(isinstance(value, dict) for value in content.values())
    opened = TensorFile(path, nested=nested)
    opened._sources = _flat(path, content) if nested else content
    not_tensors = [
        key for key, value in opened._sources.items() if not isinstance(key, str) or not torch.is_tensor(value)
    ]
    if not_tensors and not nested:
        raise CheckpointError(
            f"{path} holds things that are not tensors: {listed(map(str, not_tensors))}; it is not a checkpoint"
        )
    return opened


def _flat(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """A dictionary of dictionaries, flat: inner keys behind the part's name; unknown outer keys stay, to be recognised."""
    import torch

    flat: dict[str, Any] = {}
    for part, inner in content.items():
        if part not in PARTS:
            flat[str(part)] = inner
            continue
        if not isinstance(inner, dict):
            raise CheckpointError(f"{path}: `{part}` is a {type(inner).__name__}, not a dictionary of tensors")
        if part == "controlnet" and not inner:
            raise CheckpointError(f"{path}: `controlnet` is empty; take a complete file, or one without that entry")
        for key, value in inner.items():
            if not torch.is_tensor(value):
                raise CheckpointError(f"{path}: {part}.{key} is a {type(value).__name__}, not a tensor")
            flat[f"{part}.{key}"] = value
    return flat


def _open_sharded(index: Path) -> TensorFile:
    try:
        shards: dict[str, str] = json.loads(index.read_text())["weight_map"]
        names = sorted(set(shards.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no shard index ({error!r})") from error
    if nested := [name for name in names if name.endswith(".index.json")]:
        raise CheckpointError(f"{index} names indices for shards: {listed(nested, 3)}")
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names files outside its folder: {listed(outside, 3)}")
    if absent := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(f"{index} names {listed(absent)}, which are not there; copy the whole folder")
    opened = TensorFile(index)
    for name in names:
        shard = open_tensors(index.parent / name)
        keys = [key for key, file in shards.items() if file == name]
        if lost := [key for key in keys if key not in shard]:
            raise CheckpointError(f"{index.parent / name} lacks {listed(lost)}, which {index.name} says it has")
        opened._sources |= {key: shard._sources[key] for key in keys}
    return opened


def _weights_of(folder: Path) -> Path:
    found = [folder / name for stem in STEMS for name in (stem, f"{stem}.index.json") if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"{folder} holds {listed(file.name for file in found)}: say which by naming the file itself"
        )
    if (folder / "zero_to_fp32.py").is_file() or next(folder.rglob("*_optim_states.pt"), None):
        raise CheckpointError(
            f"{folder} is a DeepSpeed ZeRO checkpoint, cut into one piece a process; remedy: consolidate it first, "
            f"`cd {folder} && python zero_to_fp32.py . consolidated`, then convert consolidated/"
        )
    raise CheckpointError(f"{folder} holds no checkpoint: none of {listed(STEMS)} nor a folder that was exported here")
