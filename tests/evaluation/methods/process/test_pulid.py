"""PuLID: its row where nothing of it is here, and its program with a repository of the authors' names that paints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.methods.process.pulid import PINS, PuLid
from evaluation.methods.sources import MethodSources, Unavailable

# as the authors' app.py and pipeline.py call and are called; a stand-in for torch, which takes seconds
REPOSITORY = {
    "torch.py": """
import numpy
def set_grad_enabled(on): assert on is False
def cat(parts, dim): return numpy.concatenate(parts, dim)
""",
    "pulid/__init__.py": "",
    "pulid/attention_processor.py": "NUM_ZERO, ORTHO, ORTHO_v2 = 0, True, False\n",
    "pulid/utils.py": """
import numpy
def resize_numpy_image_long(image, longest): return image[:longest, :longest]
def seed_everything(seed): numpy.random.seed(seed)
""",
    "pulid/pipeline.py": """
import json, os
import numpy
from PIL import Image
from pulid import attention_processor as attention
print("loading from id_adapter")
assert os.path.exists("models/pulid_v1.bin")
class PuLIDPipeline:
    def get_id_embedding(self, image):
        self.debug_img_list.append(image)
        if image.mean() < 10:
            raise RuntimeError("facexlib align face fail")
        if image.mean() > 240:
            raise RuntimeError("CUDA out of memory")
        return numpy.full((2, 10, 4), image.mean())
    def inference(self, prompt, size, prompt_n="", image_embedding=None, id_scale=1.0, guidance_scale=1.2, steps=4):
        switches = attention.NUM_ZERO, attention.ORTHO, attention.ORTHO_v2
        told = [prompt, size, prompt_n[:7], image_embedding.shape, id_scale, guidance_scale, steps, switches]
        told += [os.environ.get("HF_HUB_OFFLINE"), len(self.debug_img_list)]
        with open("told", "a") as file:
            file.write(json.dumps(told) + "\\n")
        return [Image.fromarray(numpy.random.randint(0, 255, (size[1], size[2], 3), numpy.uint8))]
""",
    "models/pulid_v1.bin": "weights",
}


@pytest.fixture
def pulid(tmp_path):
    """Made of a folder of model files as a person would have it."""
    for name, content in REPOSITORY.items():
        (tmp_path / "PuLID" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "PuLID" / name).write_text(content)
    python = tmp_path / "pulid-environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # a link would not find its packages
    python.chmod(0o755)

    def make(*changes: str) -> PuLid:
        own = [f"pulid.{change}" for change in ("width=64", "height=96", "seconds_to_start=60", *changes)]
        return PuLid(MethodSources(str(tmp_path), changes=own, device="cpu", dtype="fp32"))

    return make


def told(tmp_path: Path) -> list[list]:
    return [json.loads(line) for line in (tmp_path / "PuLID" / "told").read_text().splitlines()]


def test_without_its_environment_it_is_a_reason_and_what_to_fetch(tmp_path):
    with pytest.raises(Unavailable) as error:
        PuLid(MethodSources(weights=str(tmp_path)))
    for words in (
        "environment",
        "uv venv -p 3.10",
        "-r pulid.txt",
        "git clone https://github.com/ToTheBeginning/PuLID",
    ):
        assert words in str(error.value)


def test_without_its_checkpoint_it_says_how_to_load_it_once(pulid, tmp_path):
    (tmp_path / "PuLID" / "models" / "pulid_v1.bin").unlink()
    with pytest.raises(Unavailable, match=r"guozinan/PuLID.*pulid_program.py .*PuLID --fetch`"):
        pulid()


def test_its_program_asks_the_authors_pipeline_as_their_demo_does(pulid, tmp_path):
    method = pulid()
    method.load()
    try:
        face = method.prepare([np.full((40, 40, 3), 100, np.uint8), np.full((40, 40, 3), 90, np.uint8)])
        pictures = [np.asarray(method.draw(face, "a person in the snow", seed)) for seed in (1, 1, 2)]
        dark = method.prepare([np.zeros((40, 40, 3), np.uint8)])
        with pytest.raises(ValueError, match="no face was found: facexlib align face fail"):
            method.draw(dark, "a person in the snow", 1)
        bright = method.prepare([np.full((40, 40, 3), 250, np.uint8)])
        with pytest.raises(ValueError, match="exit code 1.*RuntimeError: CUDA out of memory"):
            method.draw(bright, "a person in the snow", 1)
        assert np.array_equal(np.asarray(method.draw(face, "a person in the snow", 1)), pictures[0])
    finally:
        method.close()
    assert (
        pictures[0].shape == (96, 64, 3) and (pictures[0] == pictures[1]).all() and (pictures[0] != pictures[2]).any()
    )
    fidelity = [8, False, True]
    # of the second photo five of ten tokens; both are embedded once for all pictures
    expected = ["a person in the snow", [1, 96, 64], "flaws i", [2, 15, 4], 0.8, 1.2, 4, fidelity, "1", 2]
    assert told(tmp_path) == [expected] * 4


def test_its_other_mode_and_what_a_picture_depends_on(pulid, tmp_path):
    method = pulid("mode='extremely style'")
    method.load()
    try:
        method.draw(method.prepare([np.full((40, 40, 3), 100, np.uint8)]), "a person", 1)
    finally:
        method.close()
    assert told(tmp_path)[0][7] == [16, True, False]
    described = method.describe()
    assert described["told"]["mode"] == "extremely style" and set(described["weights"]) == {"checkpoint", "program"}
    assert described != pulid().describe() and pulid("seconds_a_picture=1").describe() == pulid().describe()


def test_every_package_of_its_environment_is_pinned():
    lines = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    assert {"torch==2.0.1", "diffusers==0.25.0", "facexlib==0.3.0", "insightface==0.7.3"} <= set(lines)
    assert all("==" in line for line in lines)


def test_a_picture_is_what_the_program_left(pulid, tmp_path):
    method = pulid()
    method.load()
    try:
        drawn = method.draw(method.prepare([np.full((40, 40, 3), 100, np.uint8)]), "a person", 3)
    finally:
        method.close()
    np.random.seed(3)
    expected = Image.fromarray(np.random.randint(0, 255, (96, 64, 3), np.uint8))
    assert drawn.tobytes() == expected.tobytes()
