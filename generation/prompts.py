"""Reads prompts: from the command line, from a file, from a caption."""

from __future__ import annotations

import re
from pathlib import Path

from generation.face_input import InputError


def read_prompts(given: list[str], file: str | None) -> list[str]:
    """Prompts from the command line, then from the file's lines.

    Raises:
        InputError: the file is missing or empty.
    """
    given = [typed_prompt("--prompt", prompt) for prompt in given]
    if file is None:
        return given
    try:
        lines = [clean_prompt(line) for line in re.split(r"\r\n|\r|\n", Path(file).read_bytes().decode("utf-8-sig"))]
    except OSError as error:
        raise InputError(f"--prompts {file}: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--prompts {file}: not UTF-8 ({error}); save it as UTF-8") from error
    if not any(lines):
        raise InputError(f"--prompts {file}: there is no prompt in it; write one a line")
    return given + [line for line in lines if line]


def typed_prompt(option: str, text: str) -> str:
    """A prompt of the command line.

    Raises:
        InputError: not UTF-8.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"{option}: not UTF-8; type it in a terminal of UTF-8")
    return clean_prompt(text)


def clean_prompt(text: str) -> str:
    """One line: what Unicode counts as white space or as the end of a line is one space; no byte order mark."""
    return " ".join(text.replace("\ufeff", "").split())
