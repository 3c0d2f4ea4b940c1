"""What a RayJob's entry point runs, outside a job; inside one: test_jobs.py."""

from __future__ import annotations

import sys

import pytest

from common.cluster import attempt
from common.cluster.nodes import code_hash

SHOWS = "import os, sys; print(os.environ['WHERE'], *sys.argv[1:]); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize("code", [0, 2])
def test_words_of_a_file_arrive_letter_for_letter(tmp_path, capfd, code):
    file = tmp_path / "command"
    words = [
        f"--code={code_hash()}",
        "--env=WHERE=a=b $c",
        sys.executable,
        "-c",
        SHOWS,
        str(code),
        "--set",
        "x='y  z' $HOME",
    ]
    file.write_text("\n".join(words))
    assert attempt.main([f"@{file}"]) == code
    out, err = capfd.readouterr()
    assert out == f"a=b $c {code} --set x='y  z' $HOME\n" and "other code" not in err


def test_other_code_in_the_image_is_said(capfd):
    assert attempt.main(["--code=0123", sys.executable, "-c", ""]) == 0
    assert "the image has other code" in capfd.readouterr().err
