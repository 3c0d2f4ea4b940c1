"""The tiny base for whoever needs one: found in the cache, or trained now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from common.pinned_files.packages import cache_dir
from common.pinned_files.weights import resolve
from common.progress import ProgressBar, duration_text, say
from model.config import ModelConfig, load_config
from training.recipe import TrainRecipe
from training.tiny_base.base import facts_of, find_or_train
from training.tiny_base.photos import pictures_in
from training.tiny_base.recipe import DEFAULT, BaseRecipe, ReportProgress


def provide(
    config: ModelConfig,
    photos: Path,
    root: Path | None = None,
    recipe: BaseRecipe = DEFAULT,
    report: ReportProgress = lambda stage, done, total, note: None,
) -> Path:
    """The folder of the base for these photos, trained now unless it is there.

    Args:
        photos: a folder of photos.
        root: where bases are kept; None: tiny-base in the cache.

    Raises:
        WeightError, PictureError: what is missing, and the remedy.
    """
    root = root or cache_dir() / "tiny-base"
    pictures = pictures_in(photos, config, root)
    return find_or_train(config, pictures, resolve("clip-vocabulary").path, root, recipe, report)


def with_base(recipe: TrainRecipe, photos: Callable[[], Path]) -> TrainRecipe:
    """A training recipe whose model has a base: the tiny one where the recipe and the model name none.

    Args:
        photos: gives the folder of photos that a base is trained from; called only if one is needed.
    """
    config = load_config(recipe.model)
    if recipe.base or config.pretrained:
        return recipe
    say("train", f"{recipe.model} needs a base that has learnt: found in the cache, or trained now, in minutes")
    progress = StageProgress()
    try:
        return recipe.model_copy(update={"base": str(provide(config, photos(), report=progress))})
    finally:
        progress.end()


class StageProgress:
    """Shows a progress bar (or lines) for each stage of the training of a base; a `ReportProgress`."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        if self._bar is None or self._bar.step != stage:
            self.end()
            self._bar = ProgressBar(stage, total, "steps").__enter__()
        self._bar.advance(done - self._bar.done, note)

    def end(self) -> None:
        """Close the bar of the last stage."""
        if self._bar is not None:
            say(self._bar.step, f"{self._bar.done} steps in {duration_text(self._bar.seconds)} {self._bar.note}")
            self._bar.__exit__(None, None, None)
            self._bar = None


def summary(folder: Path) -> str:
    """How good a base is, in a line."""
    facts = facts_of(folder)
    faces, mean = facts["measured"]["vae"]["faces"], facts["measured"]["unet_mean"]
    return (
        f"VAE: correlation {faces['mean']:.3f} on held-out faces (worst {faces['worst']:.3f}); UNet: error "
        f"{mean['empty_prompt']:.3f} (predicting nothing: 1); trained in {duration_text(facts['seconds']['all'])}"
    )
