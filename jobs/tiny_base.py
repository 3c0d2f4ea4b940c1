"""Train the tiny base that `tiny.yaml` stands on, from the sample's photos; minutes on two CPU cores.

python jobs/tiny_base.py [--photos FOLDER] [--out FOLDER] [--seed N]

Prints the folder of the base. The same pictures, code and seed find the one that is there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
if __name__ == "__main__":  # and not for whoever imports `tiny_base`
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or it explains at length that torchvision is not here
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed, which accelerate imports, says so on stdout

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from common.decode import Undecodable, decode  # noqa: E402
from common.packages import PackageError, cache_dir  # noqa: E402
from common.progress import Steps, say, span  # noqa: E402
from common.weights import WeightError, resolve  # noqa: E402
from model.conditioning.face_finder import FaceFinder  # noqa: E402
from model.conditioning.views import face_views  # noqa: E402
from model.config import ModelConfig, load_config  # noqa: E402
from training.tiny_base.base import Recipe, Report, facts_of, make  # noqa: E402
from training.tiny_base.pictures import PictureError, Pictures, distinct  # noqa: E402

PHOTOS = {".jpg", ".jpeg", ".png", ".webp"}
WIDER = 1.5  # a second view of each face: its crop, so many times as wide


def pictures_in(folder: Path, config: ModelConfig, cache: Path) -> Pictures:
    """Pictures of every photo in `folder`, `config.resolution` pixels: each face twice, and the photo's squares.

    They are kept in `cache`: finding faces costs more than it takes to look whether the base is there.

    Raises:
        PictureError: no photos in the folder.
        WeightError: the face detector is not to be had.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in PHOTOS)
    if not files:
        raise PictureError(f"{folder}: no photos ({', '.join(sorted(PHOTOS))}) in it; `make sample` brings some")
    finder = FaceFinder(identity=None)
    facts = [repr(finder.describe()), config.conditions.model_dump_json(), str(config.resolution)]
    facts += [
        hashlib.sha256(code.read_bytes()).hexdigest() for code in (Path(__file__), ROOT / "model/conditioning/views.py")
    ]
    facts += [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    kept = cache / f"pictures-{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:16]}.npz"
    if kept.is_file():
        try:
            with np.load(kept, allow_pickle=False) as there:
                return Pictures(there["pixels"], there["photos"].tolist(), there["faces"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            say("pictures", f"{kept} is damaged and made again: {error}")
    pixels, photos, faces, refused = [], [], [], 0
    with Steps("pictures", len(files), "photos") as steps:
        for file in files:
            data = file.read_bytes()
            name = hashlib.sha256(data).hexdigest()[:16]
            try:
                rgb = None if name in photos else decode(data).rgb
            except Undecodable:
                rgb, refused = None, refused + 1
            if rgb is not None:
                views, are_faces = _views(rgb, finder, config)
                pixels += views
                faces += are_faces
                photos += [name] * len(views)
            steps.advance(1)
    if not pixels:
        raise PictureError(f"{folder}: none of its {len(files)} files is a photo that can be decoded")
    pictures = distinct(Pictures(np.stack(pixels), photos, np.array(faces, bool)))
    say(
        "pictures",
        f"{len(pictures):,} of {len(set(pictures.photos))} photos; of {len(files)} files {refused} could not be "
        f"decoded, {len(set(photos)) - len(set(pictures.photos))} repeat another's motif",
    )
    _write(kept, pictures)
    return pictures


def _views(rgb: np.ndarray, finder: FaceFinder, config: ModelConfig) -> tuple[list[np.ndarray], list[bool]]:
    """Pictures of a photo, and which of them show a face as the model is trained on it."""
    how, size = config.conditions.model_dump(), config.resolution
    found = finder(rgb)
    views = [
        face_views(rgb, face, how | {"crop_factor": how["crop_factor"] * wider}, size).image
        for wider in (1, WIDER)
        for face in found
    ]
    height, width = rgb.shape[:2]
    side = min(height, width)
    for place in (0, 0.5, 1) if max(height, width) > 1.2 * side else (0.5,):
        top, left = int((height - side) * place), int((width - side) * place)
        square = rgb[top : top + side, left : left + side]
        views.append(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA))
    return views, [index < len(found) for index in range(len(views))]


def _write(file: Path, pictures: Pictures) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".pictures-", suffix=".tmp", delete=False) as scratch:
        try:
            np.savez(scratch, pixels=pictures.pixels, photos=np.array(pictures.photos), faces=pictures.faces)
            scratch.close()
            os.replace(scratch.name, file)
        finally:
            Path(scratch.name).unlink(missing_ok=True)


class _Told:
    """A progress bar (or lines) for each step of the making, with the time that is left."""

    def __init__(self) -> None:
        self._steps: Steps | None = None

    def __call__(self, step: str, done: int, total: int, note: str) -> None:
        if self._steps is None or self._steps.step != step:
            self.end()
            self._steps = Steps(step, total, "steps").__enter__()
        self._steps.advance(done - self._steps.done, note)

    def end(self) -> None:
        if self._steps is not None:
            say(self._steps.step, f"{self._steps.done} steps in {span(self._steps.seconds)} {self._steps.note}")
            self._steps.__exit__(None, None, None)
            self._steps = None


def _summary(folder: Path) -> str:
    facts = facts_of(folder)
    faces, mean = facts["measured"]["vae"]["faces"], facts["measured"]["unet_mean"]
    return (
        f"VAE: correlation {faces['mean']:.3f} on held-out faces (worst {faces['worst']:.3f}); UNet: error "
        f"{mean['empty_prompt']:.3f} (telling nothing: 1); trained in {span(facts['seconds']['all'])}"
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of photos (default: the sample's, made if need be)")
    parser.add_argument("--out", type=Path, help="where bases are kept (default: tiny-base in the cache)")
    parser.add_argument("--config", default="tiny", help="a configuration, or a YAML file (%(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--vae-steps", type=int, default=Recipe.vae_steps, help="fewer for a quick try (%(default)s)")
    parser.add_argument("--unet-steps", type=int, default=Recipe.unet_steps, help="(%(default)s)")
    return parser


def tiny_base(
    config: ModelConfig,
    photos: Path | None = None,
    out: Path | None = None,
    recipe: Recipe | None = None,
    report: Report = lambda step, done, total, note: None,
) -> Path:
    """The base's folder, for jobs that stand on it; made unless it is there.

    Raises:
        PackageError, SampleError, WeightError, PictureError: what is missing, and the remedy.
    """
    from curation.sample.make import make as make_sample

    if photos is None:
        make_sample(cache_dir() / "sample")
        photos = cache_dir() / "sample" / "photos"
    root = out or cache_dir() / "tiny-base"
    return make(
        config, pictures_in(photos, config, root), resolve("clip-vocabulary").path, root, recipe or Recipe(), report
    )


def main(arguments: list[str] | None = None) -> int:
    """0: the base is there, its folder on stdout; 2: it cannot be made, and why."""
    asked = parser().parse_args(arguments)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from curation.sample.make import SampleError

    diffusers_logging.disable_progress_bar()  # of files written in milliseconds
    transformers_logging.disable_progress_bar()
    told = _Told()
    recipe = Recipe(vae_steps=asked.vae_steps, unet_steps=asked.unet_steps, seed=asked.seed)
    try:
        folder = tiny_base(load_config(asked.config), asked.photos, asked.out, recipe, told)
    except (PackageError, SampleError, WeightError, ValueError, OSError) as error:
        print(f"tiny-base: {error}", file=sys.stderr)
        return 2
    finally:
        told.end()
    say("base", _summary(folder))
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
