"""What is in a folder of shards, and where: samples of each shard, ids, byte offsets, hashes.

Our own shards say it themselves (the sidecar NNNNN.json, docs/run-directory.md). Tars of another maker are read
through once, headers only. Either way the index is a folder of a few arrays in the cache, mapped into memory: all
processes of a machine share its pages, and millions of samples cost a process nothing until it looks at them.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.hashing import sha256_of_bytes
from common.shard_format import read_array, read_record
from training.data.folder import Folder, Listed, ShardError, cache_dir, locked
from training.data.index_scan import FORMAT, HOLE, Part, read_sidecars, read_tars

COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
SHOWN = 5  # of a list of names in an error


class ShardIndex:
    """The index of a folder of shards; `read_index` makes it.

    `url`; `names`: of the tars, in order; `counts`, `bytes`: int64 (shards,), samples (holes included) and size of each
    tar; `sha256`: of each tar, "" where nobody wrote it down; `revisions`: int64 (shards,); `extensions`: of the members
    of every sample, in their order; `content_hash`: of the recipe that made the shards; `encoder`, `identity_dim`: who
    made the identities and how long they are, "" and 0 where there are none; `hash`: of all of it, machine-independent:
    what a checkpoint remembers; `sources`: of each tar, what it was computed from, "" where it is no cache.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        meta: dict[str, Any] = json.loads((self.path / "index.json").read_text())
        self.url: str = meta["url"]
        self.names: list[str] = meta["names"]
        self.sha256: list[str] = meta["sha256"]
        self.extensions: tuple[str, ...] = tuple(meta["extensions"])
        self.content_hash: str = meta["content_hash"]
        self.encoder: str = meta["encoder"]
        self.identity_dim: int = meta["identity_dim"]
        self.hash: str = meta["hash"]
        self.foreign: bool = meta["foreign"]
        self.sources: list[str] = meta["sources"]
        self.counts, self.bytes, self.revisions = (
            np.array(meta[key], dtype=np.int64) for key in ("counts", "bytes", "revisions")
        )
        self._starts = np.append(0, np.cumsum(self.counts))
        # mapped now, not when first read: a lock of functools.cached_property may be held while a process is forked
        self._ids, self._offsets, self._sizes = (
            np.load(self.path / f"{name}.npy", mmap_mode="r") for name in ("ids", "offsets", "sizes")
        )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def samples(self) -> int:
        return int(self._starts[-1])

    def _row(self, shard: int, position: int) -> int:
        if not 0 <= position < self.counts[shard]:
            raise IndexError(f"{self.names[shard]} has no sample {position}; it has {self.counts[shard]}")
        return int(self._starts[shard]) + position

    def id(self, shard: int, position: int) -> str:
        return self._ids[self._row(shard, position)].decode()

    def ids(self, shard: int) -> list[str]:
        return [text.decode() for text in self._ids[self._starts[shard] : self._starts[shard + 1]]]

    def places(self, rows: np.ndarray) -> list[tuple[int, int]]:
        """(shard, position) of samples by their number in the order of the shards."""
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        return list(zip(shards.tolist(), (rows - self._starts[shards]).tolist(), strict=True))

    def find(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """{id: (shard, position)} of those ids that are here."""
        wanted = np.array([name.encode() for name in names], dtype=bytes)
        places = self.places(np.flatnonzero(np.isin(self._ids, wanted)))
        return {self.id(*place): place for place in places}

    def members(self, shard: int, position: int) -> dict[str, tuple[int, int]]:
        """{extension: (offset, size)}: where a sample's bytes stand in its tar. Empty for a hole."""
        row = self._row(shard, position)
        offsets, sizes = self._offsets[row].tolist(), self._sizes[row].tolist()
        return {
            extension: (offset, size)
            for extension, offset, size in zip(self.extensions, offsets, sizes, strict=True)
            if offset >= 0
        }

    def expect(
        self, *, extensions: tuple[str, ...] = (), identity_dim: int | None = None, encoder: str | None = None
    ) -> None:
        """Are these the shards that the model is for?

        Args:
            extensions: members that every sample must have.
            identity_dim: length of an identity vector.
            encoder: a name ("arcface"), or a whole fingerprint ("arcface-0123456789ab"), which also stands for
                the encoder's weights and channel order.

        Raises:
            ShardError: they are not; names both sides.
        """
        if missing := [name for name in extensions if name not in self.extensions]:
            raise ShardError(
                f"{self.url}: samples have no .{', no .'.join(missing)} (they have {', '.join(self.extensions)});"
                " pack them with it, or turn off what needs it"
            )
        if identity_dim is not None and identity_dim != self.identity_dim:
            found = f"identities of {self.identity_dim} numbers" if self.identity_dim else "no identities"
            raise ShardError(
                f"{self.url}: has {found} ({self.encoder or 'encoder unknown'}), the model takes {identity_dim};"
                " choose the model configuration of this encoder, or curate with the model's"
            )
        if encoder is None or encoder == self.encoder or encoder == self.encoder.rpartition("-")[0]:
            return
        same = encoder.rpartition("-")[0] == self.encoder.rpartition("-")[0] != ""
        why = ": the same encoder with other weights, alignment or channel order" if same else ""
        raise ShardError(
            f"{self.url}: identities are from {self.encoder or 'an unknown encoder'}, the model was made for {encoder}{why}"
        )


def read_index(url: str | os.PathLike[str], cache: str | os.PathLike[str] | None = None) -> ShardIndex:
    """The index of a folder of shards, from the cache if nothing changed since.

    Args:
        url: a local folder, s3://, gs://, http(s)://.
        cache: local folder to keep it in; None: see `training.data.folder.cache_dir`.

    Raises:
        ShardError: no shards, unfinished, of different recipes, or not readable by seeking; names file and remedy.
    """
    folder, kept = Folder(url), cache_dir(cache) / "index"
    files = folder.files()
    tars = _tars(folder, files)
    numbered = [name for name in files if name.endswith(".json") and name[:-5].isdecimal()]
    sidecars = [f"{name[:-4]}.json" for name in tars if f"{name[:-4]}.json" in files]
    if orphans := [name for name in numbered if f"{name[:-5]}.tar" not in tars]:
        raise ShardError(f"{folder.url}: {_some(orphans)} without its tar: bring the tar, or pack again")
    if sidecars and (without := [name for name in tars if f"{name[:-4]}.json" not in files]):
        raise ShardError(
            f"{folder.url}: {_some(without)} without its sidecar (.json): packing has not ended, or was killed;"
            " run the curation again, it goes on where it stopped"
        )
    # a listing that shows times or tags tells whether anything changed; otherwise the sidecars' bytes do
    parts: list[Part] = []
    if sidecars and not all(files[name].tag for name in sidecars):
        parts, seen = read_sidecars(folder, sidecars, files)
    else:
        files |= {name: folder.info(name) for name in tars if files[name].size is None}
        seen = {name: f"{files[name].size} {files[name].tag}" for name in [*sidecars, *tars]}
    spelled = json.dumps([FORMAT, folder.url, sorted(seen.items())])
    target = kept / sha256_of_bytes(spelled.encode())[:24]
    with locked(kept / f"{target.name}.lock"):
        if not (target / "index.json").exists():
            if sidecars:
                parts = parts or read_sidecars(folder, sidecars, files)[0]
                _check_finished(folder, files, parts)
            else:
                parts = read_tars(folder, tars, files, kept / "tars")
            _write(target, folder, parts, foreign=not sidecars)
    return ShardIndex(target)


def _tars(folder: Folder, files: dict[str, Listed]) -> list[str]:
    if compressed := [name for name in files if name.endswith(COMPRESSED)]:
        raise ShardError(
            f"{folder.url}: {_some(compressed)} is compressed: nothing can be found in it without reading all that"
            " stands before; unpack it to a plain .tar (images do not get smaller by it)"
        )
    tars = [name for name in files if name.endswith(".tar")]
    if not tars:
        raise ShardError(f"{folder.url}: no .tar in it: give the folder that holds the shards (RUN/shards/NAME)")
    return tars


def _check_finished(folder: Folder, files: dict[str, Listed], parts: list[Part]) -> None:
    """Every shard of the plan is there, of one recipe, and no sample twice."""
    for part in parts:
        if part.content_hash != parts[0].content_hash:
            raise ShardError(
                f"{folder.url}: {parts[0].name} was made by recipe {parts[0].content_hash}, {part.name} by"
                f" {part.content_hash}; a folder holds the shards of one recipe"
            )
    names = {part.name for part in parts}
    if "sizes.json" in files:
        planned = folder.sizes()
        if gone := sorted(set(planned) - names):
            raise ShardError(
                f"{folder.url}: {_some(gone)} is in sizes.json but not in the folder: bring it, or pack again"
            )
    elif stems := [name[:-4] for name in names if name[:-4].isdecimal()]:
        if gone := sorted(set(range(max(map(int, stems)) + 1)) - set(map(int, stems))):
            raise ShardError(f"{folder.url}: no {gone[0]:05d}.tar among {len(names)} shards: bring it, or pack again")
    ids, counts = np.unique(np.concatenate([part.ids for part in parts]), return_counts=True)
    if counts.max(initial=0) > 1:
        raise ShardError(f"{folder.url}: sample {ids[counts.argmax()].decode()} stands there twice; pack again")


def _write(target: Path, folder: Folder, parts: list[Part], *, foreign: bool) -> None:
    """Whole, under its final name, or not at all."""
    extensions = _common_extensions(folder, parts)
    encoder, dim = _identity(folder, parts)
    total = "".join(f"{part.name} {part.fingerprint}\n" for part in parts)
    meta = {
        "url": folder.url,
        "names": [part.name for part in parts],
        "sha256": [part.sha256 for part in parts],
        "counts": [len(part.ids) for part in parts],
        "bytes": [part.bytes for part in parts],
        "revisions": [part.revision for part in parts],
        "extensions": extensions,
        "content_hash": parts[0].content_hash,
        "encoder": encoder,
        "identity_dim": dim,
        "hash": sha256_of_bytes(total.encode()),
        "foreign": foreign,
        "sources": [part.source for part in parts],
    }
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        np.save(temporary / "ids.npy", np.concatenate([part.ids for part in parts]))
        for name in ("offsets", "sizes"):
            np.save(temporary / f"{name}.npy", np.concatenate([part.columns(name, extensions) for part in parts]))
        (temporary / "index.json").write_text(json.dumps(meta))
        shutil.rmtree(target, ignore_errors=True)  # without index.json: nothing that a reader would open
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _common_extensions(folder: Folder, parts: list[Part]) -> tuple[str, ...]:
    whole = [part for part in parts if part.extensions]
    if not whole:
        raise ShardError(f"{folder.url}: no sample in any of its {len(parts)} shards")
    for part in whole:
        if set(part.extensions) != set(whole[0].extensions):
            raise ShardError(
                f"{folder.url}: samples of {part.name} have {', '.join(part.extensions)}, those of {whole[0].name}"
                f" {', '.join(whole[0].extensions)}; every sample must have the same members: pack it again"
            )
    return whole[0].extensions


def _identity(folder: Folder, parts: list[Part]) -> tuple[str, int]:
    """(encoder, length) of the identities, from the first sample that is not a hole."""
    part = next(part for part in parts if part.extensions)
    row = int(np.flatnonzero(part.offsets[:, 0] != HOLE)[0])
    place = dict(
        zip(part.extensions, zip(part.offsets[row].tolist(), part.sizes[row].tolist(), strict=True), strict=True)
    )

    def member(extension: str) -> bytes:
        offset, size = place[extension]
        return folder.read(part.name, offset, offset + size)

    if "identity.npy" not in place:
        return "", 0
    try:
        (length,) = read_array(member("identity.npy")).shape
        record = read_record(member("json")) if "json" in place else {}
    except ValueError as error:
        raise ShardError(
            f"{folder.url}/{part.name}: the first sample's .identity.npy is no vector, or its .json no JSON: {error}"
        ) from error
    return str(record.get("identity_encoder", "")), length


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
