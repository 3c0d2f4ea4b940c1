"""The shard format is for ever: these bytes are what readers of shards that were packed before expect."""

from __future__ import annotations

import hashlib
import io
import tarfile

import numpy as np
import pytest

from common.shard_format import Sidecar, ids_hash, publish_shard, read_array, read_record, write_tar
from common.storage import Storage

SAMPLES = [
    ("00aa", [("jpg", b"\xff\xd8" * 300), ("json", b"{}"), ("txt", "fä".encode())]),
    ("00ab", [("jpg", b"x" * 512), ("json", b'{"a":1}'), ("txt", b"")]),
    ("00ac", []),
]
TAR = "eb9eebb9ac506da067476915d231552d26e0a01ed77956add9131f69d90792b4"
INDEX = (
    '[{"id":"00aa","members":{"jpg":[512,600],"json":[2048,2],"txt":[3072,3]}},'
    '{"id":"00ab","members":{"jpg":[4096,512],"json":[5120,7],"txt":[6144,0]}},{"id":"00ac","members":{}}]'
)
SIDECAR = (
    f'{{"shard":7,"samples":3,"bytes":10240,"sha256":"{TAR}","revision":0,"content_hash":"0123456789abcdef",'
    f'"plan":"PLAN","index":{INDEX}}}'
)
PLAN = hashlib.sha256(b"00aa\n00ab\n00ac").hexdigest()[:16]


def publish(folder, **fields):
    tar = folder / "local.tar"
    with open(tar, "wb") as file:
        index = write_tar(file, SAMPLES)
    publish_shard(Storage(folder), "out/00007", tar, index, shard=7, content_hash="0123456789abcdef", **fields)
    assert not tar.exists()
    return (folder / "out/00007.tar").read_bytes(), (folder / "out/00007.json").read_text()


def test_a_shard_has_the_bytes_that_it_always_had(tmp_path):
    tar, sidecar = publish(tmp_path)
    assert hashlib.sha256(tar).hexdigest() == TAR
    assert sidecar == SIDECAR.replace("PLAN", PLAN) and ids_hash(["00aa", "00ab", "00ac"]) == PLAN
    _, packed = publish(tmp_path, format=2)
    assert packed == '{"format":2,' + sidecar[1:]
    _, cached = publish(tmp_path, revision=2, source="ab")
    assert cached == sidecar.replace('"revision":0', '"revision":2').replace(',"index"', ',"source":"ab","index"')


def test_a_sidecar_is_read_as_it_was_written(tmp_path):
    tar, text = publish(tmp_path)
    sidecar = Sidecar.model_validate_json(text)
    assert sidecar.to_json().decode() == text
    for (sample_id, members), entry in zip(SAMPLES, sidecar.index, strict=True):
        assert entry.id == sample_id
        assert {name: tar[at : at + size] for name, (at, size) in entry.members.items()} == dict(members)


def test_any_tar_reader_reads_it():
    file = io.BytesIO()
    write_tar(file, SAMPLES)
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        found = {info.name: (tar.extractfile(info).read(), info.mtime, info.uid, info.mode) for info in tar}
    expected = {f"{key}.{extension}": (data, 0, 0, 0o644) for key, members in SAMPLES for extension, data in members}
    assert found == expected and list(found) == list(expected)


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_saying(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


NUMBERS = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3).astype(kind) for kind in ("f2", "f4", ">f8", "i8", "u1", "?")], ids=str
)
@pytest.mark.parametrize("order", "CF")
def test_an_array_is_read_as_it_was_stored(array, order):
    found = read_array(npy(np.asarray(array, order=order)))
    assert found.dtype == array.dtype and np.array_equal(found, array) and found.flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        b"", b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x09\0", npy(np.zeros(4))[:-1], npy(np.zeros(4)) + b"x",
        npy(np.array(["a"])), npy(np.zeros(2, complex)), npy(np.zeros(2, "M8[s]")), npy(np.zeros(2, [("a", "f4")])),
        npy_saying(NUMBERS % 10**12), npy_saying(NUMBERS % -4, bytes(16)), npy_saying("{'descr':"), npy_saying("(" * 90),
        npy_saying("__import__('os')"), npy_saying("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x04N."),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_a_value_error(data):
    with pytest.raises(ValueError, match="."):
        read_array(data)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"[" * 99999, b'{"a":' * 99999, b'{"a": ' + b"1" * 5000 + b"}"]
)
def test_what_is_no_record_is_a_value_error(data):
    with pytest.raises(ValueError, match="."):
        read_record(data)
