"""mosaicml-streaming beside the loader: in an environment of its own, since its pins are not ours.

The environment lies in the cache and is made once. It holds the package, what its loader imports, and behind them our own
environment: so torch, numpy, Pillow, OpenCV and transformers, which do nearly all of the work, are the same on both sides.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from common.pinned_files.packages import cache_dir
from tests.bench.duel import Bench, core_seconds, medians
from tests.bench.loading.loader import Input, Ours

ROOT = Path(__file__).resolve().parents[3]
VERSION = "0.13.0"
# with filelock 3.20 and later its workers fail: they use a lock that was made before the fork
PACKAGES = (f"mosaicml-streaming=={VERSION}", "zstd", "python-snappy", "cramjam", "Brotli", "xxhash", "catalogue", "tqdm",
            "filelock<3.20")  # fmt: skip
INSTALLING, EPOCH = 240, 120  # seconds of patience


class Absent(RuntimeError):
    """It cannot be measured here; the message is the last line of why."""


def environment() -> Path:
    """The environment's python.

    Raises:
        Absent: it cannot be made.
    """
    folder = cache_dir() / "bench" / f"mosaicml-streaming-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    found = os.environ.get("PIP_FIND_LINKS")
    _run("venv", "-q", "--python", sys.executable, str(folder))
    # without dependencies: they would bring torchvision, whose wheel does not load beside a CPU torch
    links = ["--find-links", found] if found else []
    _run("pip", "install", "-q", "--python", str(python), "--no-deps", *links, *PACKAGES)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "ready").touch()
    return python


def _run(*words: str) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise Absent("uv is not there: make setup brings it")
    try:
        done = subprocess.run([uv, *words], capture_output=True, text=True, timeout=INSTALLING)
    except subprocess.TimeoutExpired:
        raise Absent(f"uv {words[0]} took more than {INSTALLING} s") from None
    if done.returncode:
        raise Absent((done.stderr.strip().splitlines() or [f"uv {words[0]} failed"])[-1])


class Peer:
    """tests/bench/loading/mosaic_peer.py in its environment: an epoch whenever it is asked."""

    def __init__(self, python: Path, given: Input, workers: int, folder: Path):
        (folder / "given.pickle").write_bytes(pickle.dumps(given))
        words = [str(python), "-m", "tests.bench.loading.mosaic_peer", str(folder), str(workers)]
        self.errors = open(folder / "errors.txt", "w+")
        self.process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.told: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._answer()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.told.put(line)
        self.told.put("")

    def _answer(self) -> dict[str, float]:
        try:
            line = self.told.get(timeout=EPOCH)
        except queue.Empty:
            raise Absent(f"no epoch within {EPOCH} s") from None
        if not line:
            self.errors.seek(0)
            raise Absent((self.errors.read().strip().splitlines() or ["it ended without a word"])[-1])
        return json.loads(line)

    def epoch(self) -> float:
        """Core seconds of an epoch."""
        self.process.stdin.write("epoch\n")
        self.process.stdin.flush()
        return self._answer()["core_seconds"]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


@contextlib.contextmanager
def peer(given: Input, workers: int) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory(prefix="facemakeup-bench-") as folder:
        started = Peer(environment(), given, workers, Path(folder))
        try:
            yield started
        finally:
            started.close()


def bench_mosaic(bench: Bench, given: Input, rounds: int, workers: tuple[int, ...] = (0, 2)) -> None:
    for count in workers:
        what, beside = f"loader, exact shuffle, {count or 'no'} workers", f"mosaicml-streaming {VERSION}"
        try:
            with peer(given, count) as theirs:
                ours = Ours(given, count)
                ours(), theirs.epoch()
                times = medians((core_seconds(ours), theirs.epoch()) for _ in range(rounds))
        except Absent as reason:
            bench.absent(what, beside, str(reason))
            continue
        bench.rate(what, beside, given.index().samples, "samples", times, least=1.0, per="core s")
