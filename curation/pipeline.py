"""The steps in their order, each doing only what is missing: select, fetch, score, cut, annotate, pack."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from common.cluster.shipped import ShippedWeights
from common.failures.transient import times_retried
from common.pinned_files.weights import WEIGHTS, Resolved, resolve
from common.progress import say
from common.settings import RecipeError
from curation.annotation.annotate import annotate, fingerprint_of
from curation.cutting.cut import claim_name, content_file, cut, read_content, read_funnel
from curation.fetch.rounds import fetch
from curation.nodes import require_nodes
from curation.packing.pack import WORK as PACK_WORK
from curation.packing.pack import pack
from curation.progress.follow import Follower
from curation.recipe.recipe import Recipe, checked_name, load, parse
from curation.run_directory.candidates import SELECTED_COUNTS, selected_counts
from curation.run_directory.run import Run
from curation.run_directory.snapshot import read_places, require_counts
from curation.scoring.score import score
from curation.sources.join import check_sources
from curation.sources.top_k import select
from curation.versions import RUN_FORMAT, require_current

STEPS = ("select", "fetch", "score", "cut", "annotate", "pack")
RECUT_STEPS = ("score", "cut", "annotate", "pack")


class Curation:
    """A run directory, its recipe and the name of a cut: everything that a step is given."""

    def __init__(self, run: Run, recipe: Recipe, name: str | None = None):
        """Checks everything that can be checked before any work; writes nothing.

        Raises:
            RecipeError, WeightError: what is wrong, and what to do.
        """
        self.run, self.recipe, self.name = run, recipe, checked_name(name or recipe.name)
        before = run.manifest()
        if before:
            require_current(before, run.root)
        if not run.exists(SELECTED_COUNTS):
            check_sources(recipe)
        web = recipe.fetch.local_web
        if web and not (Path(web.folder) / "behaviour.json").exists():
            raise RecipeError(
                f"fetch.local_web.folder: {web.folder} holds no behaviour.json. `python -m curation.sample` makes it"
            )
        self._check_same_start(before)
        self.filters = recipe.open_filters()
        self.encoder = recipe.open_encoder()
        self.epoch = 0  # the driver's number, where there is one (driver.py)
        self.shipped = ShippedWeights()  # model files for nodes that lack them
        self._has_begun = False
        self._follower: Follower | None = None
        self._snapshot: tuple[int, pa.Table] | None = None

    def _begin(self) -> None:
        """Before the first step: write the manifest, remove what a killed driver left half-written."""
        if self._has_begun:
            return
        self._has_begun = True
        self._write_manifest(self.run.manifest())
        self._remove_half_written("start", "run")

    def _remove_half_written(self, when: str, whose: str) -> None:
        """What stands there while none of this driver's tasks is at work is nobody's any more."""
        for path in self.run.sweep():
            say(when, f"removed the half-written {path} of a {whose} that was killed")

    def _check_same_start(self, before: dict[str, Any]) -> None:
        if not before or not self.run.exists(SELECTED_COUNTS):
            return
        for field in ("sources", "select", "seed", "images"):
            mine, its = self.recipe.model_dump(mode="json")[field], before["recipe"][field]
            if field == "select":  # how much memory it had selects nothing
                mine, its = ({**fields, "memory_gb": None} for fields in (mine, its))
            if its != mine:
                raise RecipeError(
                    f"{self.run.root} was started with another `{field}`; what it fetched and scored hangs on that. "
                    "Give a new run directory: RUN=..."
                )

    def _write_manifest(self, before: dict[str, Any]) -> None:
        detector = self.filters["faces"].detector
        recipe = self.recipe.model_dump(mode="json")
        if before and self.run.exists(
            SELECTED_COUNTS
        ):  # the run's recipe is the one that it was started with; how it is run may change
            recipe = {**before["recipe"], **{section: recipe[section] for section in ("fetch", "score")}}
        self.run.update_manifest(
            format=RUN_FORMAT,
            recipe=recipe,
            created=before.get("created") or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            weights=self._weights(),
            fingerprints={name: item.fingerprint for name, item in self.filters.items()},
            detector=detector,
            stand_in=detector != self.recipe.filters.faces.model,
            identity={
                "name": self.encoder.name if self.encoder else "none",
                "dimension": self.encoder.dimension if self.encoder else 0,
                "channel_order": self.encoder.channel_order if self.encoder else "",
            },
            seed=self.recipe.seed,
            invented=["the captions"] if self.recipe.fetch.local_web else [],
        )

    def _weights(self) -> list[dict[str, str]]:
        """Every model file: what it is, its hash and licence, where it was found, what for."""
        return [
            {
                "name": file.name,
                "file": file.path.name,
                "sha256": file.sha256,
                "licence": file.licence,
                "source": file.source,
                "used_for": use,
            }
            for use, file in self._files()
        ]

    def _files(self) -> list[tuple[str, Resolved]]:
        """Every model file, and what uses it."""
        used = [(name, file) for name, item in self.filters.items() for file in item.files.values()]
        if self.encoder:
            names = {weight.file: weight.name for weight in WEIGHTS.values()}
            paths = self.encoder.weights.values()
            used += [("identity", resolve(names[path.name], self.recipe.weights)) for path in paths]
        return used

    def require_nodes(self) -> None:
        """On a cluster, before the first step: every node must be able to take part. Needs a running Ray.

        Raises:
            NodeError: those that cannot, and why.
        """
        fingerprints = {name: item.fingerprint for name, item in self.filters.items()}
        fingerprints["identity"] = fingerprint_of(self.encoder)
        files = [file for _, file in self._files()]
        self.shipped = require_nodes(self.run, self.recipe, self.epoch, fingerprints, files)

    # -- the steps ----------------------------------------------------------------------------------------------

    def snapshot(self) -> pa.Table:
        """`read_places` of what was taken; read once for all steps."""
        info = require_counts(self.run)
        if self._snapshot is None or self._snapshot[0] != info["number"]:
            self._snapshot = info["number"], read_places(self.run, info)
        return self._snapshot[1]

    def content_hash(self) -> str:
        """Of the content recipe; binds the cut's name to it."""
        info = require_counts(self.run)
        fingerprints = {name: item.fingerprint for name, item in self.filters.items()}
        candidates = selected_counts(self.run)["digest"]
        content = self.recipe.content(fingerprints, info["hash"], candidates, fingerprint_of(self.encoder))
        return claim_name(self.run, self.name, content, self.recipe.model_dump(mode="json"))

    def require_new_name(self) -> None:
        """Before trying again what may have healed: what comes is another snapshot, hence another cut.

        Raises:
            RecipeError: the name is taken by a cut of the snapshot that there is.
        """
        if self.run.exists(content_file(self.name)):
            raise RecipeError(
                f"the cut {self.name!r} belongs to what is fetched now; with more images it is another cut. Give it a "
                "name: make curate AGAIN=1 NAME=healed"
            )

    def is_done(self, step: str) -> bool:
        """Whether a step would only say so: no Ray is started for that."""
        done = {"select": SELECTED_COUNTS, "fetch": "fetched/snapshot.json"}
        return step in done and self.run.exists(done[step])

    @contextlib.contextmanager
    def followed(self, steps: Sequence[str]) -> Iterator[None]:
        """Inside a `with` it is shown, here and in RUN/progress.json, how far these steps are. For a driver alone."""
        with Follower(self.run, self.name, steps) as self._follower:
            yield
        self._follower = None

    def do(self, step: str, again: bool = False) -> None:
        """One step. Needs a running Ray. Says how often it had to try again what the store or the machine refused."""
        before = times_retried()
        self._begin()
        if self._follower:
            self._follower.begin(step)
        self._do(step, again)
        self._remove_half_written(step, "worker")
        if retried := times_retried() - before:
            say(step, f"{retried:,} times the store or the memory failed for a moment: tried again, nothing is missing")

    def _do(self, step: str, again: bool) -> None:
        if step == "select":
            select(self.run, self.recipe)
        elif step == "fetch":
            fetch(self.run, self.recipe, again=again)
        elif step == "score":
            self.content_hash()
            score(self.run, self.recipe, self.snapshot(), self.filters, self.shipped)
        elif step == "cut":
            self.content_hash()
            cut(self.run, self.recipe, self.name, self.snapshot(), self.filters, self.epoch)
        elif step == "annotate":
            self._require_cut()
            annotate(self.run, self.recipe, self.name, self.snapshot(), self.filters, self.shipped)
        elif step == "pack":
            self._refuse_undecided()
            digest = self.content_hash()
            with self.run.emptied(PACK_WORK):
                pack(self.run, self.recipe, self.name, self.snapshot(), self.filters, digest)
            self.run.update_manifest(content_hash=digest)

    def _require_cut(self) -> dict[str, Any]:
        funnel = read_funnel(self.run, self.name)
        if funnel is None:
            raise RecipeError(f"{self.run.root} has no cut {self.name!r} yet: `python -m curation cut` comes first")
        return funnel

    def _refuse_undecided(self) -> None:
        if undecided := self._require_cut()["undecided"]:
            raise RecipeError(f"{undecided:,} images are undecided: `python -m curation score` comes first")

    def curate(self) -> None:
        """All steps; says what is not done again."""
        for step in STEPS:
            self.do(step)

    def recut(self) -> None:
        """A new cut of a run: cut, score only what is undecided, cut, annotate, pack."""
        self._begin()
        self.content_hash()
        snapshot = self.snapshot()
        funnel = cut(self.run, self.recipe, self.name, snapshot, self.filters, self.epoch)
        if funnel["undecided"]:
            say("recut", f"{funnel['undecided']:,} images hang on scores that were never needed: scoring those")
            score(self.run, self.recipe, snapshot, self.filters, self.shipped)
            self.do("cut")
        else:
            say("recut", "every score is there: no model is run")
        self.do("annotate")
        self.do("pack")


def open_curation(
    run_root: str, recipe: str | None = None, name: str | None = None, changes: Sequence[str] = ()
) -> Curation:
    """The curation of a run directory, with `recipe_of` it."""
    run = Run(run_root)
    return Curation(run, recipe_of(run, recipe, name, changes), name)


def recipe_of(run: Run, recipe: str | None = None, name: str | None = None, changes: Sequence[str] = ()) -> Recipe:
    """A recipe file, or the recipe that the run (or its cut `name`) has.

    Raises:
        RecipeError: there is neither.
    """
    if name:
        checked_name(name)
    if recipe:
        return load(recipe, changes)
    manifest = run.manifest()
    if not manifest:
        raise RecipeError(f"{run.root} is no run directory yet (it has no manifest.json): give --recipe")
    require_current(manifest, run.root)
    tree = manifest["recipe"]
    if name and run.exists(content_file(name)):
        tree = read_content(run, name)["recipe"]
    return parse(tree, f"{run.root}/manifest.json", changes)
