"""What a run must share with the undisturbed one: the shards' bytes, every id once, a ledger that agrees, no leavings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

from common.hashing import sha256_of_bytes
from curation.run_directory.run import Run
from tests.world import ROOT

NAME = "small"  # of the cut, as the small world's recipe has it


@dataclass(frozen=True)
class Reference:
    """Of the undisturbed run: sha256 of everything in its shards' folder, what kinds of files there are, and its tars
    without an image, which no table names."""

    hashes: dict[str, str]
    kinds: frozenset[str]
    orphans: int

    @classmethod
    def of(cls, run: Run) -> Reference:
        return cls(shard_hashes(run), frozenset(map(kind_of, files_of(run))), orphans(run))


def problems(run: Run, expected: Reference) -> list[str]:
    """Everything in which a finished run differs from what it must be; [] if it is as good as undisturbed."""
    found = differences(shard_hashes(run), expected.hashes)
    ids = [
        entry["id"]
        for path in run.glob(f"shards/{NAME}/[0-9]*.json")
        for entry in json.loads(run.read_bytes(path))["index"]
    ]
    found += [f"{text} is {times} times in the shards" for text, times in Counter(ids).items() if times > 1]
    paths = files_of(run)
    found += [f"left over: {path}" for path in paths if path.endswith(".tmp")]
    found += [f"no such file in an undisturbed run: {path}" for path in paths if kind_of(path) not in expected.kinds]
    report = subprocess.run(
        [sys.executable, "curation/report.py", run.root, "--no-html"], cwd=ROOT, capture_output=True, text=True
    )
    if report.returncode:
        found.append(f"the ledger: {' '.join((report.stdout + report.stderr).split())[-300:]}")
    return found


def differences(mine: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Of two folders of shards, by name and sha256."""
    missing, more = sorted(expected.keys() - mine.keys()), sorted(mine.keys() - expected.keys())
    other = [name for name in sorted(mine.keys() & expected.keys()) if mine[name] != expected[name]]
    said = (("missing", missing), ("not in the undisturbed run", more), ("other bytes", other))
    return [f"shards, {what}: {', '.join(names)}" for what, names in said if names]


def shard_hashes(run: Run) -> dict[str, str]:
    paths = run.glob(f"shards/{NAME}/*")
    return {path.rsplit("/", 1)[-1]: sha256_of_bytes(run.read_bytes(path)) for path in paths}


def files_of(run: Run) -> list[str]:
    base = run.path("").rstrip("/") + "/"
    return sorted(path.removeprefix(base) for path in run.fs.find(base))


def kind_of(path: str) -> str:
    """A path with its hashes and numbers struck out: all files of a kind are one."""
    return re.sub(r"\d+", "N", re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "HASH", path))


def orphans(run: Run) -> int:
    """Tars that no table names: a fetch that was killed between the two may leave them (docs/guarantees.md)."""
    tables = [run.read_table(path, ["tar"]) for path in run.glob("fetched/[0-9]*/*.parquet")]
    named = {name for table in tables for name in table["tar"].to_pylist()}
    return len(set(run.glob("fetched/[0-9]*/*.tar")) - named)
