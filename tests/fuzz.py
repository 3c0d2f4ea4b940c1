"""Sends broken images through decode and every filter: `python -m tests.fuzz [--images 2000] [--seed 0]`.

Each image is a seeded mutation of a sound JPEG, PNG, WebP or GIF. None may end the process or raise anything but
`Undecodable`, none may take more than 5 CPU-seconds, and all together no more than 600 MB beyond the models. A child does
the work, so that a decoder that crashes is told with the number of its image.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import resource
import struct
import time
from collections import Counter
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image, ImageDraw

MEGABYTES, SECONDS = 600, 5.0
SIZES = ((64, 48), (320, 240), (700, 1100))
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 8191, 8900, 16383)


def sound_images() -> list[bytes]:
    """One of each kind and size; a face of sorts, so that filters have something to look at."""
    images = []
    for width, height in SIZES:
        ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
        picture = Image.fromarray(ramp.astype(np.uint8))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((width // 4, height // 4, width // 2, height // 2), fill=(224, 172, 130))
        pen.text((2, 2), "SALE 50%", fill="white")
        clear = picture.convert("RGBA")
        clear.putalpha(picture.convert("L"))
        exif = Image.Exif()
        exif[0x0112] = 6
        deep = Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
        frames = {"save_all": True, "append_images": [picture.rotate(5)]}
        for image, kind, options in (
            (picture, "JPEG", {}),
            (picture, "JPEG", {"progressive": True, "exif": exif, "comment": b"made"}),
            (picture.convert("CMYK"), "JPEG", {}),
            (picture.convert("L"), "JPEG", {"restart_marker_rows": 1}),
            (picture, "PNG", {}),
            (clear, "PNG", {"exif": exif, "icc_profile": bytes(500)}),
            (picture.quantize(16), "PNG", {"transparency": 3}),
            (deep, "PNG", {}),
            (picture, "WEBP", {"exif": exif}),
            (clear, "WEBP", {"lossless": True}),
            (picture, "WEBP", frames),
            (picture, "GIF", frames),
        ):
            out = io.BytesIO()
            image.save(out, kind, **options)
            images.append(out.getvalue())
    return images


def mutated(images: list[bytes], number: int, seed: int) -> bytes:
    """Image `number`: a sound one, with up to four things wrong; a function of its arguments."""
    draw = random.Random(f"{seed}/{number}")
    data = bytearray(images[number % len(images)])
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4))):
        size = len(data)
        # headers decide more than pixels
        place = draw.randrange(
            min(size, 64) if draw.random() < 0.4 else min(size, 700) if draw.random() < 0.5 else size
        )
        what = draw.choice(("byte", "bits", "number", "cut", "twice", "insert", "splice", "drop"))
        if what == "byte":
            data[place] = draw.randrange(256)
        elif what == "bits":
            for _ in range(draw.randrange(1, 9)):
                data[draw.randrange(place, size)] ^= 1 << draw.randrange(8)
        elif what == "number":
            form = draw.choice((">H", "<H", ">I", "<I"))
            number_bytes = struct.pack(form, draw.choice(EXTREMES))
            data[place : place + len(number_bytes)] = number_bytes
        elif what == "cut":
            del data[max(place, 4) :]
        elif what == "twice":
            piece = data[place : place + draw.randrange(1, 2000)]
            data[place:place] = piece * draw.choice((1, 2, 50))
        elif what == "insert":
            data[place:place] = draw.randbytes(draw.randrange(1, 200))
        elif what == "splice":
            data[place:] = draw.choice(images)[place:]
        else:
            del data[place : place + draw.randrange(1, 300)]
        if len(data) < 8:
            break
    return bytes(data)


def resident() -> float:
    """Megabytes of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def work(answers: Connection, count: int, seed: int) -> None:
    """In the child: say each image's number, then what became of it; at the end the peak of memory."""
    from common.decode import Undecodable, decode
    from curation.recipe import recipe as recipes

    recipe = recipes.load("curation/recipe/sample.yaml")
    filters = recipe.open_filters()
    images = sound_images()

    def outcome(data: bytes) -> str:
        try:
            picture = decode(data, recipe.images)
        except Undecodable as error:
            return error.reason
        picture.phash()
        seen = {}
        for name, item in filters.items():
            seen[name] = item.score([picture], {need: seen[need] for need in item.needs})
        return "scored"

    for data in images:
        outcome(data)  # the models are loaded, and have seen pictures of these sizes
    before = resident()
    for number in range(count):
        data = mutated(images, number, seed)
        answers.send(number)
        began = time.process_time()
        try:
            result = outcome(data)
        except Exception as error:  # noqa: BLE001  this is what is looked for
            result = f"raised {type(error).__name__}: {error}"
        answers.send((result, time.process_time() - began))
    answers.send((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6))
    answers.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=work, args=(there, asked.images, asked.seed))
    child.start()
    there.close()
    results: Counter[str] = Counter()
    slowest, number, problems, memory = (0.0, 0), None, [], None
    while True:
        try:
            message = here.recv()
        except EOFError:
            break
        if isinstance(message, int):
            number = message
        elif isinstance(message[0], str):
            result, seconds = message
            results[result.split(":")[0]] += 1
            slowest = max(slowest, (seconds, number))
            if result.startswith("raised") or seconds > SECONDS:
                problems.append(f"image {number}: {result}, {seconds:.1f} CPU-seconds")
        else:
            memory = message
    child.join()
    if child.exitcode or memory is None:
        problems.append(f"image {number} ended the process: exit code {child.exitcode}")
    else:
        before, most = memory
        print(f"memory: {before:.0f} MB with the models, at most {most:.0f} MB: {most - before:.0f} MB for images")
        if most - before > MEGABYTES:
            problems.append(f"{most - before:.0f} MB for images are more than {MEGABYTES}")
    print(f"{results.total()} images, seed {asked.seed}: {dict(results.most_common())}")
    print(f"the slowest, image {slowest[1]}: {slowest[0]:.2f} CPU-seconds")
    print("\n".join(problems) or "none ended the process, took too long or too much")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
