"""What is in a folder of shards: ours by their sidecars, others by their headers; what may not be trained on is refused."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.made import shards as made_shards
from tests.training.made.shards import ENCODER, make_shards, members_of, sample, write_shard
from training.data import index_scan
from training.data.folder import ShardError
from training.data.index import read_index

COUNTS = [4, 1, 3]
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return make_shards(tmp_path_factory.mktemp("shards"), COUNTS, side=32)


@pytest.fixture
def copy(shards, tmp_path) -> Path:
    """One that may be spoilt."""
    return Path(shutil.copytree(shards, tmp_path / "shards"))


def test_the_made_shards_have_the_keys_of_the_real_ones():
    documented = (ROOT / "docs/run-directory.md").read_text().split("- `ID.json`:")[1].split(";")[0]
    fields = re.findall(r"`(\w+)`", re.sub(r"\(text, .*?\)", "", documented))
    assert sorted(json.loads(dict(sample(0)[1])["json"])) == sorted(fields)


def test_every_sample_where_it_stands(shards, tmp_path):
    index = read_index(shards, tmp_path)
    assert index.names == ["00000.tar", "00001.tar", "00002.tar"] and len(index) == 3
    assert index.counts.tolist() == COUNTS and index.samples == 8
    assert index.bytes.tolist() == [(shards / name).stat().st_size for name in index.names]
    assert index.extensions == ("jpg", "json", "txt", "identity.npy")
    assert (index.encoder, index.identity_dim) == (ENCODER, 128)
    assert index.content_hash == made_shards.CONTENT_HASH and not index.foreign
    number = 0
    for shard, count in enumerate(COUNTS):
        assert index.ids(shard) == [sample(number + k, side=32)[0] for k in range(count)]
        for position in range(count):
            sample_id, members = sample(number, side=32)
            assert index.id(shard, position) == sample_id
            assert members_of(shards, index, shard, position) == dict(members)
            number += 1
    with pytest.raises(IndexError, match=r"00001\.tar has no sample 1; it has 1"):
        index.id(1, 1)


def test_the_index_is_kept_and_shared(shards, tmp_path, monkeypatch):
    index = read_index(shards, tmp_path)

    def never(*_):
        raise AssertionError("nothing changed: no sidecar is read again")

    monkeypatch.setattr(index_scan, "_of_sidecar", never)
    again = read_index(shards, tmp_path)
    assert again.hash == index.hash and again.path == index.path
    assert isinstance(index._offsets, np.memmap)


def test_a_changed_shard_is_another_set(copy, tmp_path):
    before = read_index(copy, tmp_path / "cache")
    write_shard(copy, 1, [sample(77, side=32)])
    after = read_index(copy, tmp_path / "cache")
    assert after.hash != before.hash and after.id(1, 0) == sample(77)[0]
    assert members_of(copy, after, 1, 0) == dict(sample(77, side=32)[1])


def test_the_hash_is_of_the_content_not_of_the_place(shards, copy, tmp_path):
    assert read_index(shards, tmp_path / "a").hash == read_index(copy, tmp_path / "b").hash


def test_a_hole_keeps_its_place(copy, tmp_path):
    sidecar = json.loads((copy / "00000.json").read_text())
    sidecar["index"][0]["members"] = {}
    (copy / "00000.json").write_text(json.dumps(sidecar | {"revision": 1}))
    index = read_index(copy, tmp_path)
    assert index.counts.tolist() == COUNTS and index.revisions.tolist() == [1, 0, 0]
    assert index.members(0, 0) == {} and members_of(copy, index, 0, 1) == dict(sample(1, side=32)[1])
    one = json.loads((copy / "00001.json").read_text())
    one["index"][0]["members"] = {}
    (copy / "00001.json").write_text(json.dumps(one | {"revision": 1}))
    index = read_index(copy, tmp_path)
    assert index.members(1, 0) == {} and members_of(copy, index, 2, 2) == dict(sample(7, side=32)[1])


def processes_agree(folder: str, cache: str, barrier, answers) -> None:
    barrier.wait()
    answers.put(read_index(folder, cache).hash)


def test_processes_that_start_together_make_one_index(shards, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    started = [
        context.Process(target=processes_agree, args=(str(shards), str(tmp_path), barrier, answers)) for _ in range(3)
    ]
    for process in started:
        process.start()
    assert len({answers.get(timeout=60) for _ in started}) == 1
    for process in started:
        process.join()
    assert len(list(tmp_path.glob("index/*/index.json"))) == 1
    assert not [path for path in tmp_path.glob("index/.*")]


# -- what is refused ------------------------------------------------------------------------------------------------


def edit(folder: Path, number: int, **fields) -> None:
    path = folder / f"{number:05d}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def drop_member(folder: Path) -> None:
    sample_id, members = sample(5, side=32)
    write_shard(folder, 2, [(sample_id, members), (sample(6)[0], members[:2])])


def grow(folder: Path) -> None:
    with open(folder / "00001.tar", "ab") as file:
        file.write(b"\0" * 512)


def compress(folder: Path) -> None:
    (folder / "00001.tar.gz").write_bytes(gzip.compress((folder / "00001.tar").read_bytes()))


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def hollow(folder: Path) -> None:
    shutil.rmtree(folder)
    make_shards(folder, [0, 0])


def out_of_the_tar(folder: Path) -> None:
    index = json.loads((folder / "00001.json").read_text())["index"]
    index[0]["members"]["jpg"][1] = 10**9
    edit(folder, 1, index=index)


REFUSED = {
    "unfinished": (lambda f: (f / "00001.json").unlink(), "00001.tar without its sidecar (.json): packing has not ended"),
    "no tar": (lambda f: (f / "00001.tar").unlink(), "00001.json without its tar: bring the tar"),
    "neither": (lambda f: [(f / f"00001.{e}").unlink() for e in ("tar", "json")], "00001.tar is in sizes.json but not in"),
    "gap": (lambda f: [(f / n).unlink() for n in ("00001.tar", "00001.json", "sizes.json")], "no 00001.tar among 2 shards"),
    "two recipes": (lambda f: edit(f, 2, content_hash="fedcba9876543210"), "00000.tar was made by recipe 0123456789abcdef, 00002.tar by fedcba9876543210"),
    "another plan": (lambda f: edit(f, 1, plan="0" * 16), "its samples are not those of its plan"),
    "count": (lambda f: edit(f, 1, samples=2), "00001.json: says 2 samples and lists 1"),
    "size": (grow, "bytes, its sidecar says"),
    "no sidecar": (lambda f: (f / "00001.json").write_text('{"shard": 1}'), "00001.json is no sidecar of a shard: samples: Field required"),
    "no JSON": (lambda f: (f / "00001.json").write_text("{"), "00001.json is no sidecar of a shard: the whole: Invalid JSON"),
    "members": (drop_member, "lacks .txt, .identity.npy, unlike the first sample"),
    "members of a shard": (lambda f: write_shard(f, 2, [sample(5, side=32, identity_dim=None)]), "samples of 00002.tar have jpg, json, txt, those of 00000.tar jpg, json, txt, identity.npy"),
    "twice": (lambda f: write_shard(f, 1, [sample(0, side=32)]), "stands there twice"),
    "beyond": (out_of_the_tar, "goes beyond the end of the tar"),
    "compressed": (compress, "00001.tar.gz is compressed"),
    "empty": (empty, "no .tar in it: give the folder that holds the shards"),
    "no samples": (hollow, "no sample in any of its 2 shards"),
    "no folder": (shutil.rmtree, "is not there. `make curate` makes the sample's shards"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(copy, tmp_path, case):
    spoil, message = REFUSED[case]
    spoil(copy)
    with pytest.raises(ShardError, match=re.escape(message)) as caught:
        read_index(copy, tmp_path / "cache")
    assert str(copy) in str(caught.value)


def test_the_model_says_what_it_expects(shards, tmp_path):
    index = read_index(shards, tmp_path)
    index.expect(extensions=("jpg", "txt"), identity_dim=128, encoder="dlib")
    index.expect(encoder=ENCODER)
    for expected, message in (
        ({"identity_dim": 512}, f"has identities of 128 numbers ({ENCODER}), the model takes 512"),
        ({"encoder": "arcface"}, f"identities are from {ENCODER}, the model was made for arcface"),
        ({"encoder": "dlib-ffffffffffff"}, "the same encoder with other weights, alignment or channel order"),
        (
            {"extensions": ("jpg", "moments.npy")},
            "samples have no .moments.npy (they have jpg, json, txt, identity.npy)",
        ),
    ):
        with pytest.raises(ShardError, match=re.escape(message)):
            index.expect(**expected)


def test_shards_without_identities_say_so(tmp_path):
    index = read_index(make_shards(tmp_path / "shards", [2], side=32, identity_dim=None), tmp_path / "cache")
    assert (index.encoder, index.identity_dim) == ("", 0)
    with pytest.raises(ShardError, match=r"has no identities \(encoder unknown\), the model takes 512"):
        index.expect(identity_dim=512)
