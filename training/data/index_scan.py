"""One shard -> the ids of its samples and where their members stand: from our sidecar, or from the tar's headers."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from common.hashing import sha256_of_bytes
from common.shard_format import Sidecar, ids_hash
from common.storage import Storage
from training.data.folder import Folder, Listed, ShardError, locked, retrying

FORMAT = 2  # of what is kept in the cache; another one is read afresh
HOLE = -1
Member = dict[str, tuple[int, int]]

# as webdataset splits a name: what stands before the first dot of the file's name is the key
KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")


@dataclass
class Part:
    """One shard. `ids`: S (n,); `offsets`: int64 (n, members), -1 in a hole; `sizes`: int64 (n, members)."""

    name: str
    ids: np.ndarray
    extensions: tuple[str, ...]
    offsets: np.ndarray
    sizes: np.ndarray
    bytes: int
    sha256: str = ""
    revision: int = 0
    content_hash: str = ""
    source: str = ""

    def columns(self, array: str, extensions: tuple[str, ...]) -> np.ndarray:
        """`offsets` or `sizes`, (n, len(extensions)), in the order of `extensions`; of a shard of holes too."""
        if not self.extensions:
            return np.full((len(self.ids), len(extensions)), HOLE if array == "offsets" else 0, dtype=np.int64)
        return getattr(self, array)[:, [self.extensions.index(name) for name in extensions]]

    @property
    def fingerprint(self) -> str:
        """Of the shard's content: its hash, or that of what is known of it."""
        if self.sha256:
            return f"{self.sha256} {self.revision}"
        known = hashlib.sha256(b"\n".join(self.ids.tolist()))
        known.update(np.ascontiguousarray(self.offsets).tobytes() + np.ascontiguousarray(self.sizes).tobytes())
        return f"{self.bytes} {known.hexdigest()}"


