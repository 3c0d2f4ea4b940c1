"""What killed workers leave in a run's scratch folders does not stay."""

from __future__ import annotations

from curation.run_directory.run import Run


def test_scratch_of_killed_workers_goes_before_and_after(tmp_path):
    run = Run(tmp_path / "run")
    left = tmp_path / "run/work/pack/of-a-killed-one/shard.tar"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with run.emptied("work/pack"):
        assert not left.exists()
        with run.scratch("work/pack") as folder:
            (folder / "shard.tar").write_bytes(b"half")
            left.parent.mkdir()
            left.write_bytes(b"of one that is killed now")
        assert not folder.exists()
    assert not (tmp_path / "run/work/pack").exists()
