"""Names of output files: no two inputs share one, on a disk that ignores case and Unicode's spellings either."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

LONGEST_NAME = 150  # bytes; of the 255 that a file's name may have
HASHED = re.compile(r"-[0-9a-f]{12}$")


def name_for_files(key: str, only: bool = False) -> str:
    """A name for output files that no other key has, whatever letters and however many are in it.

    A key that another one may be mistaken for ends in a hash of itself: `a b` stays, `a/b` becomes `a_b-HASH`, and so
    does whatever has capitals, unless `only`: no other key differs from it in case alone.
    """
    composed = unicodedata.normalize("NFC", key)
    name = re.sub(r"[^\w. ()+,=@~-]|^\.+", "_", composed)
    safe = name == key and len(name.encode()) <= LONGEST_NAME and not HASHED.search(folded(key))
    if safe and (only or folded(key) == key):
        return name
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()[:12]
    return f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{digest}"


def names_of_photos(files: Sequence[PurePath]) -> list[str]:
    """A name for each file, all of them relative to one folder: without its extension where that is the only such one."""
    stems = [file.with_suffix("").as_posix() for file in files]
    times, whole = Counter(map(folded, stems)), {folded(file.as_posix()) for file in files}
    only = [times[folded(stem)] == 1 and folded(stem) not in whole for stem in stems]
    return [
        name_for_files(stem, only=True) if alone else name_for_files(file.as_posix())
        for stem, file, alone in zip(stems, files, only, strict=True)
    ]


def name_in_shards(shard: str, key: str) -> str:
    """A name for a sample of shards that may have the same keys. `shard`: its path in their folder, without extension."""
    # the last _ or the first // parts the two, so that no other pair of them is spelled alike
    return name_for_files(f"{shard}_{key}" if not set(key) & set("_/") else f"{shard}//{key}")


def folded(text: str) -> str:
    """What is left of a name where neither case nor Unicode's spelling counts."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
