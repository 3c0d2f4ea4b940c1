"""The sample's metadata tables, in the true schemas of FaceCaption v2, LAION-Face and FaceCaptionHQ-4M.

Seeded by the URL, never by the order of anything: adding a picture moves no other row. Captions are generic:
no captioner is at hand, so they say what a file's name says, and no more.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from curation.sample.addresses import HOSTS, Address
from curation.sample.boxes import Box, made_up
from curation.sample.web import canonical_url

SEED = "sample-1"
FILES, PARTS, ROW_GROUP = 3, 4, 128
OTHER_ROWS = 1500  # LAION rows whose URL FaceCaption does not have
FACECAPTION = pa.schema(
    {
        "_id": pa.string(),
        "caption": pa.list_(pa.string()),
        "url": pa.string(),
        "laion_caption": pa.list_(pa.string()),
        "box": pa.string(),
    }
)
HQ4M = pa.schema(dict.fromkeys(("url", "image_caption", "face_caption", "image_short_caption"), pa.string()))
Row = dict[str, Any]


def rng(*key: object) -> random.Random:
    """A generator of its own for each key."""
    return random.Random(":".join(map(str, (SEED, *key))))


def digest(*key: object) -> str:
    return hashlib.sha1(":".join(map(str, key)).encode()).hexdigest()


def sorted_counts(values: Iterable[str]) -> dict[str, int]:
    """{value: how often}, in the order of the values."""
    return dict(sorted(Counter(values).items()))


# -- FaceCaption -------------------------------------------------------------------------------------------------


def face_row(url: str, caption: str, box: Box, laion: list[str | None]) -> Row:
    text = json.dumps(list(box))
    return {"_id": digest(url, text)[:24], "caption": [caption], "url": url, "laion_caption": laion, "box": text}


def laion_text(address: Address) -> list[str | None]:
    """What LAION has for a picture: an alt text, one in another language, an empty one, null, or nothing."""
    words = address.picture.description
    draw = rng("laion", canonical_url(address.url)).random()
    if draw < 0.62:
        return [f"{words} - photo from {canonical_url(address.url).split('/')[2].split('.')[-2]}"]
    if draw < 0.72:
        return [f"Ein Bild: {words} – größer ansehen", f"фото {words}", f"{words} の写真"][int(draw * 1000) % 3 :][:1]
    return [""] if draw < 0.77 else [None] if draw < 0.9 else []


def face_captions(words: str, count: int) -> list[str]:
    if count == 1:
        return [f"A picture of {words}, showing the face."]
    return [f"A picture of {words}, face {number + 1} of {count}, from the left." for number in range(count)]


def good_rows(addresses: list[Address]) -> list[Row]:
    """One row a face. A few URLs have a second part after ", ", and one host is spelled in another case."""
    rows = []
    for address in addresses:
        boxes = sorted(address.picture.boxes)
        draw = rng("rows", canonical_url(address.url))
        spelling = address.url
        if draw.random() < 0.04:
            spelling += f", http://{draw.choice(HOSTS)}/mirror/{digest(address.url)[:8]}.jpg"
        texts = face_captions(address.picture.description, len(boxes))
        rows += [face_row(spelling, text, box, laion_text(address)) for box, text in zip(boxes, texts, strict=True)]
    return rows


def odd_rows(addresses: list[Address], good: list[Row]) -> list[tuple[str, str, Row]]:
    """(kind, why it is dropped or "" when it is not, row): what the real table has, too.

    Half of the broken rows are about a URL that has sound rows, half about one that has none.
    """
    photos = [address for address in addresses if address.behaviour == "file"]
    turn = iter(range(10_000))

    def base(own_url: bool = True) -> Row:
        number = next(turn)
        address = photos[(number * 7 + 3) % len(photos)]
        url = f"http://{HOSTS[number % len(HOSTS)]}/never/{number:03d}.jpg" if own_url else address.url
        box = made_up(address.picture.width, address.picture.height, f"odd {number}")
        return face_row(url, f"A picture of {address.picture.description}, odd row {number}.", box, laion_text(address))

    found: list[tuple[str, str, Row]] = []

    def add(kind: str, reason: str, own_url: bool = True, **changes: Any) -> None:
        found.append((kind, reason, {**base(own_url), **changes}))

    for _ in range(6):
        add("url UNKNOWN", "url_unknown", url="UNKNOWN")
    for _ in range(4):
        add("url null", "url_unknown", url=None)
    add("url empty", "url_unknown", url="")
    for url in ("not a url", "http://", "ftp://img1.example.test/portrait.jpg", "data:image/png;base64,iVBORw0KGgo="):
        add("url not http", "url_malformed", url=url)
    for place, text in enumerate(("", "[12, 30, 110", "None", "(10, 20, 90, 110")):
        add("box not JSON", "box_malformed", place % 2 == 0, box=text)
    add("box null", "box_malformed", box=None)
    add("box an object", "box_malformed", box='{"x1": 10, "y1": 20}')
    for own in (True, False):
        add("box of three", "box_malformed", own, box="[12, 30, 110]")
        add("box of five", "box_malformed", own, box="[12, 30, 110, 140, 1]")
        add("box with null", "box_malformed", own, box="[12, null, 110, 140]")
        add("box x2 < x1", "box_empty", own, box="[210, 30, 110, 140]")
        add("box y2 = y1", "box_empty", own, box="[10, 30, 110, 30]")
        add("box left of the picture", "box_empty", own, box="[-90, 10, -20, 80]")
        add("caption []", "caption_missing", own, caption=[])
    add("caption null", "caption_missing", caption=None)
    add("caption [null]", "caption_missing", caption=[None])
    add("caption ['']", "caption_missing", caption=[""])
    for row in good[11::83][:4]:
        found.append(("row twice", "duplicate_row", dict(row)))
    for row in good[17::97][:2]:
        found.append(("face twice, another _id", "duplicate_row", {**row, "_id": digest("again", row["_id"])[:24]}))
    # odd, but sound: they become faces of candidates that exist
    for address in photos[5::90][:3]:
        box = made_up(address.picture.width, address.picture.height, "beyond")
        text = f"A picture of {address.picture.description}, cut by the edge."
        row = face_row(address.url, text, box, laion_text(address))
        found.append(("box beyond the edge", "", {**row, "box": json.dumps([-6, box[1], box[2], box[3]])}))
    for address in photos[9::120][:2]:
        box = made_up(address.picture.width, address.picture.height, "case")
        url = canonical_url(address.url).replace(".test/", ".TEST:80/")
        found.append(("host in another case", "", face_row(url, "A picture, its host in capitals.", box, [])))
    return found


def facecaption(addresses: list[Address]) -> tuple[list[pa.Table], dict[str, Any]]:
    """The files' tables, and what is in them: rows by kind and by the reason they are dropped for."""
    good = good_rows(addresses)
    odd = odd_rows(addresses, good)
    rows = good + [row for _, _, row in odd]
    rng("order").shuffle(rows)
    tables = [pa.Table.from_pylist(rows[start::FILES], FACECAPTION) for start in range(FILES)]
    dropped = Counter(reason for _, reason, _ in odd if reason)
    counts = {
        "rows": len(rows),
        "merged": len(rows) - dropped.total(),
        "dropped": sorted_counts(dropped.elements()),
        "odd": sorted_counts(kind for kind, _, _ in odd),
        "candidates": len(addresses),
    }
    return tables, counts


