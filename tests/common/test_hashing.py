"""The hashes that everything is named by."""

from __future__ import annotations

from common.hashing import canonical_json, sha256_of_bytes, sha256_of_file


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


def test_a_file_has_the_hash_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(tmp_path / "file") == sha256_of_bytes(b"abc") == expected
