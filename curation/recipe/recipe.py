"""The typed recipe: every path, model and threshold of a curation, once.

What a filter can be set to stands in the filter's own file (curation/filters/). `${CACHE}` in a path is the download
cache (`FACEMAKEUP_CACHE`); other `${NAME}` are environment variables.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from common.decode import ImageLimits
from common.paths import is_utf8
from common.pinned_files.packages import cache_dir
from common.settings import RecipeError, Section, Share, read_yaml, substitute, validated, variables_in, with_changes
from curation.filters.base import Filter, Machine
from curation.filters.registry import Filters, Thresholds, open_filters
from curation.versions import CUT_FORMAT, SHARD_FORMAT
from model.conditioning.identity import IdentityEncoder, open_encoder


class LaionFace(Section):
    parts: list[str] = Field(min_length=1, description="parquet parts of LAION-Face, or of LAION-400M with `ids`")
    ids: str | None = Field(None, description="laion_face_ids.pth: which SAMPLE_IDs of each part are LAION-Face")


class Sources(Section):
    facecaption: list[str] = Field(min_length=1, description="FaceCaption-15M v1/v2 parquet: paths or globs")
    laion_face: LaionFace | None = None
    hq4m: list[str] | None = Field(None, description="the released FaceCaptionHQ-4M table: captions and `in_hq`")


class Select(Section):
    key: Literal["box_min_side", "box_area", "image_area", "image_min_side"] = "box_min_side"
    count: int | None = Field(None, ge=1, description="how many images to take; the paper: 10,000,000")
    fraction: float | None = Field(None, gt=0, le=1, description="or which share of all candidates")
    rank_over: Literal["metadata", "available"] = "available"
    overprovision: float = Field(1.3, ge=1, description="fetched per image wanted, against link rot (`available`)")
    memory_gb: float = Field(
        4, ge=0.5, description="what DuckDB may hold while it selects; the rest is on the run's disk"
    )

    @model_validator(mode="after")
    def one_size(self) -> Select:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("give exactly one of `count` and `fraction`")
        if self.key.startswith("image_") and self.rank_over == "available" and self.overprovision == 1:
            raise ValueError("`rank_over: available` needs `overprovision` above 1")
        return self


class LocalWeb(Section):
    """A web server of the driver's that stands in for the web while the sample is fetched."""

    folder: str = Field(description="what `python -m curation.sample` wrote: photos and behaviour.json")


class Fetch(Section):
    part_size: int = Field(1000, ge=1, description="images a part: one Ray task, one tar, one group of scores")
    rounds: int = Field(3, ge=1, description="round 0, then retries of what can heal")
    threads: int = Field(32, ge=1, description="connections a task")
    timeout: float = Field(10, gt=0, description="seconds without a byte")
    deadline: float = Field(30, gt=0, description="seconds for one image, redirects included")
    max_bytes: int = Field(50_000_000, ge=1, description="a body that goes on beyond this is `too_many_bytes`")
    host_connections: int = Field(8, ge=1, description="requests that a host gets at the same time, from all workers")
    longest_pause: float = Field(
        60, ge=0, description="seconds of Retry-After that are waited for, not left to a round"
    )
    user_agent_token: str | None = Field(
        "facemakeup",
        pattern=r"^[A-Za-z_-]+$",  # RFC 9309; anything else no robots.txt could name
        description="sent in User-Agent, looked up in what servers forbid; letters, _ and -",
    )
    optout: list[str] = Field(
        ["noai", "noimageai", "noindex", "noimageindex"], description="rules of X-Robots-Tag that are obeyed"
    )
    robots_txt: bool = Field(True, description="obey robots.txt (RFC 9309)")
    tdm_reservation: bool = Field(True, description="obey the TDM Reservation Protocol: header and tdmrep.json")
    allow_networks: list[str] = Field(
        [], description='CIDR blocks that may be reached though they are not public; "127.0.0.0/8:8000": on that port'
    )
    resolve: dict[str, str] = Field({}, description='as curl --resolve: {"host:port": "address:port"}; "*.test:80" too')
    local_web: LocalWeb | None = None
    max_local_failures: Share = Field(0.5, description="share of DNS, routing and TLS failures that stops the fetch")
    local_failures_after: int = Field(200, ge=1, description="attempts before that share counts")


