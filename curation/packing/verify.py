"""`python -m curation verify RUN`: reads every shard of a cut, and compares it with the hash in its sidecar."""

from __future__ import annotations

import argparse
import hashlib
import sys
from functools import partial

from common.cluster.runtime import connected
from common.cluster.work import map_with_tasks
from common.failures.damage import DamagedFile
from common.progress import ProgressBar, say
from curation.ledger.read import choose_cut
from curation.run_directory.run import Run

ABOUT = """Read every shard of a cut and compare it with the hash in its sidecar; nothing is written.

`make curate` takes a shard that has its length for whole, and so does the report: a disk that lies is found here. A
shard that is damaged is listed, with what to delete so that `make curate` makes it again.
"""
PIECE = 16 << 20  # bytes that are read at a time


def verify_command(options: argparse.Namespace) -> int:
    """0: all shards are what their sidecars say; 1: some are not.

    Raises:
        RunNotFound: there is no such run or cut.
    """
    run = Run(options.run)
    name = choose_cut(run, run.manifest(), options.name)
    sidecars = [path for path in run.glob(f"shards/{name}/[0-9]*.json")]
    wrong = []
    with connected(), ProgressBar("verify", len(sidecars), "shards") as progress:
        for path, problem in map_with_tasks(sidecars, partial(fault_of, run)):
            if problem:
                wrong.append(path)
                say("verify", f"{run.url(path.replace('.json', '.tar'))}: {problem}", style="red")
            progress.advance(1, f"{len(wrong)} damaged" if wrong else "")
    say("verify", f"{len(sidecars):,} shards of {name}: {len(wrong):,} damaged")
    if wrong:
        listed = " ".join(run.url(path) for path in wrong)
        print(f"delete the sidecars of these, and `make curate` writes them again:\n  {listed}", file=sys.stderr)
    return 1 if wrong else 0


def fault_of(run: Run, path: str) -> tuple[str, str]:
    """The sidecar's path, and what is wrong with its shard; "" where nothing is."""
    try:
        sidecar = run.read_json(path, ("bytes", "sha256"))
        tar = path.removesuffix(".json") + ".tar"
        size = run.size(tar) if run.exists(tar) else None
        if size != sidecar["bytes"]:
            return (
                path,
                "is not there" if size is None else f"has {size:,} bytes; it was written with {sidecar['bytes']:,}",
            )
        digest = hashlib.sha256()
        for start in range(0, size, PIECE):
            digest.update(run.read_bytes(tar, start, min(PIECE, size - start)))
    except DamagedFile as error:
        return path, str(error)
    return path, "" if digest.hexdigest() == sidecar["sha256"] else "holds other bytes than were written"
