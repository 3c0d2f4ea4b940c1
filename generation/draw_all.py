"""Draws every input with every prompt: a picture or a reason for each, and a contact sheet of the first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from PIL import Image, ImageDraw

from common.progress import ProgressBar, say
from generation.face_input import FaceInput, FaceInputs
from generation.loading import LoadedModel
from generation.options import GenerateOptions, PictureOptions
from model.conditioning.features import FaceConditions
from model.presets import scales_of
from model.tokenizer import truncated_words

SHEET = 24  # faces on the contact sheet
CELL = 192  # pixels


@dataclass(frozen=True)
class DrawJob:
    """What `draw_all` draws: of `inputs` every `parts`-th, from number `part` on, with `prompts` or their own captions.

    `second_photo`: uint8 RGB (h, w, 3), whose face is mixed in; or None.
    """

    model: LoadedModel
    inputs: FaceInputs
    prompts: list[str]
    options: GenerateOptions
    picture: PictureOptions
    second_photo: np.ndarray | None
    part: int
    parts: int

    @property
    def out(self) -> Path:
        return Path(self.options.out)


class DrawnRow(TypedDict, total=False):
    """A line of drawn.jsonl: one picture that was asked for. `there`: drawn by a run before.

    `cut`: the end of the prompt that the model does not see, where it is too long.
    """

    name: str
    prompt: str
    cut: str
    encoder: str
    file: str
    status: Literal["drawn", "there", "failed"]
    reason: str
    seed: int
    watermark: str


def draw_all(job: DrawJob) -> int:
    """Draw everything and write drawn.jsonl; 0 if all pictures are there, 1 if some failed."""
    out, part, parts, limit = job.out, job.part, job.parts, job.options.limit
    for note in [*job.model.notes, *_cut_prompts(job)]:
        say("generate", note, style="yellow")
    total = min(job.inputs.count, limit) if limit else job.inputs.count
    log = out / ("drawn.jsonl" if parts == 1 else f"drawn-{part}-of-{parts}.jsonl")
    rows: list[DrawnRow] = []
    failed = 0
    # a name may be of any bytes: what is no text is escaped, as JSON has it
    with (
        ProgressBar("generate", len(range(part, total, parts)), "faces") as progress,
        log.open("w", encoding="utf-8", errors="backslashreplace") as lines,
    ):
        for face_input in islice(job.inputs.read(), part, limit, parts):
            for row in _draw(job, face_input):
                rows.append(row)
                failed += row["status"] == "failed"
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                lines.flush()
            progress.advance(1, f"{failed} failed" if failed else "")
    drawn = [row for row in rows if row["status"] != "failed"]
    if drawn:
        _contact_sheet(out, drawn, out / log.name.replace("jsonl", "jpg"))
    _summary(job, progress.done, rows, log)
    return int(failed > 0)


def _cut_prompts(job: DrawJob) -> Iterator[str]:
    """A sentence for each given prompt that is too long for the model; a shard's captions are counted at the end."""
    given = {f"prompt {number:03d}": prompt for number, prompt in enumerate(job.prompts)}
    for name, prompt in (given | {"--negative-prompt": job.picture.negative_prompt}).items():
        if cut := truncated_words(job.model.pipeline.tokenizer, prompt):
            yield f'{name} has more than the 77 tokens that the model reads; it does not see: "{cut}"'


def _summary(job: DrawJob, faces: int, rows: list[DrawnRow], log: Path) -> None:
    """What was made, what was not and why, where it is, and what to do next."""
    counts = Counter(row["status"] for row in rows)
    asked = " + ".join(f"{number} {status}" for status, number in counts.items())
    say("generate", f"{faces} faces, {len(rows)} pictures asked for = {asked}")
    reasons = Counter(row["reason"] for row in rows if row["status"] == "failed")
    first = {row["reason"]: row["name"] for row in reversed(rows) if row["status"] == "failed"}
    for reason, number in reasons.most_common(5):
        say("generate", f"{number} failed: {reason} ({'' if number == 1 else 'first: '}{first[reason]})", style="red")
    if job.inputs.left_out:
        say("generate", job.inputs.left_out, style="yellow")
    if not job.prompts and (cut := sum("cut" in row for row in rows)):
        say("generate", f"{cut} captions were longer than the model reads: `cut` in {log.name}", style="yellow")
    if marks := Counter(row["watermark"] for row in rows if row["status"] == "drawn"):
        say("generate", "watermark: " + ", ".join(f"{number} x {mark}" for mark, number in marks.items()))
    made = counts["drawn"] + counts["there"]
    say("generate", f"{made} pictures: {job.out}" + (f"; the first of them: {log.with_suffix('.jpg')}" if made else ""))
    then = "; the same command draws what failed once more" if counts["failed"] else ""
    say("generate", f"a line for each: {log}{then}")


