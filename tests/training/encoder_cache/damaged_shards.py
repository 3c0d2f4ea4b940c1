"""Shards that were changed after they were made, with sidecars that fit what they hold now."""

from __future__ import annotations

import json

from common.hashing import sha256_of_bytes


def change(tar, edit):
    """Another shard in the place of one: `edit(bytes, members of a sample by position)`, and a sidecar that fits."""
    sidecar = tar.with_suffix(".json")
    told, data = json.loads(sidecar.read_text()), bytearray(tar.read_bytes())
    edit(data, told)
    tar.write_bytes(data)
    told["sha256"] = sha256_of_bytes(data)
    sidecar.write_text(json.dumps(told))


def break_picture(position):
    def edit(data, told):
        offset, size = told["index"][position]["members"]["jpg"]
        data[offset : offset + size] = bytes(size)

    return edit


def take_out(position):
    def edit(data, told):
        for offset, size in told["index"][position]["members"].values():
            data[offset : offset + size] = bytes(size)
        told["index"][position]["members"] = {}
        told["revision"] += 1

    return edit
