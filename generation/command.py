"""What jobs/generate.py does: checks the options, loads the model, draws every input."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from common.errors import UserError
from generation.face_input import InputError
from generation.inputs import open_inputs
from generation.options import GenerateOptions, ModelOptions, PictureOptions
from generation.photos import PhotoError, read_photo
from generation.prompts import read_prompts, typed_prompt

SETTINGS = "settings.json"
# device, number format and offload are left out: they say where a picture is drawn, not what is drawn
RECORDED_MODEL_OPTIONS = ("model", "checkpoint", "base", "image_encoder", "vae")


def generate_command(options: GenerateOptions, picture: PictureOptions, model: ModelOptions) -> int:
    """Draw what the options ask for; 0 if all of it is there, 1 if some pictures failed (drawn.jsonl says why).

    Raises:
        UserError: nothing was drawn or written, and why.
    """
    part, parts = parse_part(options.part)
    out = Path(options.out)
    prompts = read_prompts(options.prompt, options.prompts)
    picture = replace(picture, negative_prompt=typed_prompt("--negative-prompt", picture.negative_prompt))
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    inputs = open_inputs(Path(options.source), prompts, options.recursive, out)
    settings = {name: getattr(model, name) for name in RECORDED_MODEL_OPTIONS} | asdict(picture) | {"prompts": prompts}
    settings["source"] = str(Path(options.source))
    if any((out / file).exists() for file in ("manifest.json", "log.jsonl")):
        raise InputError(f"--out {out} is the folder of a curation or a training run: name another one")
    if different := _different_settings(out, settings):
        raise InputError(
            f"--out {out} has pictures of another {', '.join(different)} (its {SETTINGS}); name another folder"
        )
    second_photo = None
    if picture.mix_with:
        try:
            second_photo = read_photo(picture.mix_with)
        except PhotoError as error:
            raise InputError(f"--mix-with {picture.mix_with}: {error}") from error

    # torch and diffusers take seconds to import: not before the options are checked
    from generation.draw_all import DrawJob, draw_all
    from generation.loading import load_for_command

    loaded = load_for_command(model)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"--out {out}: no folder can be made there: take another path") from error
    # a path may be of any bytes: what is no text is escaped, as JSON has it
    text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (out / SETTINGS).write_text(text, encoding="utf-8", errors="backslashreplace")
    return draw_all(DrawJob(loaded, inputs, prompts, options, picture, second_photo, part, parts))


def parse_part(text: str) -> tuple[int, int]:
    """`I/N` as (I, N).

    Raises:
        UserError: not of this form, or not 0 <= I < N.
    """
    try:
        part, parts = (int(number) for number in text.split("/"))
        if 0 <= part < parts:
            return part, parts
    except ValueError:
        pass
    raise UserError(f"--part {text}: give I/N with 0 <= I < N, e.g. 0/4")


def _different_settings(out: Path, settings: dict[str, object]) -> list[str]:
    """Names of the settings that the pictures in `out` were drawn with and that differ from `settings`."""
    try:
        there = json.loads((out / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [name.replace("_", " ") for name, value in settings.items() if there.get(name) != value]