class Score(Section):
    order: Literal["cheapest", "paper"] = "cheapest"
    batch: int = Field(16, ge=1, description="images a model sees at once")
    workers: int | None = Field(None, ge=1, description="actors an operator; default: one a free CPU (or GPU)")
    actors_a_gpu: int = Field(4, ge=1, le=16, description="that share a GPU: some prepare while another has it")
    split_devices: bool | None = Field(
        None, description="an operator a device; default: where a good part of the CPUs is on machines without a GPU"
    )
    memory_gb: float = Field(
        1.2,
        gt=0,
        description="of an actor: so many run at once as a machine has memory for; pictures take what models leave",
    )
    audit_share: Share = Field(0.01, description="images that go through every filter whatever the verdict")
    audit_minimum: int = Field(2000, ge=0)


class Annotate(Section):
    identity: Literal["dlib", "arcface", "none"] = "dlib"
    channel_order: Literal["bgr", "rgb"] = Field("bgr", description="arcface only; dlib is defined on RGB")


class Pack(Section):
    samples_per_shard: int = Field(1000, ge=1)
    caption: Literal["face", "image", "laion"] = Field("face", description="which caption ID.txt holds")
    jpeg_quality: int = Field(95, ge=1, le=100, description="for the one transcoding of PNG and WebP")


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="also the name of the cut, unless NAME is given")
    seed: int = 0
    weights: str | None = Field(None, description="a folder of model files, looked in first; or FACEMAKEUP_WEIGHTS")
    sources: Sources
    select: Select
    fetch: Fetch = Fetch()
    images: ImageLimits = ImageLimits()
    filters: Filters = Filters()
    thresholds: Thresholds = Thresholds()
    score: Score = Score()
    annotate: Annotate = Annotate()
    pack: Pack = Pack()

    def open_filters(self, device: Literal["cpu", "gpu"] = "cpu") -> dict[str, Filter]:
        """The filters that this recipe turns on, in the paper's order, their model files found and checked by hash.

        Raises:
            WeightError: a model file is missing or is not the pinned one.
        """
        return open_filters(self.filters, Machine(self.images, self.weights, device))

    def open_encoder(self) -> IdentityEncoder | None:
        """The identity encoder that this recipe names, its model files found and checked; None for `identity: none`.

        Raises:
            WeightError: a model file is missing, with where to get it.
        """
        if self.annotate.identity == "none":
            return None
        return open_encoder(self.annotate.identity, self.annotate.channel_order, self.weights)

    def content(self, fingerprints: dict[str, str], snapshot: str, candidates: str, encoder: str) -> dict[str, Any]:
        """What a sample's bytes depend on: no path, port, device, worker count or order.

        `fingerprints`: of each filter; `snapshot`: which bytes were fetched; `candidates`: what the sources say of
        the selected; `encoder`: the identity encoder's.
        """
        return {
            "snapshot": snapshot,
            "candidates": candidates,
            "format": {"cut": CUT_FORMAT, "shards": SHARD_FORMAT},
            "fingerprints": dict(sorted(fingerprints.items())),
            # of a filter that does not run, no threshold counts
            "thresholds": self.thresholds.model_dump(mode="json", include=set(fingerprints)),
            "encoder": encoder,
            "pack": self.pack.model_dump(mode="json"),
        }


# -- reading ---------------------------------------------------------------------------------------------------


def own_variables() -> dict[str, str]:
    """`${NAME}` that a recipe may use beside environment variables."""
    return {"CACHE": str(cache_dir())}


def variables_of(text: str) -> list[str]:
    """The environment variables that a recipe's text uses."""
    return [name for name in variables_in(text) if name not in own_variables()]


def checked_name(name: str) -> str:
    """The name of a cut, which is a folder's.

    Raises:
        RecipeError: no folder can have it, or it would be one elsewhere.
    """
    if not name or name.startswith(".") or any(letter in name for letter in "/\\\0") or not is_utf8(name):
        raise RecipeError(f"NAME={name!a}: the name of a cut is a folder's: no slash, no dot in front, UTF-8")
    return name


def load(path: str | os.PathLike[str], changes: Iterable[str] = (), text: str | None = None) -> Recipe:
    """Read and check a recipe file; `changes`: such as "score.workers=4"; `text`: its content, if it was sent.

    Raises:
        RecipeError: unreadable, not YAML, an unknown field, a value out of range, an unset variable.
    """
    if text is None and not Path(path).exists():
        known = ", ".join(sorted(str(file) for file in Path(__file__).parent.glob("*.yaml")))
        raise RecipeError(f"{path}: no such recipe. Those that come with the project: {known}")
    return parse(read_yaml(path, text), str(path), changes)


def parse(tree: Mapping[str, Any], where: str = "recipe", changes: Iterable[str] = ()) -> Recipe:
    """A recipe out of a YAML tree. Raises RecipeError."""
    changes = list(changes)
    named = f"{where}, changed by {', '.join(changes)}," if changes else where
    return validated(Recipe, substitute(with_changes(tree, changes), own_variables()), named)
