"""A run directory on any filesystem: its layout and its manifest.

A run is a folder that only grows; each file becomes visible whole (common/storage.py).

    RUN/manifest.json                     recipe as resolved, content hash, code version, weights, seeds
    RUN/candidates/*.parquet              one row an image, every one with its rank
    RUN/selected/*.parquet                the candidates to fetch, in id order
    RUN/fetched/ROUND/PART-HASH.tar, PART.parquet   bytes, and one row an attempt
    RUN/fetched/snapshot.parquet          id -> tar, offset, size, sha256
    RUN/scores/images/PART*.parquet       decode status and facts of each image
    RUN/scores/FILTER-FINGERPRINT/*       one filter's evidence
    RUN/cuts/NAME/                        thresholds.yaml, verdicts, funnel.json, plan.parquet
    RUN/annotations/ENCODER-FINGERPRINT/* chosen face, landmarks, identity
    RUN/shards/NAME/NNNNN.{tar,json}      what the trainer reads
    RUN/drivers/NNNNNN.json               whose turn it is
    RUN/report.html
"""

from __future__ import annotations

from typing import Any

from common.storage import Storage
from common.version import VERSION


class Run(Storage):
    """A run directory. `Run("runs/a")`, `Run("s3://bucket/runs/a")`; cheap to make, safe to pickle."""

    # -- manifest -----------------------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        return self.read_json("manifest.json") if self.exists("manifest.json") else {}

    def update_manifest(self, **entries: Any) -> dict[str, Any]:
        """Add entries; those that are there already are replaced."""
        manifest = {**self.manifest(), **entries, "code_version": VERSION}
        self.write_json("manifest.json", manifest)
        return manifest
