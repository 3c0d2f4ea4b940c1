"""Draw every subject with every prompt: a picture or a reason for each, a contact sheet of the first."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw
from rich.markup import escape

from common.progress import ProgressBar, say
from generation.drawing import Artist
from generation.sources import Source, Subject
from model.presets import scales_of

SHEET = 24  # faces on the contact sheet
CELL = 192  # pixels


def draw_all(
    artist: Artist, source: Source, part: int, parts: int, prompts: list[str], asked: argparse.Namespace
) -> int:
    """Draw; 0 if everything that was asked for is there, else 1."""
    out = Path(asked.out)
    for note in artist.notes:
        say("generate", f"[yellow]{escape(note)}[/]")
    total = min(source.count, asked.limit) if asked.limit else source.count
    mine = len(range(part, total, parts))
    log = out / ("drawn.jsonl" if parts == 1 else f"drawn-{part}-of-{parts}.jsonl")
    counts: Counter[str] = Counter()
    rows = []
    with ProgressBar("generate", mine, "faces") as progress, log.open("w") as lines:
        for subject in islice(source.subjects(), part, total, parts):
            for row in _draw(artist, subject, prompts, out, asked):
                counts[row["status"]] += 1
                rows.append(row)
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                lines.flush()
            progress.advance(1, f"{counts['failed']} failed" if counts["failed"] else "")
    drawn = [row for row in rows if row["status"] != "failed"]
    if drawn:
        _contact_sheet(out, drawn, out / log.name.replace("jsonl", "jpg"))
    say(
        "generate",
        f"{mine} faces, {len(rows)} pictures asked for = " + " + ".join(f"{n} {k}" for k, n in counts.items()),
    )
    for reason, number in Counter(row["reason"] for row in rows if row["status"] == "failed").most_common(5):
        say("generate", f"[red]{number} failed:[/] {escape(str(reason))}")
    marks = Counter(row["watermark"] for row in drawn if row["status"] == "drawn")
    say(
        "generate",
        f"{escape(str(log))}; watermark: " + (", ".join(f"{n} x {k}" for k, n in marks.items()) or "nothing new drawn"),
    )
    return int(counts["failed"] > 0)


def _draw(
    artist: Artist, subject: Subject, prompts: list[str], out: Path, asked: argparse.Namespace
) -> Iterator[dict[str, object]]:
    texts = prompts or ([subject.caption] if subject.caption else [])
    if subject.problem or not texts:
        reason = subject.problem or "no caption in the shard and no --prompt"
        yield {"name": subject.name, "status": "failed", "reason": reason}
        return
    wanted = {
        (number, index): out / f"{subject.name}_{number:03d}_{index:02d}.png"
        for number in range(len(texts))
        for index in range(asked.images)
    }
    scales = scales_of(
        asked.preset,
        ip=asked.ip_scale,
        controlnet=asked.controlnet_scale,
        guidance=asked.guidance_scale,
        shortcut=asked.shortcut_scale,
    )
    face = None
    for number, text in enumerate(texts):
        files = [wanted[number, index] for index in range(asked.images)]
        common = {"name": subject.name, "prompt": text, "encoder": subject.encoder}
        if all(file.is_file() for file in files):
            yield from ({**common, "file": file.name, "status": "there"} for file in files)
            continue
        try:
            face = face or _seen(artist, subject, asked)
            pictures = artist.pipeline(
                text,
                face=face,
                negative_prompt=asked.negative_prompt,
                ip_scale=scales.ip,
                controlnet_scale=scales.controlnet,
                guidance_scale=scales.guidance,
                shortcut_scale=scales.shortcut,
                num_inference_steps=asked.steps,
                num_images_per_prompt=asked.images,
                seed=asked.seed,
            ).images
        except ValueError as error:  # the face's or the photo's fault: a row with a reason, and on
            yield from ({**common, "file": file.name, "status": "failed", "reason": str(error)} for file in files)
            continue
        for index, (picture, file) in enumerate(zip(pictures, files, strict=True)):
            try:
                saved = artist.save(
                    picture,
                    file,
                    seed=asked.seed + index,
                    scales=scales,
                    prompt=text if asked.record_prompt else None,
                    watermark=not asked.no_watermark,
                )
            except ValueError as error:  # a caption too long for a record, say
                yield {**common, "file": file.name, "status": "failed", "reason": str(error)}
                continue
            yield {**common, "file": file.name, "status": "drawn", "seed": asked.seed + index,
                   "watermark": saved.record.watermark}  # fmt: skip


def _seen(artist: Artist, subject: Subject, asked: argparse.Namespace):
    pipeline = artist.pipeline
    wanted = pipeline.config.conditions["identity_encoder"]
    if subject.encoder and not subject.encoder.startswith(wanted):
        raise ValueError(f"the shard's identities are {subject.encoder}'s, this model takes {wanted}'s")
    return pipeline.encode_faces(
        subject.load(),
        None if subject.face is None else [subject.face],
        policy=asked.policy,
        mix_with=asked.mix_with,
        alpha=asked.alpha,
    )


def _contact_sheet(out: Path, rows: list[dict], path: Path) -> None:
    shown = [row for row in rows if (out / str(row["file"])).is_file()][:SHEET]
    columns = min(6, len(shown))
    sheet = Image.new("RGB", (columns * CELL, -(-len(shown) // columns) * (CELL + 14)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, row in enumerate(shown):
        x, y = index % columns * CELL, index // columns * (CELL + 14)
        with Image.open(out / str(row["file"])) as picture:
            sheet.paste(picture.resize((CELL, CELL)), (x, y))
        draw.text((x + 2, y + CELL + 1), str(row["prompt"])[:30], fill="black")
    sheet.save(path, quality=90)
