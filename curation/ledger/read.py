"""Reads a run directory, at any moment of its life, into one `Ledger`. Nothing here writes or draws."""

from __future__ import annotations

from typing import Any

import yaml

from curation.cutting.cut import content_file
from curation.ledger.equations import equations_of, steps_of
from curation.ledger.loading import load_tables
from curation.ledger.model import Ledger, RunNotFound
from curation.recipe.recipe import Thresholds
from curation.run_directory.run import Run
from curation.run_directory.scores import description_file


def read_ledger(run: Run, cut: str | None = None) -> Ledger:
    """Everything that the run holds so far.

    Raises:
        RunNotFound: nothing there, or no cut of that name.
        curation.ledger.tables.LedgerError: a table that does not follow the layout.
    """
    manifest = run.manifest()
    if not manifest:
        raise RunNotFound(f"{run.root}: no run there (it has no manifest.json)")
    ledger = Ledger(run, manifest, choose_cut(run, manifest, cut))
    claimed = _json(run, content_file(ledger.cut))
    content = claimed.get("content") or {}
    ledger.thresholds = thresholds_of(ledger, ledger.cut)
    ledger.fingerprints = content.get("fingerprints") or manifest.get("fingerprints") or {}
    ledger.detector = _detector(ledger)
    ledger.content_hash = claimed.get("hash") or manifest.get("content_hash") or ""
    ledger.source_counts = _json(run, "candidates/counts.json")
    ledger.select_counts = _json(run, "selected/counts.json")
    load_tables(ledger, content.get("snapshot"), str(content.get("encoder") or ""))
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


def thresholds_of(ledger: Ledger, cut: str) -> Thresholds:
    """Of a cut; thresholds.yaml, beside them, is for people, and all that earlier formats have."""
    run, path, claimed = ledger.run, f"cuts/{cut}/thresholds.yaml", _json(ledger.run, content_file(cut))
    if "recipe" in claimed:
        tree = claimed["recipe"]["thresholds"]
    else:
        tree = yaml.safe_load(run.read_bytes(path)) if run.exists(path) else ledger.recipe.get("thresholds")
    return Thresholds.model_validate(tree or {})


def _detector(ledger: Ledger) -> str:
    """The manifest speaks of the latest start; what the evidence was made with stands beside it."""
    described = _json(ledger.run, description_file(f"faces-{ledger.fingerprints.get('faces')}"))
    return (described.get("settings") or {}).get("detector") or ledger.manifest.get("detector") or "yolov5-face"
