"""References out of shards: photos and captions of a data set, e.g. FaceCaption's."""

from __future__ import annotations

from common.shard_format import read_record
from evaluation.builders.candidates import Candidate, Candidates
from evaluation.builders.shard_folder import ShardFolder


def from_shards(place: str) -> Candidates:
    """All samples in the order of their ids, which are hashes and hence no choice.

    Raises:
        SetError: no shards there.
    """
    folder = ShardFolder(place)
    for sample, stem in folder.ids():
        jpeg, text, record = folder.members(stem, sample, "jpg", "txt", "json")
        told = read_record(record) if record else {}
        yield Candidate(
            sample, jpeg, " ".join(text.decode("utf-8", "replace").split()), id=sample, url=told.get("url", ""),
            licence=told.get("license", ""),
        )  # fmt: skip
