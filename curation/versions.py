"""Versions of what a run directory holds. One is raised whenever code changes what it writes there.

A directory that an earlier version wrote is refused in words where work would go on in it, never gone on with silently;
`report` reads every version listed here.

1   the first one: nothing says its version
2   filters, cuts and shards say their format; fingerprints hold the versions of the libraries that can change a score
3   an image is decoded whatever its metadata is; a format that is not decoded is the status, by its name
4   a fetched tar is named by its content, and the table of attempts names it
5   a unit's images have a table of their own, its scores are one file a pass, a cut's verdicts are few files, by pass
6   an annotation says beside the identity whether there is one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.settings import RecipeError

RUN_FORMAT = 6  # the layout: manifest.json says it as `format`
SCORES_FORMAT = 2  # of evidence; part of each filter's fingerprint
CUT_FORMAT = 3  # of verdicts and plan; part of the content recipe
SHARD_FORMAT = 2  # of tars and sidecars; part of the content recipe


def require_current(manifest: Mapping[str, Any], where: str) -> None:
    """Refuse to go on in a run directory of another format.

    Raises:
        RecipeError: says which format it is and what to do.
    """
    written = manifest.get("format", 1)
    if written == RUN_FORMAT:
        return
    age = "a later version of this project" if written > RUN_FORMAT else "an earlier version of this project"
    raise RecipeError(
        f"{where} was written by {age} (format {written}, this one writes {RUN_FORMAT}): work cannot go on in it, since "
        "what is scored and packed by two versions would differ. It can be reported: python curation/report.py. To go "
        "on, use the version that made it; or start a new run directory with RUN=..."
    )
