"""A program that draws: it reads what to draw, a line of JSON a picture, and leaves a PNG or a reason where it was told to.

It may print what it likes. It is ended, with all the processes that it started, when it takes too long; its last words are the reason.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

LOOK = 0.02  # seconds between two looks
PATIENCE = 10  # seconds for a program whose input has ended to end by itself
WORDS = 5  # lines of what it printed that are told
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # of this environment, not of its own


class ProgramError(RuntimeError):
    """The program does not work: two of its processes ended, one after the other, and drew nothing."""


class Program:
    """A command, started when its first picture is asked for, and again after it ended.

    `start`, `limit`: seconds until its first picture, in which it loads its model, and for each one after it.
    """

    def __init__(self, command: Sequence[str], folder: Path, start: float, limit: float):
        self.command, self.folder, self.start, self.limit = list(command), folder, start, limit
        self._scratch = tempfile.TemporaryDirectory(prefix="drawing-")
        self.place = Path(self._scratch.name)
        self._log = (self.place / "log").open("w+b")
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = True  # has this process drawn, or said why not
        self._fruitless = 0  # processes in a row that did neither
        self._asked = 0

    def picture(self, request: Mapping[str, Any]) -> Image.Image:
        """Asks for a picture and waits for it. `request`: what it is asked, as JSON types; where to leave it is added.

        Raises:
            ValueError: the program's reason why there is none; it took too long; it ended.
            ProgramError: it does not work at all.
        """
        self._asked += 1
        place, reason = self.place / f"{self._asked}.png", self.place / f"{self._asked}.txt"
        if self._process is None:
            self._begin()
        self._tell({**request, "picture": str(place), "failure": str(reason)})
        seconds = self.limit if self._answered else self.start
        ends = time.monotonic() + seconds
        try:
            while True:
                alive = self._process.poll() is None
                if image := _whole(place):
                    self._answered, self._fruitless = True, 0
                    return image
                if words := reason.is_file() and reason.read_text("utf-8", errors="replace").strip():
                    self._answered, self._fruitless = True, 0
                    raise ValueError(words)
                if not alive:
                    self._failed(f"the program ended (exit code {self._process.returncode})")
                if time.monotonic() > ends:
                    self._failed(f"no picture after {seconds:g} seconds: the program was ended")
                time.sleep(LOOK)
        finally:
            place.unlink(missing_ok=True)
            reason.unlink(missing_ok=True)

    def peak_bytes(self) -> int:
        """The most memory that its process held, without its children; 0 where it cannot be known."""
        try:
            told = Path(f"/proc/{self._process.pid}/status").read_text() if self._process else ""
        except OSError:
            told = ""
        found = re.search(r"VmHWM:\s+(\d+) kB", told)
        return int(found[1]) * 1024 if found else 0

    def close(self) -> None:
        """Ends it, and what it started; lets go of its files."""
        if self._process is not None:
            with suppress(OSError):  # it has ended
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self._end()
        self._log.close()
        self._scratch.cleanup()

    def _begin(self) -> None:
        self._log.seek(0)
        self._log.truncate()
        environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        try:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ProgramError(f"{self.command[0]} cannot be started: {error}") from error
        self._answered = False

    def _tell(self, request: Mapping[str, Any]) -> None:
        with suppress(OSError):  # it has ended, which is told where its answer is waited for
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _failed(self, what: str) -> None:
        """Ends the process, so that the next picture has another one, and raises why."""
        self._end()
        said = self._last_words()
        message = f"{what}: {said}" if said else what
        if not self._answered:
            self._fruitless += 1
            if self._fruitless > 1:
                raise ProgramError(message)
        raise ValueError(message)

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own: this is it and its children
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-WORDS:])


def _whole(place: Path) -> Image.Image | None:
    """The picture, once all of it is there.

    Raises:
        ValueError: it is no PNG.
    """
    try:
        with Image.open(place) as image:
            image.load()
            found, kind = image.convert("RGB"), image.format
    except (FileNotFoundError, UnidentifiedImageError, OSError, SyntaxError):  # PIL's SyntaxError: a damaged PNG
        return None
    if kind != "PNG":
        raise ValueError(f"the program left a picture as {kind}, not as PNG")
    return found
