"""References out of shards, held out of what a model was trained on."""

from __future__ import annotations

import io
import json

import fsspec
import numpy as np
import pytest
from PIL import Image

from common.decode import decode
from evaluation.__main__ import main
from evaluation.builders.leakage import ALIKE, Trained
from evaluation.builders.shard_folder import ShardFolder
from evaluation.manifest import read_manifest
from evaluation.sets import open_references
from tests.real_photos import read
from tests.training.made.shards import make_shards, sample, write_shard


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("made") / "shards", [3, 4])


def build(shards, out, *more):
    return main(["references", "shards", str(shards), "--out", str(out), *more])


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_the_first_by_id_with_captions_and_a_manifest_and_the_same_again(shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert build(shards, out, "--count", "5") == 0
    references, manifest = open_references(out), read_manifest(out)
    names = [item.name for item in references]
    assert names == sorted(sample(n)[0] for n in range(7))[:5] and all(item.words for item in references)
    assert [row.id for row in manifest.references] == names and not manifest.changed(out)
    assert all(row.url.startswith("http://made.test/") for row in manifest.references)
    assert "not checked: whether a model was trained on these photos is not known" in said(capsys)
    before = (out / "manifest.json").read_bytes()
    assert build(shards, out, "--count", "5") == 0 and (out / "manifest.json").read_bytes() == before
    assert build(shards, out, "--count", "2") == 2
    assert "holds another set (count 5, now 2)" in said(capsys)
    (out / manifest.references[0].file).write_bytes(b"another photo")
    assert manifest.changed(out) == [manifest.references[0].file]


def test_what_cannot_be_had(shards, tmp_path, capsys):
    assert build(shards, tmp_path / "out", "--count", "8") == 2
    assert "holds 7 photos, fewer than the 8 asked for" in said(capsys)
    assert build(tmp_path, tmp_path / "other") == 2
    assert "holds no shards: run `make curate` first" in said(capsys)
    assert build(shards, tmp_path / "other", "--trained-on", str(tmp_path)) == 2
    assert "neither a run of `make train` nor a folder of shards" in said(capsys)
    assert build(shards, tmp_path / "other") == 0, "what could not be begun does not hold a folder"


def test_what_a_run_was_trained_on_is_left_out_and_counted(shards, tmp_path, capsys):
    make_shards(tmp_path / "trained", [4])  # the first four of the seven
    run = tmp_path / "run" / "checkpoints" / "step-000000009"
    run.mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"recipe": {"data": {"shards": str(tmp_path / "trained")}}}))
    out = tmp_path / "out"
    assert build(shards, out, "--trained-on", str(tmp_path / "run")) == 0
    told = said(capsys)
    assert (
        "4 left out: trained on: the same id" in told
        and "the 4 samples of" in told
        and "4 photos left out by id" in told
    )
    trained = {sample(n)[0] for n in range(4)}
    assert len(open_references(out)) == 3 and not trained & {item.name for item in open_references(out)}
    assert {row.name for row in read_manifest(out).left_out} == {f"http://made.test/{n}.jpg" for n in range(4)}
    assert build(shards, tmp_path / "none", "--trained-on", str(shards)) == 2
    assert "none to be a reference (left out: 7 trained on: the same id)" in said(capsys)


def test_the_same_photo_by_other_bytes_or_edited_is_known_and_another_is_not():
    photo = Image.open(io.BytesIO(read("astronaut"))).convert("RGB")
    known = np.array([int(decode(read("astronaut")).phash(), 16)], np.uint64)
    trained = Trained("shards", frozenset({"id"}), frozenset({"bytes"}), known)

    def leak(picture, **how):
        out = io.BytesIO()
        picture.save(out, "JPEG", **how)
        return trained.leak("other", "other", decode(out.getvalue()).phash())

    assert leak(photo, quality=30) == "by_likeness"
    assert leak(photo.resize((200, 200)), quality=80) == "by_likeness"
    assert leak(Image.open(io.BytesIO(read("cat"))).convert("RGB")) is None
    assert trained.leak("id", "other", "0" * 16) == "by_id" and trained.leak("other", "bytes", "0" * 16) == "by_bytes"
    far = f"{int(known[0]) ^ (2 ** (ALIKE + 1) - 1):016x}"
    assert trained.leak("other", "other", far) is None, "one bit more than is alike"


def test_the_same_bytes_by_another_id_are_left_out(shards, tmp_path, capsys):
    _, members = sample(0)
    write_shard(tmp_path / "renamed", 0, [("0" * 16, members)])
    assert build(shards, tmp_path / "out", "--trained-on", str(tmp_path / "renamed")) == 0
    assert "1 by their bytes" in said(capsys)


def test_shards_from_elsewhere_are_read_the_same(shards):
    fsspec.filesystem("memory").put(f"{shards}/", "/shards/", recursive=True)
    here, there = ShardFolder(str(shards)), ShardFolder("memory://shards")
    assert here.ids() == there.ids() and len(here.ids()) == 7
    assert list(here.each("txt", "json")) == list(there.each("txt", "json"))
    name, stem = there.ids()[0]
    assert there.members(stem, name, "txt", "none") == [*here.members(stem, name, "txt"), b""]
