"""A small world: real photos, a real recipe, real steps, in seconds. And the driver as a user starts it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from common.hashing import sha256_of_file
from curation.cutting.cut import current_pass
from curation.pipeline import Curation
from curation.recipe import recipe as recipes
from curation.run_directory.run import Run
from curation.sources.urls import MACROS

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = 44


def write_small_world(sample: Path, folder: Path) -> None:
    """FaceCaption rows of the URLs that misbehave, of all made files, and of a fixed choice of photos."""
    behaviour = json.loads((sample / "behaviour.json").read_text())["urls"]
    wanted, photos = set(), 0
    for url, entry in sorted(behaviour.items(), key=lambda item: hashlib.sha1(item[0].encode()).hexdigest()):
        slow = entry.get("expect") in ("timeout", "deadline", "too_many_bytes")
        if "made/" in entry.get("file", "") or (entry["do"] != "file" and not slow):
            wanted.add(url)
        elif entry["do"] == "file" and photos < PHOTOS:
            wanted.add(url)
            photos += 1
    ids = set(url_ids(sorted(wanted)))
    tables = [pq.read_table(path) for path in sorted((sample / "facecaption").glob("*.parquet"))]
    table = pa.concat_tables(tables)
    firsts = [(url or "").split(", ")[0] for url in table["url"].to_pylist()]
    keep = [text in ids for text in url_ids(firsts)]
    (folder / "facecaption").mkdir(parents=True)
    pq.write_table(table.filter(pa.array(keep)), folder / "facecaption" / "part-00000.parquet")
    tree = yaml.safe_load((ROOT / "curation" / "recipe" / "sample.yaml").read_text())
    tree["name"] = "small"
    tree["sources"] = {"facecaption": [str(folder / "facecaption" / "*.parquet")]}
    tree["select"] |= {"fraction": 0.65, "overprovision": 1.5}
    tree["fetch"] |= {"part_size": 12, "timeout": 1.5, "deadline": 3, "local_failures_after": 1000}
    tree["score"] = {"audit_share": 0.0, "audit_minimum": 0, "order": "paper", "workers": 1, "batch": 4}
    tree["pack"] = {"samples_per_shard": 8}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))


def small_recipe(world: Path, *assignments: str) -> recipes.Recipe:
    return recipes.load(world / "recipe.yaml", list(assignments))


def curate(root: Path, world: Path, *assignments: str, name: str | None = None) -> Curation:
    """All steps, in this process, on the shared Ray."""
    curation = Curation(Run(root), small_recipe(world, *assignments), name)
    curation.curate()
    return curation


def fork(root: Path, into: Path, *folders: str) -> Path:
    """A run directory that has only these folders of another: what a run killed there leaves behind."""
    into.mkdir(parents=True)
    shutil.copy(root / "manifest.json", into / "manifest.json")
    for folder in folders:
        shutil.copytree(root / folder, into / folder)
    return into


def start_driver(
    root: Path | str,
    recipe: Path,
    address: str,
    *options: str,
    output: IO[str] | int = subprocess.PIPE,
    **environment: str,
) -> subprocess.Popen[str]:
    """`python jobs/curate.py`, in a process of its own, on the Ray at `address`; what it says goes to `output`."""
    command = [sys.executable, str(ROOT / "jobs" / "curate.py"), "--recipe", str(recipe), "--run", str(root), *options]
    return subprocess.Popen(
        command,
        env={**os.environ, "RAY_ADDRESS": address, **environment},
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shard_hashes(root: Path, name: str = "small") -> dict[str, str]:
    """sha256 of everything in a cut's folder of shards."""
    return {path.name: sha256_of_file(path) for path in sorted((root / "shards" / name).iterdir())}


def shard_ids(root: Path, name: str = "small") -> list[str]:
    sidecars = sorted(path for path in (root / "shards" / name).glob("[0-9]*.json"))
    return [entry["id"] for path in sidecars for entry in json.loads(path.read_text())["index"]]


def verdicts_of(root: Path, name: str = "small") -> dict[str, dict[str, Any]]:
    table = Run(root).read_tables(f"{current_pass(Run(root), name)}/*.parquet")
    assert table is not None
    return {row["id"]: row for row in table.to_pylist()}


def url_ids(urls: list[str]) -> list[str | None]:
    """The id of each URL, as the sources make it; None where it is no URL."""
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        connection.register("urls", pa.table({"i": range(len(urls)), "url": pa.array(urls, pa.string())}))
        return [found for (found,) in connection.execute("SELECT url_id(url) FROM urls ORDER BY i").fetchall()]
