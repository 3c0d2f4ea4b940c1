"""The sample on a cluster: its photos are served on the driver's machine, its tables stand where all nodes read them."""

from __future__ import annotations

from pathlib import Path

from common.paths import open_file
from common.pinned_files.packages import cache_dir
from common.progress import say
from curation.recipe.recipe import LaionFace, Recipe, Sources
from curation.run_directory.run import Run
from curation.sample.folder import make_sample
from curation.sources.files import expand_paths

FOLDER = "sources"  # of the run directory


def share_sample(run: Run, recipe: Recipe) -> Recipe:
    """A recipe of the sample whose tables are copies in the run directory; any other recipe, and one on a disk, as it is.

    Raises:
        PackageError, SampleError: the sample is not here and cannot be made.
    """
    web = recipe.fetch.local_web
    if web is None or run.is_local:
        return recipe
    if Path(web.folder) == cache_dir() / "sample":
        make_sample(Path(web.folder))
    laion = recipe.sources.laion_face
    sources = Sources(
        facecaption=_copied(run, "facecaption", recipe.sources.facecaption),
        laion_face=laion
        and LaionFace(
            parts=_copied(run, "laion-face", laion.parts),
            ids=_copied(run, "laion-face", [laion.ids])[0] if laion.ids else None,
        ),
        hq4m=recipe.sources.hq4m and _copied(run, "hq4m", recipe.sources.hq4m),
    )
    return recipe.model_copy(update={"sources": sources})


def _copied(run: Run, kind: str, patterns: list[str]) -> list[str]:
    """The same files in the run directory."""
    copies = []
    for path in expand_paths(patterns, f"sources.{kind}"):
        relative = f"{FOLDER}/{kind}/{Path(path).name}"
        if not run.exists(relative):
            with open_file(path) as file:
                run.write_bytes(relative, file.read())
            say("start", f"{relative}: a copy for the other nodes")
        copies.append(run.url(relative))
    return copies
