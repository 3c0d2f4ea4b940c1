"""The typed recipe: every path, model and threshold of a curation, once.

YAML in, clear errors out: an error names the file, the field and the remedy, before any work starts.
`${CACHE}` in a path is the download cache (`FACEMAKEUP_CACHE`); other `${NAME}` are environment variables.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.decode import ImageLimits
from common.packages import cache_dir
from model.conditioning.detectors import FACE_FLOOR, INPUT_SIDE, NMS_IOU, DetectorName

PAPER_ORDER = ("grayscale", "text", "faces", "anime")
TEXT_FLOOR = 0.3  # evidence below this confidence is not stored; FACE_FLOOR is the same for faces
Share = Annotated[float, Field(ge=0, le=1)]


class RecipeError(ValueError):
    """The recipe cannot be run as it is; the message says where and what to change."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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

    @model_validator(mode="after")
    def one_size(self) -> Select:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("give exactly one of `count` and `fraction`")
        if self.key.startswith("image_") and self.rank_over == "available" and self.overprovision == 1:
            raise ValueError("`rank_over: available` needs `overprovision` above 1")
        return self


class LocalWeb(Section):
    """A loopback web server that stands in for the web while the sample is fetched."""

    folder: str = Field(description="what `python -m curation.sample.make` wrote: photos and behaviour.json")


class Fetch(Section):
    part_size: int = Field(1000, ge=1, description="images a part: one Ray task, one tar, one group of scores")
    rounds: int = Field(3, ge=1, description="round 0, then retries of what can heal")
    threads: int = Field(32, ge=1, description="connections a task")
    timeout: float = Field(10, gt=0, description="seconds without a byte")
    deadline: float = Field(30, gt=0, description="seconds for one image, redirects included")
    max_bytes: int = Field(50_000_000, ge=1, description="a body that goes on beyond this is `too_many_bytes`")
    user_agent_token: str | None = Field("facemakeup", description="named to servers and looked up in X-Robots-Tag")
    optout: list[str] = ["noai", "noimageai", "noindex", "noimageindex"]
    allow_networks: list[str] = Field([], description="CIDR blocks that may be reached though they are not public")
    resolve: dict[str, str] = Field({}, description='as curl --resolve: {"host:port": "address:port"}; "*.test:80" too')
    local_web: LocalWeb | None = None
    max_local_failures: Share = Field(0.5, description="share of DNS, routing and TLS failures that stops the fetch")
    local_failures_after: int = Field(200, ge=1, description="attempts before that share counts")


class GrayscaleSettings(Section):
    side: int = Field(256, ge=16, description="longer side of the one view that colour is measured on")


class TextSettings(Section):
    model: Literal["ppocr-v4-mobile-det", "ppocr-v6-small-det"] = "ppocr-v4-mobile-det"
    engine: Literal["onnxruntime", "paddleocr"] = "onnxruntime"
    max_side: int = Field(480, ge=64, multiple_of=32)
    binarize: float = Field(0.3, gt=0, lt=1)
    unclip: float = Field(1.6, gt=0)


class FacesSettings(Section):
    model: DetectorName = "yolov5-face"
    stand_in: Literal["centerface"] | None = Field(None, description="used, and said so, where the model cannot be had")
    file: str | None = Field(None, description="your own yolov5-face export, taken instead of the pinned file")
    input_side: int = Field(INPUT_SIDE, ge=64, multiple_of=32)
    nms_iou: float = Field(NMS_IOU, gt=0, lt=1)


class AnimeSettings(Section):
    where: Literal["image", "faces"] = "image"
    side: int = Field(256, ge=24, description="longer side of the view that the cascade sees")
    scale_factor: float = Field(1.1, gt=1)
    min_size: float = Field(0.35, gt=0, le=1, description="smallest hit, as a share of the view's shorter side")


class Filters(Section):
    grayscale: GrayscaleSettings = GrayscaleSettings()
    text: TextSettings = TextSettings()
    faces: FacesSettings = FacesSettings()
    anime: AnimeSettings = AnimeSettings()


class GrayscaleThresholds(Section):
    min_std: float = Field(2.0, ge=0, description="mean over pixels of the std over R, G, B; 8-bit levels")


class TextThresholds(Section):
    min_confidence: float = Field(0.6, ge=TEXT_FLOOR, le=1, description="boxes below do not count")
    max_line: Share = Field(0.2, description="higher boxes do not count: the detector's blobs; a share of the image")
    max_area: Share = Field(0.02, description="area of the union of the boxes / area of the image")
    max_boxes: int = Field(6, ge=0)


