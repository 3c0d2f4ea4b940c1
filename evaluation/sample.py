"""`make evaluate`: a trained model's pictures beside the references themselves and other people's photos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.progress import say
from common.storage import Storage, json_bytes
from evaluation import asked
from evaluation.builders.build import ReferencesOptions, references_command
from evaluation.command import ScoreOptions, named_models, score_methods
from evaluation.method_facts import NAME as METHOD
from evaluation.method_facts import exported_facts, read_facts
from evaluation.sets import copies, open_method, open_references, others
from generation.command import generate_command
from generation.options import GenerateOptions, ModelOptions, PictureOptions

PROMPTS = Path(__file__).parent / "prompts" / "own.yaml"
SEED = 42  # of the published figures


@dataclass(frozen=True)
class EvaluateOptions:
    """`shards`: where references are taken from; `model`: an exported folder; `images`: pictures a reference and prompt."""

    shards: str
    model: str
    out: str
    count: int
    images: int
    steps: int
    prompts: str = str(PROMPTS)
    models: list[str] = field(default_factory=list)
    weights: str | None = None
    trained_on: str | None = None
    votes: list[str] = field(default_factory=list)


def evaluate_command(options: EvaluateOptions) -> int:
    """Draw what is not drawn yet, score it, and write the table; 0.

    Raises:
        UserError: no shards, no model, or a folder of another evaluation.
    """
    out = Path(options.out)
    named_models(options.models)
    prompts = asked.read_prompts(Path(options.prompts))
    if not Path(options.model).is_dir():
        raise UserError(f"--model {options.model}: no such exported folder: run `make train` first, or name yours")
    folder = out / "references"
    references_command(ReferencesOptions("shards", options.shards, str(folder), options.count, options.trained_on))
    references = open_references(folder)
    drawn = out / "pictures"
    _freeze(out, drawn, options, prompts)
    say("evaluate", f"{len(references):,} references x {len(prompts)} prompts x {options.images} seeds")
    generate_command(
        GenerateOptions(
            source=str(folder), out=str(drawn), recursive=False, prompt=[prompt.words for prompt in prompts], prompts=None,
            images=options.images, limit=None, part="0/1", no_watermark=True, record_prompt=False,
        ),
        PictureOptions(
            negative_prompt="", seed=SEED, steps=options.steps, policy="largest", mix_with=None, alpha=0.5,
            preset="realistic", ip_scale=None, controlnet_scale=None, guidance_scale=None, shortcut_scale=None,
        ),
        ModelOptions(model=options.model),
    )  # fmt: skip
    mine = open_method("Face-MakeUp", drawn, references)
    score_methods(
        references,
        [mine, copies(mine), others(mine)],
        ScoreOptions(str(folder), [], str(out), options.weights, options.models, votes=options.votes),
        prompts,
    )
    return 0


def _freeze(out: Path, drawn: Path, options: EvaluateOptions, prompts: tuple[asked.Prompt, ...]) -> None:
    """Keep what is asked, and how it is drawn, before anything is: kept pictures are those of another question else.

    Raises:
        UserError: pictures are there that were asked for, or drawn, otherwise.
    """
    seeds = tuple(str(SEED + index) for index in range(options.images))
    there = any(drawn.glob("*.png"))
    if there and asked.frozen(Storage(out)) is None:
        raise UserError(f"{drawn}: holds pictures of unknown prompts and seeds: take another --out, or remove them")
    asked.freeze(asked.Asked(prompts, seeds), Storage(out))
    facts = exported_facts(Path(options.model), options.steps)
    before, now = read_facts(drawn), {key: str(value) for key, value in facts.items()}
    if there and (changed := [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]):
        was = ", ".join(f"{key} {before.get(key, 'not said')}, now {now.get(key, 'not said')}" for key in changed)
        raise UserError(f"{drawn}: its pictures were drawn otherwise ({was}): take another --out, or remove them")
    drawn.mkdir(parents=True, exist_ok=True)
    (drawn / METHOD).write_bytes(json_bytes(facts))
