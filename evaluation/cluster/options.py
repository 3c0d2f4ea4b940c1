"""What `make evaluate` is asked for: by a command line, by a recipe (a YAML file of the same names), or by a job's text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from common.cluster.environment import submitted_recipe
from common.cluster.job import Job
from common.errors import UserError
from evaluation.asked import read_prompts
from evaluation.methods import registry

PROMPTS = Path(__file__).parent.parent / "prompts" / "own.yaml"
STEPS = 12  # of Face-MakeUp's sampler
DTYPES = ("auto", "fp32", "fp16", "bf16")
# of what a recipe gives that is no list
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("shards", "out", "weights", "trained_on", "device", "dtype"), (str,)),
    **dict.fromkeys(("count", "images", "actors"), (int,)),
    "prompts": (str, dict),
    "twins": (bool,),
    "price": (float, int),
}


@dataclass(frozen=True)
class EvaluateOptions:
    """`shards`: where references are taken from; `methods`: names of the registry, NAME=FOLDER or NAME=FILE.yaml; `images`:
    pictures a reference and prompt; `parts`: METHOD.ROLE=PLACE; `changes`: METHOD.SETTING=VALUE; `models`: ROLE=PLACE, of metrics;
    `actors`: of Ray, of each method and of the metrics; `price`: dollars an hour of a GPU, or of a machine without."""

    shards: str = "runs/sample/shards/sample"
    out: str = "runs/evaluation"
    count: int = 16
    images: int = 1
    methods: Sequence[str] = registry.DEFAULT
    parts: Sequence[str] = ()
    changes: Sequence[str] = ()
    prompts: str = str(PROMPTS)
    models: list[str] = field(default_factory=list)
    weights: str | None = None
    trained_on: str | None = None
    votes: list[str] = field(default_factory=list)
    device: str = "auto"
    dtype: str = "auto"
    twins: bool = False  # also a tiny random twin of each method that has one
    actors: int | None = None
    price: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("images", 1), ("actors", 1), ("price", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name}: {value} is less than {least}")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype: {self.dtype}: choose of {', '.join(DTYPES)}")
        if not self.methods:
            raise UserError(f"methods: none is named: choose of {', '.join([*registry.METHODS, *registry.BOUNDS])}")


def options_of(given: dict[str, Any]) -> EvaluateOptions:
    """Those of a recipe, if one is `given`, with what is given besides: the options' names, `model` and `steps` of Face-MakeUp.

    Raises:
        UserError: the recipe cannot be read.
    """
    model, steps, recipe = (given.get(name) for name in ("model", "steps", "recipe"))
    named = {name: value for name, value in given.items() if name not in ("model", "steps", "recipe")}
    options = replace(EvaluateOptions(**read_recipe(recipe)), **named)
    parts = [f"face-makeup.model={model}"] if model else []
    # of all variants, unless one has its own
    variants = [name for name in options.methods if name in registry.METHODS and name.startswith("face-makeup")]
    changes = [f"{name}.steps={steps or STEPS}" for name in variants]
    return replace(options, parts=[*parts, *options.parts], changes=[*changes, *options.changes])


def read_recipe(file: str | None) -> dict[str, Any]:
    """The options that a YAML file names; none without a file.

    Raises:
        UserError: it cannot be read, or names something else.
    """
    if file is None:
        return {}
    try:
        text = Path(file).read_text("utf-8")
    except OSError as error:
        raise UserError(f"--recipe {file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"--recipe {file}: is not YAML: {error}") from error
    return _parsed(text, f"--recipe {file}")


def submitted_options() -> EvaluateOptions | None:
    """Those that came with the job around this process; None: none came."""
    text = submitted_recipe()
    return None if text is None else EvaluateOptions(**_parsed(text, "the job's recipe"))


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{where}: is not YAML: {error}") from error
    if not isinstance(told, dict):
        raise UserError(f"{where}: write a line `NAME: VALUE` for each option, for example `count: 200`")
    usual = EvaluateOptions()
    known = [item.name for item in fields(EvaluateOptions)]
    for name, value in told.items():
        if name not in known:
            instead = {"model": "parts: [face-makeup.model=PLACE]", "steps": "changes: [face-makeup.steps=N]"}.get(name)
            raise UserError(
                f"{where}: {name} is no option; {f'write {instead}' if instead else 'there are: ' + ', '.join(known)}"
            )
        if isinstance(getattr(usual, name), list | tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise UserError(f"{where}: {name}: write a list, a line `- VALUE` for each")
        elif not isinstance(value, KINDS[name]) or (isinstance(value, bool) and bool not in KINDS[name]):
            raise UserError(f"{where}: {name}: {value!r} is no {' or '.join(kind.__name__ for kind in KINDS[name])}")
    if isinstance(told.get("prompts"), dict):  # they stand in the recipe itself
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False, encoding="utf-8") as file:
            yaml.safe_dump(told["prompts"], file, sort_keys=False, allow_unicode=True)
        told["prompts"] = file.name
    return told


def job_of(options: EvaluateOptions) -> Job:
    """The job of these options, which takes the prompts along.

    Raises:
        UserError: a place that means nothing on another machine.
    """
    if options.votes:
        raise UserError("--votes: files of this machine; give them when the pictures are there, without CLUSTER")
    if options.twins and "://" in options.out:
        raise UserError(f"TWINS=1 wants OUT on a disk that all nodes share: {options.out} is none")
    named = [
        ("--shards", options.shards),
        ("--out", options.out),
        ("--weights", options.weights),
        ("--trained-on", options.trained_on),
    ]
    named += [("--part", text.partition("=")[2]) for text in options.parts]
    named += [("--methods", text.partition("=")[2]) for text in options.methods if "=" in text]
    named += [
        ("--model-of", text.partition("=")[2]) for text in options.models if Path(text.partition("=")[2]).exists()
    ]
    for option, place in named:
        if place and "://" not in place and not Path(place).is_absolute():
            raise UserError(
                f"{option} {place}: on a cluster it must mean the same on every node: s3://..., or an absolute path on shared storage"
            )
    # a mistake is said here, not by a machine far away
    registry.require_names(options.methods)
    read_prompts(Path(options.prompts))
    prompts = yaml.safe_load(Path(options.prompts).read_text("utf-8"))
    told = {**asdict(options), "methods": list(options.methods), "prompts": prompts}
    told = {name: value for name, value in told.items() if value is not None}
    text = yaml.safe_dump(told, sort_keys=False, allow_unicode=True)
    return Job(["python", "jobs/evaluate.py", "--recipe", "evaluation"], f"evaluate {options.out}", text)
