"""Rows by their names: methods, bounds, folders, and marked twins."""

from __future__ import annotations

import pytest

from common.errors import UserError
from evaluation.methods import registry
from evaluation.methods.base import Twin
from evaluation.methods.sources import MethodSources
from tests.evaluation.methods.made import ASKED, Made, make


class WithTwin(Made):
    @classmethod
    def twin(cls, folder):
        (folder / "adapter.bin").write_bytes(b"random")
        return Twin({"adapter": folder / "adapter.bin"}, {"steps": 1})


@pytest.fixture
def methods(tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTED", str(tmp_path / "counted"))
    monkeypatch.setattr(registry, "METHODS", {"made": WithTwin})


def test_rows_in_the_order_of_their_names(tmp_path, methods):
    references, sources = make(tmp_path / "in")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "in" / "anna.png").rename(tmp_path / "theirs" / "anna.png")
    make(tmp_path / "in")
    rows = registry.rows_of(["others", "made", f"theirs={tmp_path / 'theirs'}", "references"], sources)
    found = [row(references, ASKED, tmp_path / "out") for row in rows]
    assert [method.name for method in found] == ["other people", "Made", "theirs", "the references"]


def test_a_twin_is_a_row_of_its_own_and_is_marked(tmp_path, methods):
    references, sources = make(tmp_path / "in")
    (row,) = registry.twin_rows(["others", "made"], sources, tmp_path / "twins")
    twin = row(references, ASKED, tmp_path / "out")
    assert twin.name == "Made: RANDOM TWIN" and twin.folder.name == "made-twin" and twin.missing == 4
    assert row(references, ASKED, tmp_path / "out") == twin
    assert '"steps": 1' in (twin.folder / "method.json").read_text()


@pytest.mark.parametrize(
    ("names", "named", "changes", "words"),
    [
        (
            ["maid"],
            {},
            [],
            "no such method, did you mean made: choose of made, references, others, NAME=FOLDER, or NAME=FILE.yaml",
        ),
        (["made", "made"], {}, [], "made stands there twice"),
        (["made"], {"maid.adapter": "x"}, [], "--part maid.adapter: no such method, did you mean made"),
        (["made"], {}, ["maid.steps=3"], "--set maid.steps=3: no such method"),
        (["others"], {}, ["made.steps=3"], "--set made.steps=3: made is not among --methods"),
        (["others"], {"made.adapter": "x"}, [], "--part made.adapter: made is not among --methods"),
        (["made"], {"made.adaptor": "x"}, [], "made has no such part: name one of adapter"),
        (["=folder"], {}, [], "write NAME=folder"),
        (["theirs=/nowhere"], {}, [], "--methods theirs=/nowhere: no such folder of pictures"),
        (["made"], {}, ["made.stepps=3"], "did you mean `steps`"),
        (["made"], {"made.adapter": "/nowhere"}, [], "--part made.adapter=/nowhere: no such file or folder"),
    ],
)
def test_a_mistake_is_told_before_anything_is_drawn(methods, names, named, changes, words):
    with pytest.raises(UserError) as told:
        registry.rows_of(names, MethodSources(named=named, changes=changes))
    assert words in str(told.value)


def test_a_variant_is_given_the_model_of_the_first_and_a_program_its_settings(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    named = {"face-makeup.model": str(tmp_path)}
    assert registry.rows_of(["face-makeup-without-pose"], MethodSources(named=named, device="cpu"))
    (tmp_path / "theirs.yaml").write_text(f"program: {tmp_path / 'model_index.json'}\n")
    names = [f"theirs={tmp_path / 'theirs.yaml'}"]
    (row,) = registry.rows_of(names, MethodSources(changes=["theirs.width=512"], device="cpu"))
    assert row.kind.settings_from(MethodSources(changes=["theirs.width=512"])).width == 512
    with pytest.raises(UserError, match="two of them are filed under face-makeup"):
        registry.rows_of(["face-makeup", f"face-makeup={tmp_path / 'theirs.yaml'}"], MethodSources())
    with pytest.raises(UserError, match="did you mean `width`"):
        registry.rows_of(names, MethodSources(changes=["theirs.widht=512"]))


def test_every_method_has_a_title_of_its_own_and_says_what_it_is():
    assert len({kind.title for kind in registry.KINDS}) == len(registry.METHODS) == len(registry.KINDS)
    for kind in registry.KINDS:
        told = kind.facts(kind.settings_from(MethodSources()), MethodSources())
        assert {"base_model", "steps"} <= told.keys(), kind.name
    assert set(registry.DEFAULT) <= {*registry.METHODS, *registry.BOUNDS}
