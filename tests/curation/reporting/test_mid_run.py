"""A report of a run that is under way in a bucket: its files come while the report reads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from curation.report import main
from curation.run_directory.run import Run
from tests.servers.bucket import s3_bucket

REPORTS = 7


def in_the_order_they_were_written(root: Path) -> list[Path]:
    """A run's files; the manifest is there from the beginning."""
    files = sorted((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    return sorted(files, key=lambda path: path.name != "manifest.json")


def test_at_any_moment_the_numbers_agree(finished: Path, capsys: pytest.CaptureFixture[str]):
    files = in_the_order_they_were_written(finished)
    with s3_bucket("midrun"):
        run = Run("s3://midrun/run")
        run.write_json("progress.json", {"state": "running"})  # is no part of what is counted
        for number in range(REPORTS):
            chunk = files[number * len(files) // REPORTS : (number + 1) * len(files) // REPORTS]

            def upload(paths: list[Path] = chunk) -> None:
                for path in paths:
                    run.write_bytes(str(path.relative_to(finished)), path.read_bytes())

            # the first half of a chunk is there before, the other comes meanwhile
            upload(chunk[: len(chunk) // 2])
            rest = threading.Thread(target=upload, args=(chunk[len(chunk) // 2 :],))
            rest.start()
            code = main([run.root])
            rest.join()
            told = capsys.readouterr()
            assert code == 0, f"with {(number + 1) * len(files) // REPORTS} of {len(files)} files: {told}"
            assert "report: s3://midrun/run/report.html" in told.out and "does not reconcile" not in told.out
        assert main([run.root]) == 0
        assert "sources ✓  select ✓  fetch ✓  score ✓  cut ✓  annotate ✓  pack ✓" in capsys.readouterr().out
