"""Features of pictures, by content hash and metric, each made once; by actors of Ray Data where there are many pictures.

OUT/features/METRIC-FINGERPRINT/PART.parquet     some pictures' features; the file is the commit
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.cluster.nodes import require_alike
from common.cluster.pools import Pool, cpu_pool, gpu_pool, machines_of
from common.cluster.runtime import connected
from common.cluster.work import map_with_actors
from common.decode import Undecodable, decode
from common.decode.limits import ImageLimits
from common.errors import UserError
from common.hashing import sha256_of_bytes
from common.progress import ProgressBar
from common.storage import Storage
from evaluation.metrics.base import Features, Metric, Sources, Unavailable
from evaluation.metrics.registry import METRICS

LIMITS = ImageLimits(min_side=1, working_side=100_000)  # pictures are scored at their full size
PART, PART_SECONDS = 50, 60  # pictures a file of features, or as many as so long takes: what a kill costs
MANY = 500  # pictures; fewer are done before a Ray of one's own has started and every actor has loaded its models


def read_features(metric: Metric, out: Storage) -> dict[str, Features]:
    """What is kept of a metric's features, by the picture's sha256; `error` among them: null, or why it cannot be read."""
    return {row["sha256"]: row for part in _parts(metric, out) for row in out.read_table(part).to_pylist()}


def make_features(
    metrics: Mapping[str, Metric],
    hashes: Mapping[Path, str],
    out: Storage,
    sources: Sources,
    workers: int | None = None,
    copied: Copied | None = None,
) -> None:
    """Keep in `out` what is missing of the pictures' features. A picture is decoded once for all metrics that lack it.

    Args:
        metrics: by their title in the registry.
        hashes: sha256 of each picture.
        workers: actors of Ray; None: none for few pictures, else one a GPU or one a CPU.
        copied: where nodes read the pictures that are copies; None: they see the same files.

    Raises:
        NodeError: a node of the cluster does not see the pictures, or has not our code.
    """
    Storage(out.url("features")).sweep()  # what a kill left
    files = {key: str(file) for file, key in hashes.items()}
    lacking: dict[str, list[str]] = {key: [] for key in files}
    for title, metric in metrics.items():
        kept = [out.read_table(part, ["sha256"])["sha256"].to_pylist() for part in _parts(metric, out)]
        for key in set(files).difference(*kept):
            lacking[key].append(title)
    waiting = [key for key in files if lacking[key]]
    rows = [
        {"keys": keys, "files": [files[key] for key in keys], "lacking": [lacking[key] for key in keys]}
        for keys in (waiting[start : start + PART] for start in range(0, len(waiting), PART))
    ]
    with ProgressBar("score", len(files), "pictures") as progress:
        progress.advance(len(files) - len(waiting))
        if workers is None and len(waiting) < MANY:
            maker = FeatureMaker(metrics, out)
            for row in rows:
                for key, file, titles in zip(row["keys"], row["files"], row["lacking"], strict=True):
                    maker.add(key, Path(file).read_bytes(), titles)
                    progress.advance(1)
                maker.commit()
            return
        for row in _on_ray(rows, sources, list(metrics), out, workers, copied):
            progress.advance(row["pictures"])


class FeatureMaker:
    """Makes the features that pictures lack, and commits those of a part, or of a minute: a file a metric."""

    def __init__(self, metrics: Mapping[str, Metric], out: Storage):
        self.metrics, self.out = metrics, out
        self._fresh: dict[str, list[Features]] = {}
        self._begun = time.monotonic()

    def add(self, key: str, data: bytes, titles: Sequence[str]) -> None:
        """`key`: the picture's sha256; `titles`: of the metrics that lack it."""
        for title, row in _features({title: self.metrics[title] for title in titles}, data):
            self._fresh.setdefault(title, []).append({"sha256": key, **row})
        if time.monotonic() - self._begun > PART_SECONDS:
            self.commit()

    def commit(self) -> None:
        for title, rows in self._fresh.items():
            metric = self.metrics[title]
            name = sha256_of_bytes("".join(row["sha256"] for row in rows).encode())[:16]
            schema = metric.schema.append(pa.field("error", pa.string()))
            self.out.write_table(f"{_folder(metric)}/{name}.parquet", pa.Table.from_pylist(rows, schema=schema))
        self._fresh, self._begun = {}, time.monotonic()


@dataclass(frozen=True)
class Copied:
    """A folder of the driver's whose files are copies of those in a bucket."""

    folder: str
    storage: Storage

    def read(self, file: str) -> bytes:
        """A picture's bytes, where the folder is another machine's, too."""
        inside = Path(file).is_relative_to(self.folder)
        if not inside or Path(file).is_file():
            return Path(file).read_bytes()
        return self.storage.read_bytes(Path(file).relative_to(self.folder).as_posix())


class FeatureActor:
    """An actor of Ray Data: opens the metrics where it is, and makes a part a call."""

    def __init__(self, titles: list[str], sources: Sources, out: Storage, copied: Copied | None):
        self.read = copied.read if copied else lambda file: Path(file).read_bytes()
        try:
            self.maker = FeatureMaker({title: METRICS[title](sources) for title in titles}, out)
        except Unavailable as error:
            raise UserError(f"a node lacks what the driver has: {error}") from error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        for key, file, titles in zip(row["keys"], row["files"], row["lacking"], strict=True):
            self.maker.add(key, self.read(file), list(titles))
        self.maker.commit()
        return {"pictures": len(row["keys"])}


def _on_ray(
    rows: list[dict[str, Any]],
    sources: Sources,
    titles: list[str],
    out: Storage,
    workers: int | None,
    copied: Copied | None,
) -> Iterator[dict[str, Any]]:
    import ray

    if not rows:
        return
    with connected(None if workers is None else workers):
        require_alike(lambda: _require_file(rows[0]["files"][0]) if copied is None else None)
        device, pool = _pool(sources.device, workers, len(rows))
        arguments = {"titles": titles, "sources": replace(sources, device=device), "out": out, "copied": copied}
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        yield from map_with_actors(dataset, FeatureActor, arguments, pool).iter_rows()


def _pool(device: str, workers: int | None, parts: int) -> tuple[str, Pool]:
    import ray

    machines = machines_of(ray.nodes())
    if device != "cpu" and any(machine.gpus for machine in machines):
        return "cuda", gpu_pool(machines, workers, parts, 1)
    return "cpu", cpu_pool(machines, workers, parts)


def _require_file(file: str) -> None:
    if not Path(file).is_file():
        raise UserError(f"does not see {file}: the pictures must be in a folder that all nodes share")


def _folder(metric: Metric) -> str:
    return f"features/{metric.name}-{metric.fingerprint}"


def _parts(metric: Metric, out: Storage) -> list[str]:
    return out.glob(f"{_folder(metric)}/*.parquet")


def _features(metrics: Mapping[str, Metric], data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        picture = decode(data, LIMITS, full_size=True)
    except Undecodable as error:
        for title, metric in metrics.items():
            yield title, {**dict.fromkeys(field.name for field in metric.columns), "error": str(error)}
        return
    for title, metric in metrics.items():
        yield title, {**metric.features(picture.rgb), "error": None}
