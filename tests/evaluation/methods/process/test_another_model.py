"""A row of another model in another process, from real photos."""

from __future__ import annotations

from pathlib import Path

import yaml
from PIL import Image

from evaluation.asked import Asked, Prompt
from evaluation.methods import registry
from evaluation.methods.sources import MethodSources
from evaluation.sets import Reference
from tests.real_photos import photo  # noqa: F401  (a fixture)

PROGRAM = Path(__file__).with_name("face_makeup_program.py")


def test_a_tiny_face_makeup_draws_in_a_process_of_its_own(photo, tmp_path):  # noqa: F811
    for name in ("astronaut", "cat"):
        Image.fromarray(photo(name).rgb).save(tmp_path / f"{name}.png")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"program": str(PROGRAM), "settings": {"steps": 2}}))
    references = [Reference(name, tmp_path / f"{name}.png") for name in ("astronaut", "cat")]
    asked = Asked((Prompt("snow", "a person in the snow"), Prompt("sea", "a person by the sea")), ("1", "2"))
    (row,) = registry.rows_of([f"own={tmp_path / 'own.yaml'}"], MethodSources(device="cpu", dtype="fp32"))
    drawn = row(references, asked, tmp_path / "out").drawn
    assert len({item.file.read_bytes() for item in drawn[:4]}) == 4
    assert all(Image.open(item.file).size == (64, 64) for item in drawn[:4])
    assert all("no face was found" in item.failure for item in drawn[4:])
