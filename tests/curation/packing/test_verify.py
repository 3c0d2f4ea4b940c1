"""`python -m curation verify`: a shard that is cut off, changed or gone is named, and is made again as it says."""

from __future__ import annotations

import json

from curation.__main__ import main
from curation.packing.verify import fault_of
from curation.report import main as report
from curation.run_directory.run import Run
from tests.world import curate, fork, shard_hashes


def test_what_a_disk_did_to_shards_is_found_and_mended(finished, small_world, tmp_path, capsys):
    root = fork(
        finished, tmp_path / "run", "candidates", "selected", "fetched", "scores", "cuts", "annotations", "shards"
    )
    assert main(["verify", str(root)]) == 0 and "0 damaged" in capsys.readouterr().err
    changed, short, gone = (root / "shards" / "small" / f"{number:05d}.tar" for number in range(3))
    with changed.open("r+b") as file:
        file.seek(700)
        file.write(b"rust")
    with short.open("r+b") as file:
        file.truncate(1000)
    gone.unlink()
    assert main(["verify", str(root)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    for words in (
        "holds other bytes than were written",
        "has 1,000 bytes; it was written with",
        "is not there",
        "3 damaged",
    ):
        assert words in said
    assert report([str(root), "--no-html"]) == 1, "lengths are seen by the report, too"
    capsys.readouterr()
    for tar in (changed, short, gone):
        tar.with_suffix(".json").unlink()
    curate(root, small_world)
    assert main(["verify", str(root)]) == 0 and shard_hashes(root) == shard_hashes(finished)


def test_a_sidecar_that_is_none_is_a_fault_of_its_shard(tmp_path):
    run = Run(tmp_path)
    run.write_bytes("shards/a/00000.json", b"{")
    assert "00000.json" in fault_of(run, "shards/a/00000.json")[1]
    run.write_bytes("shards/a/00000.json", json.dumps({"bytes": 3}).encode())
    assert fault_of(run, "shards/a/00000.json")[1]
