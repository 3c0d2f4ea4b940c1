"""A run directory on any filesystem: layout, atomic writes, manifest.

A run is a folder that only grows. Each file becomes visible whole, under its final name, or not at all:
on a local disk by a temporary name and a rename, on an object store by one PUT. So a reader never needs a
lock, and "is this step done?" is always "does this file exist?".

    RUN/manifest.json                     recipe as resolved, content hash, code version, weights, seeds
    RUN/candidates/*.parquet              one row an image, every one with its rank
    RUN/selected/*.parquet                the candidates to fetch, in id order
    RUN/fetched/ROUND/PART.{tar,parquet}  bytes, and one row an attempt
    RUN/fetched/snapshot.parquet          id -> tar, offset, size, sha256
    RUN/scores/images/PART*.parquet       decode status and facts of each image
    RUN/scores/FILTER-FINGERPRINT/*       one filter's evidence
    RUN/cuts/NAME/                        thresholds.yaml, verdicts, funnel.json, plan.parquet
    RUN/annotations/ENCODER-FINGERPRINT/* chosen face, landmarks, identity
    RUN/shards/NAME/NNNNN.{tar,json}      what the trainer reads
    RUN/report.html
"""

from __future__ import annotations

import io
import json
import os
import uuid
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

CODE_VERSION = "0.1.0"


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that is hashed and written: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Run:
    """A run directory. `Run("runs/a")`, `Run("s3://bucket/runs/a")`; cheap to make, safe to pickle.

    Every path in its methods is relative to the run's root and uses "/".
    """

    def __init__(self, root: str | os.PathLike[str]):
        text = os.fspath(root)
        self.root = text if "://" in text else str(Path(text).expanduser().resolve())

    def __repr__(self) -> str:
        return f"Run({self.root!r})"

    def __reduce__(self) -> tuple[type[Run], tuple[str]]:
        return Run, (self.root,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @cached_property
    def _fs_and_base(self) -> tuple[fsspec.AbstractFileSystem, str]:
        # what another worker wrote a moment ago must be seen
        return fsspec.core.url_to_fs(self.root, use_listings_cache=False)

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        return self._fs_and_base[0]

    @property
    def is_local(self) -> bool:
        return "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def path(self, relative: str) -> str:
        """The path as `self.fs` understands it."""
        return f"{self._fs_and_base[1].rstrip('/')}/{relative}" if relative else self._fs_and_base[1]

    def url(self, relative: str) -> str:
        """The path as a person, or another library, would name it."""
        return f"{self.root.rstrip('/')}/{relative}"

    # -- reading ---------------------------------------------------------------------------------------------

    def exists(self, relative: str) -> bool:
        return self.fs.exists(self.path(relative))

    def glob(self, pattern: str) -> list[str]:
        """Relative paths that match, sorted. Files being written are never among them."""
        self.fs.invalidate_cache()
        base = self.path("").rstrip("/") + "/"
        found = (str(hit) for hit in self.fs.glob(self.path(pattern)))
        return sorted(hit[len(base) :] for hit in found if not Path(hit).name.startswith("."))

    def read_bytes(self, relative: str, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        return self.fs.cat_file(self.path(relative), start=offset, end=end)

    def read_json(self, relative: str) -> Any:
        return json.loads(self.read_bytes(relative))

    def read_table(self, relative: str, columns: list[str] | None = None) -> pa.Table:
        # a native buffer: pyarrow's threads may outlive the interpreter when they read a Python file object
        return pq.ParquetFile(pa.BufferReader(self.read_bytes(relative))).read(columns=columns, use_threads=False)

    def read_tables(self, pattern: str, columns: list[str] | None = None) -> pa.Table | None:
        """All tables that match, one below the other in the order of their names; None where there is none."""
        tables = [self.read_table(path, columns) for path in self.glob(pattern)]
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    # -- writing: whole, or not at all ------------------------------------------------------------------------

    def write_bytes(self, relative: str, data: bytes) -> None:
        target = self.path(relative)
        if not self.is_local:
            self.fs.pipe_file(target, data)
            return
        final = Path(target)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)

    def write_json(self, relative: str, value: Any) -> None:
        self.write_bytes(relative, (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())

    def write_table(self, relative: str, table: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(relative, buffer.getvalue())

    def put_file(self, local: str | os.PathLike[str], relative: str) -> None:
        """Move a finished local file to its final name in the run."""
        if not self.is_local:
            self.fs.put_file(os.fspath(local), self.path(relative))
            Path(local).unlink()
            return
        final = Path(self.path(relative))
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
        try:
            # shutil.move would copy under the final name when the folders are on two file systems
            with open(local, "rb") as source, open(temporary, "wb") as file:
                while block := source.read(1 << 24):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)
        Path(local).unlink()

    def sweep(self) -> list[str]:
        """Delete temporary files that a killed writer left behind. Called once, by the driver, before a step."""
        if not self.is_local or not Path(self.root).exists():
            return []
        left = [path for path in Path(self.root).rglob(".*.tmp") if path.is_file()]
        for path in left:
            path.unlink(missing_ok=True)
        return [str(path) for path in left]

    # -- manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        return self.read_json("manifest.json") if self.exists("manifest.json") else {}

    def update_manifest(self, **entries: Any) -> dict[str, Any]:
        """Add entries; those that are there already are replaced."""
        manifest = {**self.manifest(), **entries, "code_version": CODE_VERSION}
        self.write_json("manifest.json", manifest)
        return manifest


def chunks(items: list[Any], size: int) -> Iterable[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
