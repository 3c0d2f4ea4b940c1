"""A program that draws, as anyone might write one: run by path, it imports nothing of this project. What it does wrong is in the prompt."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def painted(asked: dict) -> Image.Image:
    shade = Image.open(asked["photos"][0]).resize((1, 1)).getpixel((0, 0))
    noise = random.Random(f"{shade} {asked['prompt']} {asked['seed']}")
    size = asked["width"], asked["height"]
    return Image.frombytes("RGB", size, noise.randbytes(3 * size[0] * size[1]))


def draw(asked: dict) -> None:
    prompt, picture = asked["prompt"], Path(asked["picture"])
    if "nobody" in prompt:
        Path(asked["failure"]).write_text("nobody is\nin the photo")
    elif "hang" in prompt:
        child = subprocess.Popen(SLEEP)
        Path(asked["settings"]["log"]).with_name("child").write_text(str(child.pid))
        print("waiting for a lock")
        time.sleep(600)
    elif "die" in prompt:
        print("loading", "CUDA out of memory", sep="\n", file=sys.stderr)
        sys.exit(3)
    elif "slowly" in prompt:
        painted(asked).save(picture.with_suffix(".whole"), format="PNG")
        data = picture.with_suffix(".whole").read_bytes()
        with picture.open("wb", buffering=0) as file:
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                file.write(half)
                time.sleep(0.1)
    elif "jpeg" in prompt:
        painted(asked).save(picture, format="JPEG")
    else:
        painted(asked).save(picture)


print("a library says hello")
for line in sys.stdin:
    asked = json.loads(line)
    with open(asked["settings"]["log"], "a") as log:
        log.write(line)
    draw(asked)