class FacesThresholds(Section):
    min_confidence: dict[DetectorName, Annotated[float, Field(ge=FACE_FLOOR, le=1)]] = Field(
        {"yolov5-face": 0.5, "centerface": 0.5}, description="a number means another thing for each detector"
    )
    min_relative_area: Share = Field(0.12, description="faces smaller than this share of the largest do not count")
    count: int = Field(1, ge=1, description="how many faces an image must have")
    min_box_iou: float = Field(
        0.3, gt=0, le=1, description="the chosen face must overlap a box of FaceCaption this much"
    )

    @model_validator(mode="before")
    @classmethod
    def one_number_for_all(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("min_confidence"), (int, float)):
            both = dict.fromkeys(("yolov5-face", "centerface"), value["min_confidence"])
            return {**value, "min_confidence": both}
        return value


class AnimeThresholds(Section):
    min_neighbors: int = Field(12, ge=1, description="a hit merged from fewer windows does not count")


class Thresholds(Section):
    """Everything that can be moved without a model: what a cut is."""

    grayscale: GrayscaleThresholds = GrayscaleThresholds()
    text: TextThresholds = TextThresholds()
    faces: FacesThresholds = FacesThresholds()
    anime: AnimeThresholds = AnimeThresholds()


class Score(Section):
    order: Literal["cheapest", "paper"] = "cheapest"
    batch: int = Field(16, ge=1, description="images a model sees at once")
    workers: int | None = Field(None, ge=1, description="actors an operator; default: one a free CPU (or GPU)")
    split_devices: bool | None = Field(None, description="an operator a device; default: where the cluster has GPUs")
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

    def content(self, fingerprints: dict[str, str], snapshot: str, candidates: str, encoder: str) -> dict[str, Any]:
        """What a sample's bytes depend on: no path, port, device, worker count or order.

        `fingerprints`: of each filter; `snapshot`: which bytes were fetched; `candidates`: what the sources say of
        the selected; `encoder`: the identity encoder's.
        """
        return {
            "snapshot": snapshot,
            "candidates": candidates,
            "fingerprints": dict(sorted(fingerprints.items())),
            "thresholds": self.thresholds.model_dump(mode="json"),
            "encoder": encoder,
            "pack": self.pack.model_dump(mode="json"),
        }


# -- reading ---------------------------------------------------------------------------------------------------


def variables_of(text: str) -> list[str]:
    """The environment variables that a recipe's text uses."""
    return sorted(set(re.findall(r"\$\{(\w+)\}", text)) - {"CACHE"})


def expand(value: Any) -> Any:
    """`${CACHE}` and environment variables in every string of a YAML tree."""
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name == "CACHE":
            return str(cache_dir())
        if name not in os.environ:
            raise RecipeError(f"the recipe uses ${{{name}}}, which is not set: export {name}=... first")
        return os.environ[name]

    return re.sub(r"\$\{(\w+)\}", replace, value)


def set_fields(tree: dict[str, Any], assignments: list[str], prefix: str = "") -> dict[str, Any]:
    """A copy of `tree` with "a.b=value" assignments applied (value: YAML). For `SET=` and `--set`."""
    tree = yaml.safe_load(yaml.safe_dump(tree))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"cannot read {assignment!r}: write it as text.max_area=0.03")
        node = tree
        *parents, leaf = f"{prefix}{key.strip()}".split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise RecipeError(f"{assignment!r}: {parent} is a value, it has no field {leaf}")
        node[leaf] = yaml.safe_load(text)
    return tree


def load(path: str | os.PathLike[str], assignments: list[str] | None = None) -> Recipe:
    """Read and check a recipe file.

    Raises:
        RecipeError: unreadable, not YAML, an unknown key, a value out of range, an unset variable.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        here = ", ".join(sorted(str(file) for file in Path(__file__).parent.glob("*.yaml")))
        raise RecipeError(f"{path}: no such recipe. Those that come with the project: {here}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from error
    return loads(text, str(path), assignments)


def loads(text: str, where: str, assignments: list[str] | None = None) -> Recipe:
    """As `load`, from the text of a recipe file."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{where}: a recipe is a YAML mapping with `name`, `sources` and `select`")
    return parse(set_fields(tree, assignments or []), where)


def parse(tree: dict[str, Any], where: str = "recipe") -> Recipe:
    try:
        return Recipe.model_validate(expand(tree))
    except ValidationError as error:
        raise RecipeError(_explain(error, where)) from None


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _fields_at(Recipe, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            advice = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
            lines.append(f"  {field}: no such field; {advice}")
        elif item["type"] == "missing":
            lines.append(f"  {field}: is required")
        else:
            note = item["msg"].removeprefix("Value error, ")
            if field.endswith(("min_confidence", "yolov5-face", "centerface")) and "greater" in note:
                note += "; lower evidence is not stored, so no cut could use it"
            lines.append(f"  {field or '(recipe)'}: {note} (is {item['input']!r})" if field else f"  {note}")
    return f"{where} has {len(lines)} mistake{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)


def _fields_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
