"""Golden verdicts of the whole sample, one file for each face detector (its file's hash is in the name).

After a filter or a threshold was changed on purpose: `make curate`, look at the report, then
`python -m tests.goldens runs/sample` writes the file anew; its diff is the review.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

from curation.cutting.cut import current_pass
from curation.filters.registry import check_names, filter_classes
from curation.run_directory.run import Run
from curation.run_directory.snapshot import read_snapshot, require_counts

FOLDER = Path(__file__).resolve().parent / "goldens"
COLUMNS = [
    "id",
    "sha256",
    "verdict",
    "reason",
    *check_names(item.name for item in filter_classes() if not item.optional),
]


def verdicts(run: Run, name: str = "sample") -> list[dict[str, str]]:
    """One row an image of a run, in id order, as text."""
    snapshot = read_snapshot(run, require_counts(run), ["id", "sha256"]).to_pylist()
    hashes = {row["id"]: row["sha256"][:16] for row in snapshot}
    table = run.read_tables(f"{current_pass(run, name)}/*.parquet")
    assert table is not None
    rows = [{**row, "sha256": hashes[row["id"]], "reason": row["reason"] or ""} for row in table.to_pylist()]
    return sorted(({key: str(row[key]) for key in COLUMNS} for row in rows), key=lambda row: row["id"])


def path_for(manifest: dict[str, Any]) -> Path:
    (digest,) = (weight["sha256"] for weight in manifest["weights"] if weight["used_for"] == "faces")
    return FOLDER / f"sample-{manifest['detector']}-{digest[:12]}.csv"


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    run = Run(sys.argv[1])
    path = path_for(run.manifest())
    for old in FOLDER.glob(f"sample-{run.manifest()['detector']}-*.csv"):
        old.unlink()
    FOLDER.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(verdicts(run))
    print(f"{path}: {len(read(path))} verdicts")


if __name__ == "__main__":
    main()
