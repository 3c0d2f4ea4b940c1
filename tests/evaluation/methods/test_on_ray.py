"""A method as a group of Ray's actors draws what it draws in one process; what is wrong on a node is said as here."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import ray
from PIL import Image, ImageChops

from common.errors import UserError
from common.hashing import canonical_json
from evaluation.methods.drawer import Wanted
from evaluation.methods.drawing import Hands, pictures_by
from evaluation.methods.ip_adapter import IpAdapterFaceId
from evaluation.methods.on_ray import BATCH, Crew, DrawingActor
from evaluation.sets import Reference
from tests.evaluation.methods.made import ASKED, Made, make
from tests.evaluation.methods.twin_of import twin_of
from tests.real_photos import read


def test_actors_draw_the_same_pictures_and_none_twice(ray_cluster, tmp_path):
    (tmp_path / "anna.jpg").write_bytes(read("astronaut"))
    (tmp_path / "page.jpg").write_bytes(read("page"))
    references = [Reference(name, tmp_path / f"{name}.jpg") for name in ("anna", "page")]
    twin = twin_of(IpAdapterFaceId, tmp_path / "twin", steps=1)
    kept = []
    there = pictures_by(
        IpAdapterFaceId, twin.sources, references, ASKED, tmp_path / "there", Hands(Crew(2), kept.append, price=2.0)
    )
    here = pictures_by(IpAdapterFaceId, twin.sources, references, ASKED, tmp_path / "here")
    assert [item.failure for item in there.drawn] == [item.failure for item in here.drawn]
    assert all("no face was found" in item.failure for item in there.drawn[4:]) and there.missing == 4
    for one, other in zip(there.drawn[:4], here.drawn[:4], strict=True):
        assert one.file.name == other.file.name and one.file in kept
        apart = ImageChops.difference(Image.open(one.file), Image.open(other.file)).getextrema()
        assert max(most for _, most in apart) <= 2  # grey levels: an actor has other numbers of threads
    assert (
        pictures_by(
            IpAdapterFaceId, twin.sources, references[:1], ASKED, tmp_path / "there", Hands(Crew(2), kept.append)
        ).missing
        == 0
    )
    assert len(kept) == 4 and len(ASKED.prompts) * len(ASKED.seeds) == BATCH


def test_files_that_only_the_driver_has_or_other_ones_are_one_message(tmp_path):
    twin = twin_of(IpAdapterFaceId, tmp_path, steps=1)
    with pytest.raises(UserError, match="its files are others than the driver's: give every node the same"):
        DrawingActor(IpAdapterFaceId, twin.sources, canonical_json({**twin.describe(), "weights": {}}))
    twin.found["adapter"].path.unlink()
    with pytest.raises(UserError, match="no such file or folder"):
        DrawingActor(IpAdapterFaceId, twin.sources, canonical_json({}))


def test_a_method_that_breaks_in_an_actor_keeps_what_it_drew(ray_cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    references, sources = make(tmp_path / "in", breaks_at="'a person by the sea'")
    photos = [ray.put(references[0].file.read_bytes())]
    actor = DrawingActor(Made, sources, canonical_json(Made(sources).describe()), photos)
    wanted = [asdict(Wanted(str(number), words, 1)) for number, words in enumerate(ASKED.words.values())]
    told = actor({"photo": 0, "wanted": json.dumps(wanted)})
    assert [bool(png) for png in told["pngs"]] == [True]
    assert told["broke"] == "broke while it drew: RuntimeError: out of memory"
