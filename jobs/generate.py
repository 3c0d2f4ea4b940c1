"""Draw faces from a folder of photos, or from the samples of shards.

python jobs/generate.py photos/ --prompt "a person reading" --out drawn/            the tiny model: tries the program
python jobs/generate.py photos/ --prompts prompts.txt --model exported/ --out drawn/
python jobs/generate.py runs/sample/shards/sample --model sd15 --checkpoint model.bin --out drawn/
ray job submit --working-dir . -- python jobs/generate.py ... --part 0/4            a quarter of it

A shard's samples bring their face, identity and caption; of a photo the face is found. OUT/drawn.jsonl has a line for
every picture that was asked for: drawn, or why not. Pictures that are there are not drawn again; OUT/settings.json says what
decided them, and other settings need another folder.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from pathlib import Path

SETTINGS = "settings.json"
DECISIVE = (  # for a picture, besides its photo and prompt
    "model", "checkpoint", "base", "image_encoder", "vae", "negative_prompt", "seed", "steps", "policy", "mix_with",
    "alpha", "preset", "ip_scale", "controlnet_scale", "guidance_scale", "shortcut_scale",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # or it explains at length that torchvision is not here

from model.presets import PRESETS  # noqa: E402


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a folder of photos, or of shards (NNNNN.tar), or one .tar")
    parser.add_argument("--out", required=True, help="folder of the drawn pictures")
    what = parser.add_argument_group("what is drawn")
    what.add_argument("--prompt", action="append", default=[], help="may be given several times; default: captions")
    what.add_argument("--prompts", metavar="FILE", help="a prompt a line")
    what.add_argument("--negative-prompt", default="")
    what.add_argument("--images", type=_count, default=1, help="pictures for each face and prompt (%(default)s)")
    what.add_argument("--limit", type=_count, help="only so many faces")
    what.add_argument(
        "--part", default="0/1", metavar="I/N", help="every N-th face, from I on: for N jobs side by side"
    )
    what.add_argument("--seed", type=_seed, default=42, help="of every first picture; the next take the next numbers")
    what.add_argument("--steps", type=_count, default=50)
    what.add_argument("--policy", default="only", choices=["only", "largest", "highest_score"], help="of several faces")
    what.add_argument("--mix-with", metavar="PHOTO", help="a second face, mixed in")
    what.add_argument("--alpha", type=_share, default=0.5, help="share of the second face (%(default)s)")
    scales = parser.add_argument_group("scales")
    scales.add_argument("--preset", default="realistic", choices=list(PRESETS), help="where the scales start")
    scales.add_argument("--ip-scale", type=_scale)
    scales.add_argument("--controlnet-scale", type=_scale)
    scales.add_argument("--guidance-scale", type=_scale)
    scales.add_argument("--shortcut-scale", type=_scale)
    model = parser.add_argument_group("model")
    model.add_argument("--model", default="tiny", help="an exported folder, or sd15, tiny, a YAML file (%(default)s)")
    model.add_argument("--checkpoint", help="authors' model.bin, IP-Adapter-FaceID-Plus, our own, ...")
    model.add_argument("--base", help="folder or hub name of Stable Diffusion 1.5")
    model.add_argument("--image-encoder", help="folder or hub name of the CLIP image encoder")
    model.add_argument("--vae", help="folder or hub name of the VAE")
    model.add_argument("--device", default="auto")
    model.add_argument("--dtype", default="auto", choices=["auto", "fp32", "fp16", "bf16"])
    model.add_argument("--offload", action="store_true", help="for a GPU with little memory")
    parser.add_argument("--no-watermark", action="store_true", help="for training grids and evaluation only")
    parser.add_argument("--record-prompt", action="store_true", help="write the prompt into the picture's record")
    return parser


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give 1 or more")
    return number


def _seed(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**63 - 2**16:  # torch's range, with room for the pictures after the first
        raise argparse.ArgumentTypeError(f"{text}: give 0 to 9e18")
    return number


def _scale(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise argparse.ArgumentTypeError(f"{text}: give a finite number")
    return number


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give 0 (all first) to 1 (all second)")
    return number


def _differing(out: Path, settings: dict[str, object]) -> list[str]:
    """What pictures that are in `out` were drawn with otherwise."""
    try:
        there = json.loads((out / SETTINGS).read_text())
    except (OSError, ValueError):
        return []
    return [name.replace("_", " ") for name, value in settings.items() if there.get(name) != value]


def main(arguments: list[str] | None = None) -> int:
    """0: all drawn; 1: some could not be, see drawn.jsonl; 2: nothing was begun, and why."""
    asked = parser().parse_args(arguments)
    from generation.sources import SourceError, open_source, prompts_of, read_photo

    try:
        part, parts = (int(number) for number in asked.part.split("/"))
        if not 0 <= part < parts:
            raise ValueError
    except ValueError:
        print(f"--part {asked.part}: give I/N with 0 <= I < N, e.g. 0/4", file=sys.stderr)
        return 2
    try:
        prompts = prompts_of(asked.prompt, asked.prompts)
        source = open_source(Path(asked.source), prompts)
        settings = {name: getattr(asked, name) for name in DECISIVE} | {"prompts": prompts}
        if other := _differing(Path(asked.out), settings):
            raise SourceError(
                f"--out {asked.out} has pictures of another {', '.join(other)} (its {SETTINGS}); name another folder"
            )
        asked.mix_with = read_photo(asked.mix_with) if asked.mix_with else None
        if Path(asked.out).exists() and not Path(asked.out).is_dir():
            raise SourceError(f"--out {asked.out} is a file; name a folder")
    except SourceError as error:
        print(error, file=sys.stderr)
        return 2
    from generation.draw_all import draw_all
    from generation.drawing import open_artist

    try:
        artist = open_artist(
            asked.model, asked.checkpoint, asked.base, asked.image_encoder, asked.vae,
            device=asked.device, dtype=asked.dtype, offload=asked.offload,
        )  # fmt: skip
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    Path(asked.out).mkdir(parents=True, exist_ok=True)
    (Path(asked.out) / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    return draw_all(artist, source, part, parts, prompts, asked)


if __name__ == "__main__":
    raise SystemExit(main())
