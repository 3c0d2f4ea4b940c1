"""Reads a run directory, at any moment of its life, into one `Ledger`. Nothing here writes or draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import yaml

from curation.ledger import cut_tables, tables
from curation.ledger.equations import equations_of, steps_of
from curation.ledger.model import Ledger, RunNotFound
from curation.recipe.recipe import Thresholds
from curation.run_directory.run import Run


def read_ledger(run: Run, cut: str | None = None) -> Ledger:
    """Everything that the run holds so far.

    Raises:
        RunNotFound: nothing there, or no cut of that name.
        curation.ledger.tables.LedgerError: a table that does not follow the layout.
    """
    manifest = run.manifest()
    if not manifest and not run.glob("candidates/*"):
        raise RunNotFound(f"{run.root}: no run there (neither manifest.json nor candidates/)")
    ledger = Ledger(run, manifest, choose_cut(run, manifest, cut))
    content = _json(run, f"cuts/{ledger.cut}/content.json")
    content = {**content, **(content.get("content") or {})}
    ledger.thresholds = _thresholds(run, ledger)
    ledger.fingerprints = content.get("fingerprints") or manifest.get("fingerprints") or _only_folders(run)
    ledger.detector = _detector(ledger)
    ledger.content_hash = content.get("content_hash") or content.get("hash") or manifest.get("content_hash") or ""
    ledger.source_counts = _json(run, "candidates/counts.json")
    ledger.select_counts = _json(run, "selected/counts.json")
    ledger.candidates = tables.read_candidates(run)
    ledger.selected = tables.read_ids(run, "selected/*.parquet")
    ledger.attempts = tables.read_attempts(run)
    ledger.snapshot = tables.read_snapshot(run, content.get("snapshot"))
    if ledger.snapshot is not None:
        ledger.images = tables.read_images(run, ledger.snapshot.ids)
    ledger.verdicts = cut_tables.read_verdicts(run, ledger.cut)
    if ledger.verdicts is not None:
        ledger.kept = tables.distinct(ledger.verdicts.ids[ledger.verdicts.are("kept")])
        _read_annotations(ledger, str(content.get("encoder") or ""))
    ledger.shards = cut_tables.read_shards(run, ledger.cut)
    ledger.steps = steps_of(ledger)
    ledger.equations = equations_of(ledger)
    return ledger


def choose_cut(run: Run, manifest: dict[str, Any], name: str | None) -> str:
    """The cut asked for, else the recipe's own, else the only one."""
    there = sorted({path.split("/")[1] for path in run.glob("cuts/*/*")})
    if name is not None:
        if there and name not in there:
            raise RunNotFound(f"{run.root}: no cut {name!r}; there are: {', '.join(there)}")
        return name
    own = (manifest.get("recipe") or {}).get("name", "")
    if own in there or not there:
        return own
    if len(there) == 1:
        return there[0]
    raise RunNotFound(f"{run.root}: several cuts, choose one with --name: {', '.join(there)}")


def _json(run: Run, path: str) -> dict[str, Any]:
    return run.read_json(path) if run.exists(path) else {}


def _thresholds(run: Run, ledger: Ledger) -> Thresholds:
    path = f"cuts/{ledger.cut}/thresholds.yaml"
    tree = yaml.safe_load(run.read_bytes(path)) if run.exists(path) else ledger.recipe.get("thresholds")
    tree = tree or {}
    return Thresholds.model_validate(tree.get("thresholds", tree))


def _detector(ledger: Ledger) -> str:
    """The manifest speaks of the latest start; what the evidence was made with stands beside it."""
    made = _json(ledger.run, f"scores/faces-{ledger.fingerprints.get('faces')}/filter.json")
    settings = (ledger.recipe.get("filters") or {}).get("faces") or {}
    found = (made.get("settings") or {}).get("detector") or ledger.manifest.get("detector") or settings.get("model")
    return found or "yolov5-face"


def _only_folders(run: Run) -> dict[str, str]:
    """Fingerprints from the folders themselves, for a run without a manifest."""
    found: dict[str, list[str]] = {}
    for folder in sorted({path.split("/")[1] for path in run.glob("scores/*-*/*")}):
        name, _, fingerprint = folder.rpartition("-")
        found.setdefault(name, []).append(fingerprint)
    return {name: prints[0] for name, prints in found.items() if len(prints) == 1}


def _read_annotations(ledger: Ledger, encoder: str) -> None:
    folders = sorted({path.rsplit("/", 1)[0] for path in ledger.run.glob("annotations/*/*.parquet")})
    identity = ledger.manifest.get("identity") or {}
    folder = next((folder for folder in folders if encoder and folder.endswith(encoder)), None)
    folder = folder or (folders[0] if len(folders) == 1 else None)
    if folder is None:
        return
    ledger.annotations = cut_tables.read_annotations(ledger.run, folder)
    if "none" in (identity.get("name", "none"), encoder) or ledger.annotations is None:
        return  # without an encoder nobody has an identity, and nobody is rejected for it
    without = ledger.annotations.ids[ledger.annotations.never_with]
    listed = f"cuts/{ledger.cut}/no_identity.json"
    if ledger.run.exists(listed):  # written with the plan: knows which face this cut chose
        ledger.listed = np.array(sorted(int(text, 16) for text in ledger.run.read_json(listed)), dtype=np.uint64)
        without = ledger.listed
    ledger.no_identity = np.intersect1d(ledger.kept, without)
    ledger.kept = np.setdiff1d(ledger.kept, without)
