"""jobs/tiny_base.py says in one message what is wrong, and at its end what to do next."""

from __future__ import annotations

from jobs import tiny_base


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert tiny_base.main(["--photos", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no photos" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))


def test_the_folder_is_all_of_stdout_and_the_next_command_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.tiny_base.provide.provide", lambda *given: tmp_path)
    monkeypatch.setattr("training.tiny_base.provide.summary", lambda folder: "good")
    assert tiny_base.main(["--photos", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path}\n"
    assert f"next, to train on it: python jobs/train.py --set base={tmp_path}" in told.err
