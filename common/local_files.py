"""Files of a local disk that become visible whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.paths import PathError

BEING_WRITTEN: set[Path] = set()  # by this process, under their temporary names: nobody's leavings


def make_folder(folder: Path) -> None:
    """Where there is none yet. Raises PathError: none can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise PathError(f"{folder}: no folder can be made there: take another path") from error


@contextlib.contextmanager
def new_file(final: Path, may_replace: bool = True) -> Iterator[BinaryIO]:
    """A local file to write, which gets its final name, whole and on the disk, when the block ends without an error.

    Raises:
        FileExistsError: the name is taken and may not be.
    """
    make_folder(final.parent)
    temporary = final.with_name(f".{final.name}.{uuid.uuid4().hex}.tmp")
    BEING_WRITTEN.add(temporary)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        (os.replace if may_replace else os.link)(temporary, final)
    except OSError as error:
        if error.filename is None or str(error.filename) == str(temporary):  # a person knows only the final name
            error.filename = str(final)
        raise
    finally:
        with contextlib.suppress(OSError):  # a read-only disk refuses that, too: it would hide the error above
            temporary.unlink(missing_ok=True)
        BEING_WRITTEN.discard(temporary)


def move_file(local: Path, final: Path) -> None:
    """Give a finished file its final name. On another disk it is copied there first, under a temporary name."""
    make_folder(final.parent)
    try:
        with open(local, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(local, final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with open(local, "rb") as source, new_file(final) as file:
            shutil.copyfileobj(source, file, 1 << 24)
        local.unlink()
