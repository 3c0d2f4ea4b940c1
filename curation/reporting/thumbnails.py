"""Small pictures of what a report talks about, as data: URIs, with the evidence drawn on them.

Bytes come out of the fetched tars by range, so a report over an object store moves a few megabytes.
"""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image as PILImage
from PIL import ImageDraw

from common.decode import ImageLimits, Undecodable, decode
from curation.filters.base import Filter, Outline
from curation.ledger.model import Ledger
from curation.ledger.tables import name_of
from curation.reporting.measures import evidence_of, filters_of

SIDE, QUALITY = 112, 70
BUDGET = 3_300_000  # bytes of base64 in a page that has to stay below 5 MB
COUNTED, IGNORED = (255, 196, 0), (150, 150, 150)
CROWDED = 20  # outlines; with more, those that do not count are left out
# enough for a thumbnail, and small images may be shown although the run would not take them
LIMITS = ImageLimits(min_side=1, working_side=2 * SIDE)


@dataclass
class Tile:
    """One picture in a grid. `check`: whose evidence is drawn on it."""

    id: int
    label: str = ""
    check: str = ""
    alt: str = ""
    uri: str | None = None

    @property
    def name(self) -> str:
        return name_of(self.id)


@dataclass
class Grid:
    title: str
    tiles: list[Tile] = field(default_factory=list)
    side: str = ""  # css: "kept" or "rejected"
    note: str = ""


def fill(ledger: Ledger, grids: Iterable[Grid]) -> None:
    """Give every tile its picture. One that cannot be read or decoded any more stays without."""
    tiles = [tile for grid in grids for tile in grid.tiles]
    filters = filters_of(ledger)
    wanted: dict[str, set[int]] = defaultdict(set)
    for tile in tiles:
        if tile.check in filters:
            wanted[tile.check].add(tile.id)
    evidence = evidence_of(ledger, wanted)
    places = {
        number: place
        for number, *place in ledger.tables.rows(
            "SELECT id, tar, start, size FROM taken WHERE id IN (SELECT unnest(?))", [tile.id for tile in tiles]
        )
    }
    keys = list(dict.fromkeys((tile.id, tile.check) for tile in tiles))

    def draw(key: tuple[int, str]) -> str | None:
        number, check = key
        if number not in places:
            return None
        return _thumbnail(ledger, places[number], filters.get(check), evidence.get((check, number)))

    with ThreadPoolExecutor(8) as pool:
        uris = dict(zip(keys, pool.map(draw, keys), strict=True))
    left = BUDGET
    for tile in tiles:
        uri = uris[tile.id, tile.check]
        left -= len(uri or "")
        tile.uri = uri if left > 0 else None
        tile.alt = tile.alt or f"image {tile.name}" + (f", {tile.label}" if tile.label else "")


def _thumbnail(
    ledger: Ledger, place: Sequence[Any], item: Filter | None, evidence: dict[str, Any] | None
) -> str | None:
    """A data: URI of the image at `place` (tar, offset, size); None where it cannot be read or decoded."""
    try:
        picture = decode(ledger.run.read_bytes(*place), LIMITS)
    except (OSError, Undecodable):
        return None
    small = PILImage.fromarray(picture.view(SIDE))
    if item is not None and evidence is not None:
        size = picture.width, picture.height
        _draw(small, item.outlines(evidence, size, getattr(ledger.thresholds, item.name)))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _draw(small: PILImage.Image, outlines: list[Outline]) -> None:
    """What a filter saw: bright where it counts, grey where it is below the confidence asked for."""
    pen = ImageDraw.Draw(small)
    if len(outlines) > CROWDED:
        outlines = [outline for outline in outlines if outline.counts]
    for outline in reversed(outlines):
        corners = [(x * small.width, y * small.height) for x, y in outline.corners]
        colour, width = (COUNTED, 2) if outline.counts else (IGNORED, 1)
        pen.line([*corners, corners[0]], fill=colour, width=width)
