"""The shard format, all that curation and training share (docs/run-directory.md): NNNNN.tar and its sidecar NNNNN.json.

The members of a sample stand together in the tar, named ID.EXTENSION. The sidecar says where each member's bytes are,
and is written last: a tar without one is not finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
import tokenize
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from common.hashing import sha256_of_file
from common.storage import Storage


class ShardEntry(BaseModel):
    """One sample: its id and {extension: (offset, size)}, in bytes of the tar. A sample that was taken out has no members."""

    id: str = Field(pattern=r"^[^./\x00]+$")
    members: dict[str, tuple[NonNegativeInt, NonNegativeInt]]


class Sidecar(BaseModel):
    """NNNNN.json.

    `format`: of curation's shards, None where an earlier version or the encoder cache wrote them; `samples`: their number; `bytes`, `sha256`: of the tar; `revision`: how often samples were taken out; `content_hash`:
    of the recipe that made the shard; `plan`: `ids_hash` of the samples that were planned; `source`: sha256 of the shard
    that it was computed from, "" where it is no encoder cache; `index`: the samples in their order.
    """

    model_config = ConfigDict(extra="ignore")

    format: int | None = None
    shard: int = -1
    samples: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    revision: NonNegativeInt
    content_hash: str
    plan: str
    source: str = ""
    index: list[ShardEntry]

    def to_json(self) -> bytes:
        """As it is written. Not canonical: members are listed in the order in which they stand in the tar."""
        optional = {"format": self.format is None, "source": not self.source}
        tree = self.model_dump(exclude={name for name, absent in optional.items() if absent})
        return json.dumps(tree, separators=(",", ":")).encode()


def ids_hash(ids: Iterable[str]) -> str:
    """What a sidecar calls its plan: 16 hex digits of the ids in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def read_array(data: bytes) -> np.ndarray:
    """The numbers of a member .npy, as they are stored; nothing in it runs or takes more memory than it has bytes.

    Raises:
        ValueError: it is none, holds no numbers, or more or fewer than it says.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, columns_first, dtype = header(stream)
    # numpy leaves it to Python's parser to say what is wrong with a header
    except (KeyError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"no .npy file: {type(error).__name__}: {error}") from error
    if dtype.kind not in "fiub" or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"{len(data) - stream.tell()} bytes are not the numbers {dtype} {shape} that it announces")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if columns_first else "C").copy()


def read_record(data: bytes) -> dict[str, Any]:
    """A member .json.

    Raises:
        ValueError: not a JSON object.
    """
    try:
        record = json.loads(data)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if not isinstance(record, dict):
        raise ValueError(f"JSON, but a {type(record).__name__} and no object")
    return record


class TarWriter:
    """Writes samples to a tar with nothing in it that changes from one run to the next.

    `index`: where the bytes of what was added stand.
    """

    def __init__(self, file: BinaryIO):
        self.index: list[ShardEntry] = []
        self._file = file

    def add(self, sample_id: str, members: Iterable[tuple[str, bytes]]) -> None:
        """`members`: (extension, bytes), in the order in which they are to stand."""
        places = {}
        for extension, data in members:
            info = tarfile.TarInfo(f"{sample_id}.{extension}")
            info.size, info.mode = len(data), 0o644
            places[extension] = (self._file.tell() + tarfile.BLOCKSIZE, len(data))
            # what tarfile's own `addfile` writes, which copies each header and each body first
            self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
            self._file.write(data)
            self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
        self.index.append(ShardEntry(id=sample_id, members=places))

    def close(self) -> None:
        """Write the tar's end; the file stays open."""
        end = self._file.tell() + 2 * tarfile.BLOCKSIZE
        self._file.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))


def write_tar(file: BinaryIO, samples: Iterable[tuple[str, Iterable[tuple[str, bytes]]]]) -> list[ShardEntry]:
    """Write (id, members) of all samples to a tar, one sample in memory at a time; returns where they stand."""
    tar = TarWriter(file)
    for sample_id, members in samples:
        tar.add(sample_id, members)
    tar.close()
    return tar.index


def publish_shard(
    storage: Storage, stem: str, tar: Path, index: list[ShardEntry], *,
    shard: int, content_hash: str, revision: int = 0, source: str = "", format: int | None = None,
) -> None:  # fmt: skip
    """Move a finished local tar to `stem`.tar in `storage`, then write `stem`.json."""
    sidecar = Sidecar(
        format=format,
        shard=shard,
        samples=len(index),
        bytes=tar.stat().st_size,
        sha256=sha256_of_file(tar),
        revision=revision,
        content_hash=content_hash,
        plan=ids_hash(entry.id for entry in index),
        source=source,
        index=index,
    )
    storage.put_file(tar, f"{stem}.tar")
    storage.write_bytes(f"{stem}.json", sidecar.to_json())
