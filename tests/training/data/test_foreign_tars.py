"""Tars of another maker: read by their headers as webdataset reads them; what cannot be a sample is named."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
import webdataset

from tests.training.made.shards import members_of
from training.data import index_scan
from training.data.folder import Folder, ShardError
from training.data.index import read_index


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def foreign(folder: Path, names: list[list[str]]) -> Path:
    folder.mkdir()
    for number, members in enumerate(names):
        with tarfile.open(folder / f"set-{number}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
            for name in members:
                add(tar, name, f"{number} {name}".encode(errors="surrogateescape") * 99)
    return folder


def test_tars_of_another_maker_are_read_as_webdataset_reads_them(tmp_path):
    long = "a/" * 60 + "person.jpg"
    folder = foreign(tmp_path / "foreign", [
        ["__meta__/x.txt", "a/0.JPG", "a/0.seg.png", "README", "b/0.seg.png", "b/0.jpg"],
        ["0.jpg", "0.seg.png", long, long.replace(".jpg", ".seg.png")],
    ])  # fmt: skip
    index = read_index(folder, tmp_path / "cache")
    assert index.foreign and index.counts.tolist() == [2, 2] and index.extensions == ("jpg", "seg.png")
    tars = [str(folder / name) for name in index.names]
    number = 0
    for expected in webdataset.WebDataset(tars, shardshuffle=False):
        shard, position = divmod(number, 2)
        assert index.id(shard, position) == expected["__key__"]
        assert members_of(folder, index, shard, position) == {name: expected[name] for name in index.extensions}
        number += 1
    assert number == 4


def test_a_name_that_is_no_text_is_read(tmp_path):
    folder = foreign(tmp_path / "foreign", [["caf\udce9.jpg", "caf\udce9.txt", "café.jpg", "café.txt"]])
    index = read_index(folder, tmp_path / "cache")
    assert index.ids(0) == ["caf\\udce9", "café"]
    assert members_of(folder, index, 0, 0)["txt"] == "0 caf\udce9.txt".encode(errors="surrogateescape") * 99


def test_a_list_of_sizes_that_is_none_is_told(tmp_path):
    folder = foreign(tmp_path / "foreign", [["0.jpg"]])
    (folder / "sizes.json").write_text("[]")
    with pytest.raises(ShardError, match=r"sizes.json cannot be read \(JSON, but a list"):
        Folder(folder).sizes()


def test_they_are_read_once(tmp_path, monkeypatch):
    folder = foreign(tmp_path / "foreign", [["0.jpg", "0.txt"], ["1.jpg", "1.txt"]])
    scanned = []
    scan = index_scan._scan_once
    monkeypatch.setattr(index_scan, "_scan_once", lambda f, name: scanned.append(name) or scan(f, name))
    first = read_index(folder, tmp_path / "cache")
    assert read_index(folder, tmp_path / "cache").hash == first.hash
    assert scanned == ["set-0.tar", "set-1.tar"]
    with tarfile.open(folder / "set-1.tar", "a") as tar:
        add(tar, "2.jpg", b"2"), add(tar, "2.txt", b"2")
    second = read_index(folder, tmp_path / "cache")
    assert scanned == ["set-0.tar", "set-1.tar", "set-1.tar"]
    assert second.counts.tolist() == [1, 2] and second.hash != first.hash


def no_tar(folder: Path) -> None:
    (folder / "set-0.tar").write_bytes(b"not a tar at all" * 100)


def cut_short(folder: Path) -> None:
    data = (folder / "set-0.tar").read_bytes()
    (folder / "set-0.tar").write_bytes(data[:700])


def garbage(folder: Path) -> None:
    """Where the second header should be: tarfile would take it for the end."""
    data = bytearray((folder / "set-0.tar").read_bytes())
    data[1536:2048] = b"\xff" * 512
    (folder / "set-0.tar").write_bytes(data)


@pytest.mark.parametrize(
    ("names", "spoil", "message"),
    [
        (["0.jpg", "0.txt", "1.jpg"], None, "set-0.tar: sample 1 lacks .txt, unlike the first sample (0)"),
        (["0.jpg", "1.jpg", "1.txt"], None, "set-0.tar: sample 1 has .txt, unlike the first sample (0)"),
        (["0.jpg", "1.jpg", "0.txt", "1.txt"], None, "set-0.tar: the members of sample 0 do not stand together"),
        (["0.jpg", "0.jpg"], None, "set-0.tar: 0.jpg stands there twice"),
        (["0.jpg"], no_tar, "set-0.tar: "),
        (["0.jpg", "0.txt"], cut_short, "set-0.tar: "),
        (["0.jpg", "1.jpg"], garbage, "set-0.tar: no header at byte 1536"),
    ],
)
def test_what_cannot_be_a_sample_is_named(tmp_path, names, spoil, message):
    folder = foreign(tmp_path / "foreign", [names])
    if spoil:
        spoil(folder)
    with pytest.raises(ShardError, match=re.escape(f"{folder}/{message}")):
        read_index(folder, tmp_path / "cache")