# -- LAION-Face --------------------------------------------------------------------------------------------------


def _laion_spelling(url: str, draw: random.Random) -> tuple[str, str]:
    """The same resource in the spelling of another crawl, and which one."""
    plain = url.partition("#")[0]
    scheme, _, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    chance = draw.random()
    if chance < 0.06:
        return f"{scheme}://{host.swapcase()}{slash}{path}", "case"
    if chance < 0.12:
        return f"{scheme}://{host.removesuffix(':80')}:80{slash}{path}", "port"
    if chance < 0.18:
        return f"{plain}#main", "fragment"
    return url, "same"


def _laion_row(url: str, text: str | None, width: int | None, height: int | None) -> Row:
    draw = rng("laion row", url)
    return {
        "SAMPLE_ID": int(digest("sample id", url)[:11], 16),
        "URL": url,
        "TEXT": text,
        "HEIGHT": height,
        "WIDTH": width,
        "LICENSE": draw.choices(["?", None, "https://creativecommons.org/licenses/by/2.0/"], [90, 6, 4])[0],
        "NSFW": draw.choices(["UNLIKELY", "UNSURE", "NSFW", None], [90, 6, 1, 3])[0],
        "similarity": round(draw.uniform(0.3, 0.42), 6) if draw.random() > 0.02 else None,
    }


