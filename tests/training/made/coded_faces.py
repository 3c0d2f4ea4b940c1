"""32 samples that any single condition tells apart: what shows that a condition is learnt, and not denoising alone.

Sample n has two numbers, a from 0 to 3 and b from 0 to 7, divmod(n, 8). Its picture is four squares of colour: a's three bits as
red, green and blue, three parities of them, and the same of b, so that any two pictures differ in three of twelve bits
at least. Its words, its identity and its pose say a and b too, each in its own way, and nothing else differs.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import cv2
import numpy as np
import yaml

from model.config import CONFIGS, ModelConfig
from tests.training.made.shards import POINTS, sample, write_shard
from training.tiny_base.base import find_or_train
from training.tiny_base.pictures import Pictures
from training.tiny_base.recipe import BaseRecipe

COUNT, SIDE = 32, 64
WORDS = "amber birch cloud delta ember frost grove heron ivory jade kite lemon maple night ocean pearl".split()
BOX = np.array([11.0, 7.0, 53.0, 57.0])
BASE = BaseRecipe(vae_steps=250, vae_batch=8, unet_steps=250, unet_batch=32, samples=8)


def small_config(folder: Path, rank: int = 8) -> Path:
    """The tiny model at 32 pixels and half the width, as a file: a fifth of the work. `rank`: of the LoRA."""
    tree = yaml.safe_load((CONFIGS / "tiny.yaml").read_text())
    tree |= {"name": "coded", "resolution": 32, "lora_rank": rank}
    tree["conditions"]["clip_view"] = "crop"
    tree["unet"] |= {"sample_size": 4, "block_out_channels": [32, 64], "attention_head_dim": 2}
    tree["vae"]["sample_size"] = 32
    file = folder / f"coded-{rank}.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def colour(bits: int) -> tuple[int, int, int]:
    return tuple(30 + 195 * (bits >> place & 1) for place in range(3))


def parities(bits: int) -> int:
    x, y, z = (bits >> place & 1 for place in range(3))
    return (x ^ y) | (x ^ z) << 1 | (y ^ z) << 2


def picture(number: int) -> np.ndarray:
    """RGB uint8 (SIDE, SIDE, 3)."""
    a, b = divmod(number, 8)
    squares = [[colour(a), colour(b)], [colour(parities(a)), colour(parities(b))]]
    return np.kron(np.array(squares, np.uint8), np.ones((SIDE // 2, SIDE // 2, 1), np.uint8))


def coded_sample(number: int) -> tuple[str, list[tuple[str, bytes]]]:
    a, b = divmod(number, 8)
    codes = np.random.default_rng(5).normal(size=(16, 128))
    sample_id, members = sample(number, side=SIDE)
    found = dict(members)
    landmarks = BOX[:2] + POINTS * (BOX[2:] - BOX[:2]) + np.array([a - 3.5, b - 3.5]) * 2.2
    facts = json.loads(found["json"]) | {"face_box": BOX.tolist(), "face_landmarks": landmarks.ravel().tolist()}
    identity = codes[a] + codes[8 + b]
    file = io.BytesIO()
    np.save(file, (identity / np.linalg.norm(identity)).astype(np.float32), allow_pickle=False)
    found |= {
        "jpg": cv2.imencode(".jpg", picture(number)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes(),
        "json": json.dumps(facts, sort_keys=True, separators=(",", ":")).encode(),
        "txt": " ".join([WORDS[a], WORDS[8 + b]] * 35).encode(),
        "identity.npy": file.getvalue(),
    }
    return sample_id, [(extension, found[extension]) for extension, _ in members]


def coded_shards(folder: Path) -> Path:
    """Two shards of sixteen."""
    for shard in range(2):
        write_shard(folder, shard, (coded_sample(shard * 16 + place) for place in range(16)))
    (folder / "sizes.json").write_text(json.dumps({f"{shard:05d}.tar": 16 for shard in range(2)}))
    return folder


def coded_base(config: ModelConfig, vocabulary: Path, root: Path) -> Path:
    """A base that has learnt what such pictures look like, and nothing of which is which. Kept in `root` by its hash."""
    draw, pictures = np.random.default_rng(1), []
    for number in range(2 * COUNT):
        small = cv2.resize(
            picture(number % COUNT), (config.resolution, config.resolution), interpolation=cv2.INTER_AREA
        )
        pictures.append((small + draw.integers(-12, 13, (1, 1, 3))).clip(0, 255).astype(np.uint8))
    names = [f"picture-{number}" for number in range(len(pictures))]
    return find_or_train(
        config, Pictures(np.stack(pictures), names, np.ones(len(pictures), bool)), vocabulary, root, BASE
    )
