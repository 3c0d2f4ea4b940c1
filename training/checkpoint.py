"""Checkpoints: taken between two steps, written by a thread, visible when whole, independent of the number of ranks.

    OUT/checkpoints/step-000000050/part-0-of-2.safetensors   full fp32 tensors KEY/NAME, KEY of master, exp_avg, ...
                                   part-0-of-2.json          its size and sha256: this part is written
                                   manifest.json             written last, by rank 0: now it is a checkpoint
    OUT/owner                      whose folder it is: the run that was started last

`step` counts finished steps, which is the whole position: order and randomness are functions of it. Frozen weights are
not saved but named by hash. A kill at any point leaves either the checkpoint or something without a manifest, which the
next start removes.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file

from common.errors import UserError
from common.hashing import sha256_of_file
from common.paths import glob_in, is_local, open_place, remove_folder
from training.collectives import from_rank_0, gather
from training.engine import Trained

PART_TIMEOUT = 1800  # seconds that rank 0 waits for the other ranks' parts


class CheckpointFault(UserError, RuntimeError):
    """A checkpoint that cannot be written or gone on from; the message names the file and the remedy."""


class Part(TypedDict):
    """One rank's file of a checkpoint."""

    bytes: int
    sha256: str


class Manifest(TypedDict):
    """What manifest.json holds. `frozen`: sha256 of the weights of each part that is not trained; `shards`: of their
    index; `read`: by kind the folder of the encoder cache that the run reads; `updates`, `loss_scale`: `Trained.counts`;
    `lowest_loss`, `lowest_loss_at`: `LossSpikeGuard.facts`; `corrupt`: samples so far."""

    step: int
    parts: dict[str, Part]
    recipe: dict[str, Any]
    config: dict[str, Any]
    frozen: dict[str, str]
    shards: str
    read: dict[str, str | None]
    updates: int
    loss_scale: dict[str, float] | None
    lowest_loss: float | None
    lowest_loss_at: int
    corrupt: int


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint. `step`: finished steps; `manifest`: what its manifest.json holds."""

    step: int
    folder: str
    manifest: Manifest


class Checkpoints:
    """The checkpoints of one run, on any filesystem that all ranks see."""

    def __init__(self, out: str, rank: int, world: int, keep: int):
        self.fs, root = open_place(out)
        self.root, self._owner = f"{root.rstrip('/')}/checkpoints", f"{root.rstrip('/')}/owner"
        self.local = is_local(self.fs)
        self.rank, self.world, self.keep = rank, world, keep
        self._thread: threading.Thread | None = None
        self._fault: Exception | None = None
        self._token: str | None = None

    # -- writing -----------------------------------------------------------------------------------------------------

    def save(self, trained: Trained, step: int, facts: dict[str, Any]) -> float:
        """Copy this rank's share to host memory and return; the seconds that took. A thread writes.

        All ranks call this at the same step. `facts` go into the manifest.
        """
        self.wait()
        started = time.monotonic()
        mine = {}
        facts = facts | trained.counts()
        for number, name in enumerate(trained.parameters):
            for key in trained.keys():
                full = trained.full(name, key)
                if number % self.world == self.rank:
                    mine[f"{key}/{name}"] = full.to("cpu", copy=True).contiguous()
        taken = time.monotonic() - started
        # a daemon: when another rank has died, this one must end, not wait half an hour for its part
        self._thread = threading.Thread(target=self._write, args=(step, mine, facts), name="checkpoint", daemon=True)
        self._thread.start()
        return taken

    def wait(self) -> None:
        """Until what is being written is written.

        Raises:
            CheckpointFault: it could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Whether what was being written has failed; at once, and not when the next one is due, hours of training later.

        Raises:
            CheckpointFault: it has.
        """
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise CheckpointFault(f"{self.root}: a checkpoint could not be written: {fault}") from fault

    def _write(self, step: int, mine: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        try:
            folder = f"{self.root}/step-{step:09d}"
            self.fs.makedirs(folder, exist_ok=True)
            name = f"part-{self.rank}-of-{self.world}"
            with tempfile.TemporaryDirectory(dir=folder if self.local else None, prefix=".writing-") as scratch:
                file = Path(scratch) / f"{name}.safetensors"
                save_file(mine, file)
                part: Part = {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}
                self._put_file(file, f"{folder}/{name}.safetensors")
            self._put_text(json.dumps(part), f"{folder}/{name}.json")
            if self.rank == 0:
                self._finish(folder, step, facts)
        except Exception as error:  # noqa: BLE001  handed to the training thread, which raises it
            self._fault = error

    def _finish(self, folder: str, step: int, facts: dict[str, Any]) -> None:
        names = [f"part-{rank}-of-{self.world}" for rank in range(self.world)]
        deadline = time.monotonic() + PART_TIMEOUT
        while missing := [name for name in names if not self.fs.exists(f"{folder}/{name}.json")]:
            if time.monotonic() > deadline:
                raise CheckpointFault(
                    f"{folder}: {missing} did not appear: do all nodes see this folder? Take a shared or object store"
                )
            time.sleep(0.05)
            self.fs.invalidate_cache(folder)
        if self._token and not self._is_mine():
            raise CheckpointFault(f"{self.root}: another run has begun in this folder; it is the one that goes on")
        parts = {f"{name}.safetensors": json.loads(self.fs.cat_file(f"{folder}/{name}.json")) for name in names}
        self._put_text(json.dumps({"step": step, "parts": parts, **facts}, indent=1), f"{folder}/manifest.json")
        for old in self.all()[: -self.keep]:
            self._remove(old.folder)

    def _put_file(self, file: Path, target: str) -> None:
        if self.local:
            _sync(file)
            file.replace(target)
        else:
            self.fs.put_file(str(file), target)

    def _put_text(self, text: str, target: str) -> None:
        if self.local:
            partial = Path(target).with_name(f".{Path(target).name}.part")
            partial.write_text(text)
            _sync(partial)
            partial.replace(target)
            _sync(Path(target).parent)
        else:
            self.fs.pipe_file(target, text.encode())

    def _remove(self, folder: str) -> None:
        """The manifest first: half a checkpoint must not look like one."""
        if self.fs.exists(f"{folder}/manifest.json"):
            self.fs.rm_file(f"{folder}/manifest.json")
        remove_folder(self.fs, folder)

    # -- reading -----------------------------------------------------------------------------------------------------

    def all(self) -> list[Saved]:
        """Whole checkpoints, oldest first."""
        whole = []
        for path in glob_in(self.fs, self.root, "step-*/manifest.json"):
            try:
                manifest = json.loads(self.fs.cat_file(path))
            except ValueError as error:
                folder = path.rpartition("/")[0]
                raise CheckpointFault(
                    f"{path}: no manifest ({error}); did the machine go down, or the disk fill up, while it was written? "
                    f"Remove {folder} to go on from the checkpoint before it"
                ) from error
            whole.append(Saved(manifest["step"], path.rpartition("/")[0], manifest))
        return whole

    def claim(self) -> None:
        """From now on this run writes here, and none that began before. A collective call.

        Raises:
            CheckpointFault: the ranks do not all see one folder: now, and not at the first checkpoint.
        """
        self._token = from_rank_0(uuid.uuid4().hex)
        if self.rank == 0:
            self.fs.makedirs(self.root, exist_ok=True)
            self._put_text(self._token, self._owner)
        dist.barrier()
        sees_it = gather(self._is_mine())
        if blind := [rank for rank, sees in enumerate(sees_it) if not sees]:
            raise CheckpointFault(
                f"{self.root}: ranks {blind} do not see what rank 0 writes there: take a folder that all nodes share, or "
                "an object store (s3://...), as --out"
            )

    def _is_mine(self) -> bool:
        self.fs.invalidate_cache()
        return self.fs.exists(self._owner) and self.fs.cat_file(self._owner).decode() == self._token

    def clear_unfinished(self) -> list[str]:
        """Remove what a kill left without a manifest; rank 0, before anything is written."""
        whole = {saved.folder for saved in self.all()}
        broken = [path for path in glob_in(self.fs, self.root, "step-*") if path not in whole]
        for path in broken:
            self._remove(path)
        return broken

    def restore(self, trained: Trained, saved: Saved) -> None:
        """Put a checkpoint's tensors into the engine, whatever the number of ranks that wrote it.

        Raises:
            CheckpointFault: a part that is missing or damaged, or a parameter that is not in it.
        """
        with tempfile.TemporaryDirectory(prefix="facemakeup-restore-") as scratch:
            opened = [self._open(saved, name, facts, scratch) for name, facts in saved.manifest["parts"].items()]
            place = {key: part for part in opened for key in part.keys()}
            wanted = [f"{key}/{name}" for name in trained.parameters for key in trained.keys()]
            if missing := [key for key in wanted if key not in place]:
                raise CheckpointFault(
                    f"{saved.folder}: {len(missing)} tensors are not in it, e.g. {missing[0]}; it is of another model, or "
                    "of a run without EMA: start a new run with start_from, or in another folder"
                )
            for name in trained.parameters:
                for key in trained.keys():
                    trained.set_full(name, key, place[f"{key}/{name}"].get_tensor(f"{key}/{name}"))
        trained.set_counts(saved.manifest)

    def _open(self, saved: Saved, name: str, facts: Part, scratch: str):
        path = f"{saved.folder}/{name}"
        if not self.fs.exists(path):
            raise CheckpointFault(f"{path}: missing; remove {saved.folder} to go on from the checkpoint before it")
        local = path
        if not self.local:
            local = f"{scratch}/{name}"
            self.fs.get_file(path, local)
        if sha256_of_file(local) != facts["sha256"]:
            raise CheckpointFault(f"{path}: damaged (its sha256 is not the manifest's); remove {saved.folder}")
        return safe_open(local, framework="pt", device="cpu")


def _sync(path: Path) -> None:
    """On the disk itself: a rename may outlive, in a machine that loses its power, what was renamed."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
