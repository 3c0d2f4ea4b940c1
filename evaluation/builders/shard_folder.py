"""Reads curation's shards sample by sample, by what their sidecars say: ids, and the members that are asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from common.shard_format import ShardEntry, Sidecar
from common.storage import Storage
from evaluation.sets import SetError

KEPT = 32  # sidecars in memory


class ShardFolder:
    """A folder of NNNNN.tar with their sidecars, on any filesystem.

    Raises:
        SetError: there are none.
    """

    def __init__(self, place: str):
        self.place, self.storage = place, Storage(place)
        self.stems = [name.removesuffix(".json") for name in self.storage.glob("[0-9]*.json")]
        if not self.stems:
            raise SetError(f"{place}: holds no shards: run `make curate` first, or name a folder of shards")
        self._entries = lru_cache(KEPT)(self._read_sidecar)

    def ids(self) -> list[tuple[str, str]]:
        """(id, shard) of all samples with a picture, by id."""
        return sorted((entry.id, stem) for stem in self.stems for entry in self._entries(stem).values())

    def members(self, stem: str, sample: str, *extensions: str) -> list[bytes]:
        """These members of a sample, b"" for what it has not."""
        places = [self._entries(stem)[sample].members.get(extension) for extension in extensions]
        return [self.storage.read_bytes(f"{stem}.tar", *place) if place else b"" for place in places]

    def each(self, *extensions: str) -> Iterator[tuple[str, list[bytes]]]:
        """(id, these members) of every sample. A shard from elsewhere is fetched whole, not in a request a sample."""
        for stem in self.stems:
            with self._opened(stem) as tar:
                for sample, entry in self._entries(stem).items():
                    found = []
                    for extension in extensions:
                        offset, size = entry.members.get(extension, (0, 0))
                        tar.seek(offset)
                        found.append(tar.read(size))
                    yield sample, found

    @contextmanager
    def _opened(self, stem: str) -> Iterator[BinaryIO]:
        if self.storage.is_local:
            with open(self.storage.path(f"{stem}.tar"), "rb") as file:
                yield file
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "shard.tar"
            self.storage.get_file(f"{stem}.tar", local)
            with local.open("rb") as file:
                yield file

    def _read_sidecar(self, stem: str) -> dict[str, ShardEntry]:
        try:
            sidecar = Sidecar.model_validate_json(self.storage.read_bytes(f"{stem}.json"))
        except ValidationError as error:
            raise SetError(f"{self.storage.url(stem)}.json: is no sidecar of a shard: pack the shards again") from error
        return {entry.id: entry for entry in sidecar.index if "jpg" in entry.members}
