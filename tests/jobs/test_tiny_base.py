"""jobs/tiny_base.py says in one message what is wrong."""

from __future__ import annotations

from jobs import tiny_base


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert tiny_base.main(["--photos", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no photos" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))
