"""What the report says beside verdicts: the web, duplicates, and what is in the shards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from curation.fetch.reasons import OPT_OUTS
from curation.ledger.model import Ledger

CAPTIONS = 200_000  # captions that are read: ids are hashes, so the first buckets are a fair sample


# -- the web -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    name: str
    images: int
    fetched: int

    @property
    def share(self) -> float:
        return self.fetched / self.images


@dataclass(frozen=True)
class Round:
    number: int
    attempts: int
    success: int

    @property
    def failed(self) -> int:
        return self.attempts - self.success


@dataclass(frozen=True)
class GivenUp:
    """What an opt-out costs: `images` beside the `fetched`. `switch`: the recipe's line that would ask for them."""

    to: str
    images: int
    fetched: int
    switch: str

    @property
    def share(self) -> float | None:
        return self.images / self.fetched if self.fetched else None


@dataclass
class Web:
    """How fetching went. `classes`: {class of the last failure: images that never came}; `healed`: {class of the first
    failure: images that came in a later round}; `hosts`: the largest of `hosts_in_all`; `given_up`: each opt-out that
    costs an image.
    """

    classes: dict[str, int]
    hosts: list[Host]
    hosts_in_all: int
    rounds: list[Round]
    healed: dict[str, int]
    given_up: list[GivenUp]


def web(ledger: Ledger, top: int = 20) -> Web | None:
    """None before the first attempt."""
    tables = ledger.tables
    if not ledger.has("attempts"):
        return None
    hosts = f"FROM hosts ORDER BY images DESC, host LIMIT {top}"
    classes = tables.counts("error", "outcomes")
    costs = [
        GivenUp(to, sum(classes.get(name, 0) for name in failures), ledger.fetched, switch)
        for to, (failures, switch) in OPT_OUTS.items()
    ]
    return Web(
        classes=classes,
        hosts=[Host(*row) for row in tables.rows(hosts)],
        hosts_in_all=tables.size("hosts"),
        rounds=[Round(*row) for row in tables.rows("FROM rounds ORDER BY round")],
        healed=tables.counts("first_error", "outcomes WHERE came_in IS NOT NULL"),
        given_up=[cost for cost in costs if cost.images],
    )


# -- duplicates --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duplicates:
    """Groups of kept images that are the same by some hash, largest first; ids ascend in a group."""

    groups: list[list[int]]

    @property
    def surplus(self) -> int:
        """How many images are one too many."""
        return sum(len(group) - 1 for group in self.groups)


def duplicates(ledger: Ledger) -> tuple[Duplicates, Duplicates] | None:
    """By equal bytes (sha256), and by equal perceptual hash but other bytes, among the kept."""
    if not ledger.has("images") or not len(ledger.kept):
        return None

    kept = "images SEMI JOIN kept USING (id)"

    def several(key: str) -> str:
        """Rows of the kept images of which another has the same `key`: few, so that only these are listed."""
        return f"{kept} SEMI JOIN (SELECT {key} FROM {kept} GROUP BY {key} HAVING count(*) > 1) AS again USING ({key})"

    def groups(source: str, key: str) -> Duplicates:
        sql = f"SELECT list(id ORDER BY id) FROM {source} GROUP BY {key} HAVING count(*) > 1 ORDER BY count(*) DESC, min(id)"
        return Duplicates([ids for (ids,) in ledger.tables.rows(sql)])

    # a perceptual hash of 0: decoded before there was a hash, or a flat picture
    other_bytes = f"(SELECT min(id) AS id, phash FROM {several('phash')} WHERE phash != 0 GROUP BY sha256, phash)"
    return groups(several("sha256"), "sha256"), groups(other_bytes, "phash")


# -- the shards ----------------------------------------------------------------------------------------------------


@dataclass
class Contents:
    """What the shards hold, and the kept images: `short_sides` of all in pixels, `megapixels` on average; of the first
    `described` of them `words` of the caption, `empty` captions and `boxes`, the faces that have a caption.
    """

    shards: int
    samples: int
    bytes: int
    forgotten: int
    short_sides: np.ndarray
    megapixels: float
    words: np.ndarray = field(default_factory=lambda: np.zeros(0))
    empty: int = 0
    caption: str = "face"
    boxes: np.ndarray = field(default_factory=lambda: np.zeros(0))
    described: int = 0


def contents(ledger: Ledger) -> Contents | None:
    """None before the cut."""
    if not ledger.has("verdicts"):
        return None
    planned, shards = ledger.planned_samples, ledger.shards
    width, height = ledger.tables.arrays("SELECT width, height FROM images SEMI JOIN kept USING (id)")
    inside = Contents(
        shards=len(shards),
        samples=sum(shard.samples for shard in shards),
        bytes=sum(shard.bytes for shard in shards),
        forgotten=sum(planned.get(shard.number, shard.samples) - shard.samples for shard in shards),
        short_sides=np.minimum(width, height),
        megapixels=float(np.mean(width.astype(np.float64) * height) / 1e6) if len(width) else 0.0,
        caption=(ledger.recipe.get("pack") or {}).get("caption", "face"),
    )
    _add_captions(ledger, inside)
    return inside


def _add_captions(ledger: Ledger, inside: Contents) -> None:
    column = {"face": "faces", "image": "image_caption", "laion": "laion_caption"}[inside.caption]
    caption = "part.faces[greatest(caption_face, 0) + 1].caption" if column == "faces" else f"part.{column}"
    words, boxes = [], []
    for path in ledger.run.glob("candidates/*.parquet"):
        if len(words) >= CAPTIONS:
            break
        rows = ledger.tables.rows(
            f"""SELECT {caption}, len(part.faces) FROM part JOIN verdicts ON verdicts.id = id_number(part.id)
            SEMI JOIN kept ON kept.id = verdicts.id""",
            part=ledger.run.read_table(path, sorted({"id", "faces", column})),
        )
        words += [len((text or "").split()) for text, _ in rows]
        boxes += [faces for _, faces in rows]
    inside.words, inside.boxes, inside.described = np.array(words), np.array(boxes), len(words)
    inside.empty = words.count(0)