def _draw(job: DrawJob, face_input: FaceInput) -> Iterator[DrawnRow]:
    """Draw one input with each prompt."""
    prompts = job.prompts or ([face_input.caption] if face_input.caption else [])
    if face_input.problem or not prompts:
        reason = face_input.problem or "no caption in the shard and no --prompt"
        yield {"name": face_input.name, "status": "failed", "reason": reason}
        return
    model, options, picture_options = job.model, job.options, job.picture
    scales = scales_of(
        picture_options.preset,
        ip=picture_options.ip_scale,
        controlnet=picture_options.controlnet_scale,
        guidance=picture_options.guidance_scale,
        shortcut=picture_options.shortcut_scale,
    )
    face = None
    for number, prompt in enumerate(prompts):
        files = [job.out / f"{face_input.name}_{number:03d}_{index:02d}.png" for index in range(options.images)]
        common: DrawnRow = {"name": face_input.name, "prompt": prompt, "encoder": face_input.encoder}
        if cut := truncated_words(job.model.pipeline.tokenizer, prompt):
            common["cut"] = cut
        if all(file.is_file() for file in files):
            yield from ({**common, "file": file.name, "status": "there"} for file in files)
            continue
        try:
            face = face or _face_conditions(job, face_input)
            pictures = model.pipeline(
                prompt,
                face=face,
                negative_prompt=picture_options.negative_prompt,
                ip_scale=scales.ip,
                controlnet_scale=scales.controlnet,
                guidance_scale=scales.guidance,
                shortcut_scale=scales.shortcut,
                num_inference_steps=picture_options.steps,
                num_images_per_prompt=options.images,
                seed=picture_options.seed,
            ).images
        except ValueError as error:  # the face's or the photo's fault: a row with a reason, and on
            yield from ({**common, "file": file.name, "status": "failed", "reason": str(error)} for file in files)
            continue
        for seed, (picture, file) in enumerate(zip(pictures, files, strict=True), start=picture_options.seed):
            try:
                saved = model.save(
                    picture,
                    file,
                    seed=seed,
                    scales=scales,
                    prompt=prompt if options.record_prompt else None,
                    watermark=not options.no_watermark,
                )
            except ValueError as error:  # a caption too long for a record, say
                yield {**common, "file": file.name, "status": "failed", "reason": str(error)}
                continue
            yield {**common, "file": file.name, "status": "drawn", "seed": seed, "watermark": saved.record.watermark}


def _face_conditions(job: DrawJob, face_input: FaceInput) -> FaceConditions:
    """What the model is given of the input's face.

    Raises:
        ValueError: no photo, no face, several of them, or an identity of another encoder.
    """
    pipeline = job.model.pipeline
    wanted = pipeline.config.conditions["identity_encoder"]
    if face_input.encoder and not face_input.encoder.startswith(wanted):
        raise ValueError(f"the shard's identities are {face_input.encoder}'s, this model takes {wanted}'s")
    return pipeline.encode_faces(
        face_input.load(),
        None if face_input.face is None else [face_input.face],
        policy=job.picture.policy,
        mix_with=job.second_photo,
        alpha=job.picture.alpha,
    )


def _contact_sheet(out: Path, rows: list[DrawnRow], path: Path) -> None:
    """The first pictures of `rows` in one JPEG, each above the start of its prompt."""
    shown = [row for row in rows if (out / row["file"]).is_file()][:SHEET]
    columns = min(6, len(shown))
    sheet = Image.new("RGB", (columns * CELL, -(-len(shown) // columns) * (CELL + 14)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(shown):
        x, y = index % columns * CELL, index // columns * (CELL + 14)
        with Image.open(out / row["file"]) as picture:
            sheet.paste(picture.resize((CELL, CELL)), (x, y))
        draw.text((x + 2, y + CELL + 1), row["prompt"][:30], fill="black")
    sheet.save(path, quality=90)
