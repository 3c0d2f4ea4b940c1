"""`make evaluate`: a trained model's pictures beside the references themselves and other people's photos."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.progress import say
from evaluation.builders.build import ReferencesOptions, references_command
from evaluation.command import ScoreOptions, named_models, score_methods
from evaluation.sets import copies, open_method, open_references, others, read_prompts
from generation.command import generate_command
from generation.options import GenerateOptions, ModelOptions, PictureOptions

PROMPTS = Path(__file__).parent / "prompts.yaml"
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


def evaluate_command(options: EvaluateOptions) -> int:
    """Draw what is not drawn yet, score it, and write the table; 0.

    Raises:
        UserError: no shards, no model, or a folder of another evaluation.
    """
    out = Path(options.out)
    named_models(options.models)
    prompts = read_prompts(Path(options.prompts))
    if not Path(options.model).is_dir():
        raise UserError(f"--model {options.model}: no such exported folder: run `make train` first, or name yours")
    folder = out / "references"
    references_command(ReferencesOptions("shards", options.shards, str(folder), options.count, options.trained_on))
    references = open_references(folder)
    say("evaluate", f"{len(references):,} references x {len(prompts)} prompts x {options.images} seeds")
    drawn = out / "pictures"
    generate_command(
        GenerateOptions(
            source=str(folder), out=str(drawn), recursive=False, prompt=list(prompts.values()), prompts=None,
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
        ScoreOptions(str(folder), [], str(out), options.weights, options.models),
    )
    return 0
