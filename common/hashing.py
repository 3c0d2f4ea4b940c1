"""sha256 of bytes and files, and the one spelling of JSON that is hashed."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any


def canonical_json(value: Any) -> str:
    """The one spelling of a JSON value that is hashed and written: sorted keys, no spaces, UTF-8 as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of_bytes(data: bytes) -> str:
    """The sha256 of `data`, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """The sha256 of a local file, 64 hex digits; reads it in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
