"""The shard format is for ever: these bytes are what readers of shards that were packed before expect."""

from __future__ import annotations

import hashlib
import io
import tarfile

from common.shard_format import Sidecar, ids_hash, publish_shard, write_tar
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
