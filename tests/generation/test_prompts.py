"""Prompts of any make are one clean line each."""

from __future__ import annotations

import pytest

from generation.face_input import InputError
from generation.prompts import read_prompts


def test_prompts_are_one_clean_line_each(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffa man\u2028in red\r\n\r\n a  dog \rlast".encode())
    assert read_prompts(["\ufeffx"], str(file)) == ["x", "a man in red", "a dog", "last"]
    file.write_bytes("a man".encode("utf-16"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        read_prompts([], str(file))
    with pytest.raises(InputError, match="--prompt: not UTF-8"):
        read_prompts(["caf\udce9"], None)