def make_part(where: str, name: str, samples: list[tuple[str, Member]], size: int, **facts: str | int) -> Part:
    """Checks that samples have the same members and that those are inside the tar."""
    extensions = next((tuple(members) for _, members in samples if members), ())
    offsets = np.full((len(samples), len(extensions)), HOLE, dtype=np.int64)
    sizes = np.zeros((len(samples), len(extensions)), dtype=np.int64)
    for row, (key, members) in enumerate(samples):
        if not members:
            continue
        if members.keys() != set(extensions):
            missing = [f".{e}" for e in extensions if e not in members]
            more = [f".{e}" for e in members if e not in extensions]
            difference = " and ".join(
                [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has", more)) if names]
            )
            raise ShardError(
                f"{where}: sample {key} {difference}, unlike the first sample ({samples[0][0]});"
                " every sample must have the same members: pack it again"
            )
        for at, extension in enumerate(extensions):
            offsets[row, at], sizes[row, at] = members[extension]
        if (offsets[row] + sizes[row]).max() > size:
            raise ShardError(
                f"{where}: sample {key} goes beyond the end of the tar ({size} bytes): bring the tar again"
            )
    ids = (
        np.array([key.encode(errors="backslashreplace") for key, _ in samples], dtype=np.bytes_)
        if samples
        else np.empty(0, dtype="S1")
    )
    return Part(name, ids, extensions, offsets, sizes, size, **facts)


# -- our own -----------------------------------------------------------------------------------------------------


def read_sidecars(folder: Folder, names: list[str], files: dict[str, Listed]) -> tuple[list[Part], dict[str, str]]:
    """The parts of sidecars `names`, and the sha256 of each sidecar.

    Raises:
        ShardError: a sidecar that is none, or does not fit its tar.
    """
    parts, hashes = [], {}
    for name, text in folder.read_many(names):
        hashes[name] = sha256_of_bytes(text)
        parts.append(_of_sidecar(folder, name, text, files[f"{name[:-5]}.tar"].size))
    return parts, hashes


def _of_sidecar(folder: Folder, name: str, text: bytes, tar_bytes: int | None) -> Part:
    where = f"{folder.url}/{name}"
    try:
        sidecar = Sidecar.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise ShardError(f"{where} is no sidecar of a shard: {field}: {first['msg']}; pack it again") from error
    if sidecar.samples != len(sidecar.index):
        raise ShardError(f"{where}: says {sidecar.samples} samples and lists {len(sidecar.index)}; pack it again")
    if tar_bytes is not None and tar_bytes != sidecar.bytes:
        raise ShardError(
            f"{folder.url}/{name[:-5]}.tar has {tar_bytes} bytes, its sidecar says {sidecar.bytes}:"
            " it was not brought whole, or is being written; bring it again"
        )
    ids = [entry.id for entry in sidecar.index]
    if sidecar.revision == 0 and ids_hash(ids) != sidecar.plan:
        raise ShardError(f"{where}: its samples are not those of its plan ({sidecar.plan}); pack it again")
    return make_part(
        where,
        f"{name[:-5]}.tar",
        [(entry.id, entry.members) for entry in sidecar.index],
        sidecar.bytes,
        sha256=sidecar.sha256,
        revision=sidecar.revision,
        content_hash=sidecar.content_hash,
        source=sidecar.source,
    )


# -- of another maker --------------------------------------------------------------------------------------------


def read_tars(folder: Folder, names: list[str], files: dict[str, Listed], kept: Path) -> list[Part]:
    """Headers of every tar; what was read before, and has not changed, is in `kept`: a killed scan goes on.

    Raises:
        ShardError: not a tar, cut short, or samples with different members.
    """
    return [_of_tar(folder, name, files[name], kept) for name in names]


def _of_tar(folder: Folder, name: str, listed: Listed, kept: Path) -> Part:
    key = sha256_of_bytes(f"{FORMAT} {folder.url}/{name} {listed.size} {listed.tag}".encode())[:24]
    path = kept / f"{key}.npz"
    with locked(kept / f"{key}.lock"):
        if path.exists():
            with np.load(path) as saved:
                extensions = tuple(saved["extensions"].tolist())
                return Part(name, saved["ids"], extensions, saved["offsets"], saved["sizes"], int(saved["bytes"]))
        where = f"{folder.url}/{name}"
        samples, size = retrying(where, lambda: _scan_once(folder, name))
        part = make_part(where, name, samples, size)
        buffer = io.BytesIO()
        np.savez(
            buffer, extensions=np.array(part.extensions, dtype=np.str_), ids=part.ids, offsets=part.offsets,
            sizes=part.sizes, bytes=part.bytes,
        )  # fmt: skip
        Storage(kept).write_bytes(path.name, buffer.getvalue())
    return part


def _scan_once(folder: Folder, name: str) -> tuple[list[tuple[str, Member]], int]:
    where = f"{folder.url}/{name}"
    with folder.open(name) as file:
        try:
            return group(where, scan(file)), file.seek(0, io.SEEK_END)
        except tarfile.TarError as error:
            raise ShardError(f"{where}: {error}: it is no tar, or was not brought whole; bring it again") from error


def scan(file: io.BufferedIOBase) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every regular file in a tar.

    Raises:
        tarfile.TarError: no tar, or something else than its end after a member.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if info.isreg():
                yield info.name, info.offset_data, info.size
        # tarfile takes whatever it cannot read for the end
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no header at byte {tar.offset}")


def group(where: str, members: Iterator[tuple[str, int, int]]) -> list[tuple[str, Member]]:
    """Neighbours with one key are a sample, as webdataset groups them.

    Raises:
        ShardError: a key comes again after another one, or an extension twice.
    """
    samples: dict[str, Member] = {}
    last = ""
    for name, offset, size in members:
        matched = KEY.match(name)
        if META.match(name) or not matched:
            continue
        key, extension = matched[1], matched[2].lower()
        if key != last and key in samples:
            raise ShardError(f"{where}: the members of sample {key} do not stand together; pack it again")
        if extension in samples.setdefault(key, {}):
            raise ShardError(f"{where}: {name} stands there twice; pack it again")
        samples[key][extension] = (offset, size)
        last = key
    return list(samples.items())
