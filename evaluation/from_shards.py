"""References out of shards: photos and captions of a data set, as a folder."""

from __future__ import annotations

from pathlib import Path

from common.shard_format import Sidecar
from evaluation.sets import SetError


def references_from_shards(shards: Path, out: Path, count: int) -> list[str]:
    """Write ID.jpg and ID.txt of the first `count` samples by id, which is a hash and hence a choice without a preference.

    Returns their ids. A folder that holds them already is left as it is.

    Raises:
        SetError: no shards there, fewer samples than asked for, or other photos in `out`.
    """
    sidecars = sorted(shards.glob("[0-9]*.json"))
    places = {}
    for file in sidecars:
        for entry in Sidecar.model_validate_json(file.read_bytes()).index:
            if "jpg" in entry.members:
                places[entry.id] = file.with_suffix(".tar"), entry.members
    if not places:
        raise SetError(f"{shards}: holds no shards: run `make curate` first, or name a folder of shards")
    if count > len(places):
        raise SetError(f"{shards}: holds {len(places):,} samples, fewer than the {count:,} asked for")
    ids = sorted(places)[:count]
    if strange := sorted({file.stem for file in out.glob("*.jpg")} - set(ids)):
        raise SetError(f"{out}: holds other photos ({strange[0]}.jpg): take another folder")
    out.mkdir(parents=True, exist_ok=True)
    for sample in ids:
        tar, members = places[sample]
        with tar.open("rb") as file:
            for extension in ("txt", "jpg"):
                offset, size = members[extension]
                file.seek(offset)
                (out / f"{sample}.{extension}").write_bytes(file.read(size))
    return ids
