"""What surrounds every step."""

from __future__ import annotations

from curation.pipeline import Curation
from curation.run_directory.run import Run


def test_what_a_killed_worker_left_half_written_goes_when_the_step_ends(tmp_path, monkeypatch):
    """Found by `make chaos`: the same step went on in another worker, and no later step of that run swept."""
    half_written = tmp_path / ".00007.tar.bd3e0b71.tmp"
    curation = object.__new__(Curation)
    curation.run, curation._has_begun, curation._follower = Run(str(tmp_path)), True, None
    monkeypatch.setattr(Curation, "_do", lambda *_: half_written.write_bytes(b"half"))
    curation.do("pack")
    assert not half_written.exists()
