"""Opening files of tensors safely: safetensors and torch pickles, single or sharded. Code in a pickle never runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.checkpoints.folders import CONSOLIDATE, EXPORT, weights_of
from model.checkpoints.layouts import CheckpointError, listed

if TYPE_CHECKING:
    import torch

PARTS = ("image_proj", "ip_adapter", "controlnet")
# torch.compile's, DistributedDataParallel's, FSDP's, activation checkpointing's, Lightning's with DeepSpeed
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale", "scaled_fp8")
WHOLE = "take the fp16, bf16 or fp32 version of the file"


class TensorFile(Mapping[str, "torch.Tensor"]):
    """Tensors by flat key, each read when asked for. Names of wrappers (`module.`, `_orig_mod.`) are taken off the keys,
    and numbers of 8 bits become bfloat16, which holds each of them exactly.

    `nested`: the file is a dictionary of dictionaries, whose keys are joined by a dot; `metadata`: what a safetensors
    header says besides; `notes`: what was changed, as sentences.
    """

    def __init__(self, path: Path, metadata: dict[str, str] | None = None, nested: bool = False):
        self.path, self.metadata, self.nested = path, metadata or {}, nested
        self.notes: list[str] = []
        self._sources: dict[str, Any] = {}  # a tensor, or a function that reads it

    def __getitem__(self, key: str) -> torch.Tensor:
        value = self.stored(key)
        return value.bfloat16() if _is_float8(value) else value

    def stored(self, key: str) -> Any:
        """As it is in the file."""
        source = self._sources[key]
        if isinstance(source, partial):
            return source()
        return source.detach() if hasattr(source, "detach") else source

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def open_tensors(path: Path) -> TensorFile:
    """A file, a shard index, or a folder that holds either (see folders.py).

    Raises:
        CheckpointError: absent, truncated, of no known format, a pickle that would run code, or tensors without numbers
            or with numbers of a kind that cannot be read.
    """
    opened = _open(weights_of(path) if path.is_dir() else path)
    _unwrap(opened)
    _check_numbers(opened)
    return opened


def _open(path: Path) -> TensorFile:
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
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return _open_pickle(path, mmap=head[:2] == b"PK")
    raise CheckpointError(
        f"{path} is neither a safetensors file nor a torch pickle (.bin, .pt), which are expected; if it is packed, "
        "unpack it, else download it again"
    )


def _unwrap(opened: TensorFile) -> None:
    """Take the names of wrappers off all keys."""
    bare: dict[str, str] = {}
    for key in opened:
        name = WRAPPERS.sub("", key)
        if (other := bare.setdefault(name, key)) != key:
            raise CheckpointError(
                f"{opened.path} has {other} and {key}, two names of one tensor: the file mixes a model and its wrapped "
                "copy (torch.compile, DistributedDataParallel); save the state_dict of one of them"
            )
    opened._sources = {name: opened._sources[key] for name, key in bare.items()}


def _check_numbers(opened: TensorFile) -> None:
    """Every tensor has numbers, of a kind that torch can compute with."""
    import torch

    meta, empty, unreadable, kinds = [], [], [], Counter[str]()
    for key in opened:
        try:
            value = opened.stored(key)
        except Exception as error:  # safetensors has one class for all of its errors, and torch none for a new dtype
            raise CheckpointError(f"{opened.path}: {key} cannot be read ({error}); {WHOLE}") from error
        if not torch.is_tensor(value):
            continue  # of a foreign dictionary; `recognise` says what it is
        if value.device.type == "meta":
            meta.append(key)
        elif value.layout != torch.strided or value.is_quantized or value.is_complex() or "float4" in str(value.dtype):
            unreadable.append(f"{key} ({str(value.dtype).removeprefix('torch.')})")
        elif not value.numel() and value.is_floating_point():
            empty.append(key)
        elif _is_float8(value):
            kinds[str(value.dtype).removeprefix("torch.")] += 1
    if meta:
        raise CheckpointError(
            f"{opened.path} holds names and shapes without numbers (torch's meta device): {listed(meta, 3)}. It was saved "
            "before the weights were loaded, or while accelerate had offloaded them; remedy: load them, then save what "
            "`accelerator.get_state_dict(model)` or `model.state_dict()` gives"
        )
    if empty:
        raise CheckpointError(
            f"{opened.path} holds empty tensors: {listed(empty, 3)}. Expected: whole tensors; DeepSpeed ZeRO-3 leaves such "
            f"ones where a model is saved without being gathered; remedy: {CONSOLIDATE}; for a run of this project {EXPORT}"
        )
    if scales := [key for key in opened if kinds and key.endswith(SCALES)]:
        raise CheckpointError(
            f"{opened.path} holds scaled 8-bit weights (their factors: {listed(scales, 3)}), which are not read; {WHOLE}"
        )
    if unreadable:
        raise CheckpointError(
            f"{opened.path} holds numbers that are not read: {listed(unreadable, 3)}; expected: floating-point; {WHOLE}"
        )
    opened.notes += [
        f"{count} tensors are {kind}: read as bfloat16, which holds their numbers exactly"
        for kind, count in kinds.items()
    ]


def _is_float8(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.element_size() == 1


def _open_safetensors(path: Path) -> TensorFile:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        if "unknown variant" in str(error):
            raise CheckpointError(
                f"{path} holds numbers of a kind that is not known here ({error}); {WHOLE}"
            ) from error
        raise CheckpointError(f"{path} is truncated or damaged ({error}); download or copy it again") from error
    opened = TensorFile(path, handle.metadata())
    opened._sources = {key: partial(handle.get_tensor, key) for key in handle.keys()}
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
        if "TorchScript" in text:
            raise CheckpointError(
                f"{path} is a TorchScript archive, which is a program; remedy: save the `state_dict()` of the model"
            ) from error
        if "Unsupported operand" in text:
            raise CheckpointError(
                f"{path} was saved with a pickle protocol that torch does not read safely; remedy: take the safetensors "
                "version, or have its owner save it without `pickle_protocol`"
            ) from error
        reason = text.splitlines()[0] if text else type(error).__name__
        raise CheckpointError(f"{path} is truncated or damaged ({reason}); download or copy it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors; remedy: save `model.state_dict()`"
        )
    nested = any(isinstance(value, dict) for value in content.values())
    opened = TensorFile(path, nested=nested)
    opened._sources = _flat(path, content) if nested else content
    not_tensors = [
        key for key, value in opened._sources.items() if not isinstance(key, str) or not torch.is_tensor(value)
    ]
    if not_tensors and not nested:
        raise CheckpointError(
            f"{path} holds things that are not tensors: {listed(map(str, not_tensors))}; it is not a checkpoint; expected: "
            "a flat dictionary of tensors; remedy: save `model.state_dict()`"
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
            raise CheckpointError(
                f"{path}: `{part}` is a {type(inner).__name__}, not a dictionary of tensors; take a complete file"
            )
        if part == "controlnet" and not inner:
            raise CheckpointError(f"{path}: `controlnet` is empty; take a complete file, or one without that entry")
        for key, value in inner.items():
            if not torch.is_tensor(value):
                raise CheckpointError(
                    f"{path}: {part}.{key} is a {type(value).__name__}, not a tensor; take a complete file"
                )
            flat[f"{part}.{key}"] = value
    return flat


def _open_sharded(index: Path) -> TensorFile:
    try:
        shards: dict[str, str] = json.loads(index.read_text())["weight_map"]
        names = sorted(set(map(str, shards.values())))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{index} is no shard index ({error!r}); copy the whole folder again") from error
    if nested := [name for name in names if name.endswith(".index.json")]:
        raise CheckpointError(f"{index} names indices for shards: {listed(nested, 3)}; take another copy of the folder")
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names files outside its folder: {listed(outside, 3)}; put them beside it")
    if absent := [name for name in names if not (index.parent / name).is_file()]:
        raise CheckpointError(f"{index} names {listed(absent)}, which are not there; copy the whole folder")
    opened = TensorFile(index)
    for name in names:
        shard = _open(index.parent / name)
        keys = [key for key, file in shards.items() if file == name]
        if lost := [key for key in keys if key not in shard]:
            raise CheckpointError(f"{index.parent / name} lacks {listed(lost)}, which {index.name} says it has")
        opened._sources |= {key: shard._sources[key] for key in keys}
    return opened