def laion(addresses: list[Address]) -> tuple[list[pa.Table], bytes, dict[str, Any]]:
    """The parts, laion_face_ids.pth, and what is in them.

    One part has HEIGHT and WIDTH as float64, as a sister release has; the ids file leaves some rows of each out.
    """
    rows: list[Row] = []
    spellings: Counter[str] = Counter()
    matched: set[str] = set()
    outside: set[int] = set()
    for address in addresses:
        draw = rng("laion", address.url)
        if draw.random() < 0.12:
            continue
        url, spelling = _laion_spelling(address.url, draw)
        text = (laion_text(address) or [None])[0]
        sizes = (address.picture.width, address.picture.height) if draw.random() > 0.05 else (None, None)
        row = _laion_row(url, text, *sizes)
        rows.append(row)
        if draw.random() < 0.04:
            outside.add(row["SAMPLE_ID"])
        else:
            spellings[spelling] += 1
            matched.add(canonical_url(address.url))
    for number in range(OTHER_ROWS):
        draw = rng("stranger", number)
        url = f"{draw.choice(['http', 'https'])}://{draw.choice(HOSTS)}/elsewhere/{number:04d}.jpg"
        row = _laion_row(url, f"picture {number} of somebody else", draw.randint(200, 2000), draw.randint(200, 2000))
        rows.append(row)
        if draw.random() < 0.1:
            outside.add(row["SAMPLE_ID"])
    rows += [dict(row) for row in rows[4::150][:3]]  # the same row in two parts
    rows.append({**rows[6], "SAMPLE_ID": None, "URL": None})
    rng("laion order").shuffle(rows)
    parts, ids = [], []
    for part in range(PARTS):
        mine = rows[part::PARTS]
        size, share = (pa.float64(), pa.float64()) if part == 2 else (pa.int32(), pa.float32())
        kinds = [pa.int64(), pa.string(), pa.string(), size, size, pa.string(), pa.string(), share]
        parts.append(pa.Table.from_pylist(mine, pa.schema(list(zip(mine[0], kinds, strict=True)))))
        ids.append([row["SAMPLE_ID"] for row in mine if row["SAMPLE_ID"] not in outside and row["URL"]])
    pickled = io.BytesIO()
    torch.save(ids, pickled)
    counts = {"rows": len(rows), "matched": len(matched), "spelled": sorted_counts(spellings.elements())}
    return parts, pickled.getvalue(), {**counts, "left_out_by_ids": len(outside)}


# -- FaceCaptionHQ-4M --------------------------------------------------------------------------------------------


def hq4m(addresses: list[Address]) -> pa.Table:
    """A stand-in of the released table. Its rule, which is nobody's judgement: one face row, its shorter side at
    least 80 px. Its captions say that they are invented."""
    rows = []
    for address in addresses:
        boxes, words = address.picture.boxes, address.picture.description
        if len(boxes) != 1 or min(boxes[0][2] - boxes[0][0], boxes[0][3] - boxes[0][1]) < 80:
            continue
        rows.append(
            {
                "url": address.url,
                "image_caption": f"Invented for the sample: a scene with {words}, in front of something.",
                "face_caption": face_captions(words, 1)[0],
                "image_short_caption": f"Invented: {words}.",
            }
        )
    return pa.Table.from_pylist(rows, HQ4M)


def parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=ROW_GROUP)
    return out.getvalue()
