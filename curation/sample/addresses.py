"""The URLs of the sample: which picture each holds, and how the web server answers for it.

Everything follows from the pictures' sha256, so a URL, and with it an id, is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from curation.sample.boxes import Box
from curation.sample.web import canonical_url

HOSTS = (
    *(f"img{number}.example.test" for number in range(1, 7)),
    "photos.example.test",
    "cdn.pictures.test",
    "media.news.test",
    "static.blog.test",
    "www.gallery.test",
    "files.forum.test",
)
# half of the URLs have one of these spellings, the others the plain one
PLAIN = "http://{host}/uploads/{folder}/{slug}.{ending}"
SPELLINGS = (
    "http://{host}/my photos/{words}.{ending}",
    "http://{host}/фото/{slug}.{ending}",
    "http://{host}/image.php?id={number}&name={slug}&size=large",
    "http://{host}/a%20folder/caf%C3%A9/{slug}.{ending}",
    "http://{HOST}/uploads/{folder}/{slug}.{ending}",
    "http://{host}:80/uploads/{folder}/{slug}.{ending}",
    "http://{host}/bilder/größe l/{slug}.{ending}?q=schön",
    "HTTP://{host}/Images/{slug}.{ending}#face",
)
TYPES = {"jpg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp"}


@dataclass(frozen=True)
class Picture:
    """One file under photos/. `description`: what its name says, in words; `boxes`: faces in the stored frame."""

    sha256: str
    file: str
    description: str
    boxes: tuple[Box, ...]
    width: int
    height: int
    kind: str = "photo"
    decodes: str = "ok"
    content_type: str = "image/jpeg"


@dataclass(frozen=True)
class Address:
    """A URL of the sample as FaceCaption spells it, its picture, and what a fetch of it ends as.

    `answer`: the entry of behaviour.json; `expect`: "success" or the class of the failure. Where the picture is not
    what the URL serves (it is gone), the table still knows the face that was there.
    """

    url: str
    picture: Picture
    answer: dict[str, Any]
    expect: str = "success"
    more_answers: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def behaviour(self) -> str:
        """A name to count by: "404", "heals_503_at_3", "redirect_301"; "file" for the plain answer."""
        return self.answer.get("name") or self.answer["do"]


def url_of(picture: Picture, place: str = "") -> str:
    """A URL for a picture, in one of the spellings that the web has: spaces, non-ASCII, escapes, queries, ports."""
    digest = picture.sha256 if not place else f"{sum(place.encode()) % 0xFFFF:04x}{picture.sha256[4:]}"
    host = HOSTS[int(digest[8:12], 16) % len(HOSTS)]
    extension = picture.file.rpartition(".")[2]
    slug = f"{picture.description.replace(' ', '-') or 'picture'}-{digest[:6]}"
    folder = f"{2009 + int(digest[12:14], 16) % 14}/{1 + int(digest[14:16], 16) % 12:02d}"
    shape = int(digest[:4], 16) % 16
    spelling = SPELLINGS[shape] if shape < len(SPELLINGS) else PLAIN
    return spelling.format(
        host=host, HOST=host.upper(), slug=slug, words=slug.replace("-", " "), folder=folder, ending=extension,
        number=int(digest[:8], 16),
    )  # fmt: skip


def normal_answer(picture: Picture) -> dict[str, Any]:
    """The normal answer: 200, the file, the right content type."""
    return {"do": "file", "file": picture.file, "type": picture.content_type}


# The fetch succeeds, on the picture's only URL: name, the fields that are changed.
SUCCEEDING: tuple[tuple[str, dict[str, Any]], ...] = (
    *(("heals_500_at_2", {"do": "status", "status": 500, "heals_at": 2}),) * 3,
    *(("heals_503_at_2", {"do": "status", "status": 503, "heals_at": 2, "headers": {"Retry-After": "1"}}),) * 2,
    *(("heals_503_at_3", {"do": "status", "status": 503, "heals_at": 3}),) * 3,
    *(("heals_429_at_2", {"do": "status", "status": 429, "heals_at": 2, "headers": {"Retry-After": "1"}}),) * 2,
    ("heals_silent_at_2", {"do": "silent", "heals_at": 2}),
    ("heals_reset_at_2", {"do": "reset", "heals_at": 2}),
    *(("redirect_301_other_host", {"do": "redirect", "status": 301, "hops": 1}),) * 2,
    ("redirect_302_chain", {"do": "redirect", "status": 302, "hops": 2}),
    ("redirect_307_relative", {"do": "redirect", "status": 307, "hops": 1, "relative": True}),
    ("redirect_308", {"do": "redirect", "status": 308, "hops": 1}),
    ("robots_of_another_bot", {"headers": {"X-Robots-Tag": "otherbot: noai"}}),
    ("octet_stream", {"type": "application/octet-stream"}),
    ("no_content_type", {"type": None}),
    *(("chunked", {"do": "chunked"}),) * 2,
)
# The fetch fails, on URLs of their own: name, the answer, the class it ends as.
FAILING: tuple[tuple[str, dict[str, Any], str], ...] = (
    *(("404", {"do": "status", "status": 404}, "http_404"),) * 6,
    *(("403", {"do": "status", "status": 403}, "http_403"),) * 2,
    *(("410", {"do": "status", "status": 410}, "http_410"),) * 2,
    ("500_for_good", {"do": "status", "status": 500}, "http_500"),
    ("heals_503_at_6", {"do": "status", "status": 503, "heals_at": 6}, "http_503"),
    ("silent", {"do": "silent"}, "timeout"),
    ("drip", {"do": "drip"}, "deadline"),
    ("redirect_loop", {"do": "redirect", "status": 302, "loop": True}, "too_many_redirects"),
    ("redirect_to_ftp", {"do": "redirect", "status": 302, "location": "ftp://img1.example.test/a"}, "refused_scheme"),
    ("redirect_to_file", {"do": "redirect", "status": 301, "location": "file:///etc/hostname"}, "refused_scheme"),
    ("redirect_to_404", {"do": "redirect", "status": 301, "location": f"http://{HOSTS[1]}/gone.jpg"}, "http_404"),
    *(("html_200", {"do": "html"}, "not_an_image"),) * 2,
    *(("cut", {"do": "cut"}, "truncated_body"),) * 2,
    ("endless", {"do": "endless"}, "too_many_bytes"),
    ("huge_length", {"do": "huge"}, "too_many_bytes"),
    *(("robots_noai", {"do": "file", "headers": {"X-Robots-Tag": "noai"}}, "opted_out_header"),) * 2,
    ("robots_for_us", {"do": "file", "headers": {"X-Robots-Tag": "facemakeup: noindex, nofollow"}}, "opted_out_header"),
    ("empty", {"do": "empty"}, "empty_body"),
    *(("host_down", {"do": "down"}, "connection"),) * 2,
)
SECOND_URLS = 3  # pictures that stand under two URLs


def addresses(pictures: list[Picture]) -> list[Address]:
    """Every URL of the sample, in a fixed order: the pictures' own, second ones, and those whose fetch fails."""
    photos = [picture for picture in pictures if picture.kind == "photo"]
    step = len(photos) // len(SUCCEEDING)
    special = {photos[place * step].sha256: entry for place, entry in enumerate(SUCCEEDING)}
    every = []
    for picture in pictures:
        address = Address(url_of(picture), picture, normal_answer(picture), _expect(picture))
        if picture.kind != "photo":
            address = replace(address, answer={**address.answer, "name": f"made_{picture.kind}"})
        elif picture.sha256 in special:
            address = _succeeding(address, *special[picture.sha256])
        every.append(address)
    # other photos than those above, each a stride apart
    for picture in photos[5 :: len(photos) // SECOND_URLS][:SECOND_URLS]:
        again = {**normal_answer(picture), "name": "second_url"}
        every.append(Address(url_of(picture, "second"), picture, again))
    borrowed = photos[2 :: len(photos) // len(FAILING)]
    for number, (name, answer, expect) in enumerate(FAILING):
        every.append(_failing(number, borrowed[number], name, answer, expect))
    return every


def _expect(picture: Picture) -> str:
    return {"empty": "empty_body", "html": "not_an_image"}.get(picture.decodes, "success")


def _succeeding(address: Address, name: str, changes: dict[str, Any]) -> Address:
    answer = {**address.answer, **changes, "name": name}
    hops, relative = answer.pop("hops", 0), answer.pop("relative", False)
    if not hops:
        return replace(address, answer=answer)
    start = canonical_url(address.url)
    host = start.split("/")[2]
    more_answers: dict[str, dict[str, Any]] = {}
    target = normal_answer(address.picture)
    for hop in range(hops, 0, -1):  # the last stop first: each one before it knows where to point
        path = f"/moved/{hop}/{address.picture.sha256[:12]}.{address.picture.file.rpartition('.')[2]}"
        there = f"http://{host if relative else HOSTS[(HOSTS.index(host) + hop) % len(HOSTS)]}{path}"
        more_answers[there] = target
        target = {"do": "redirect", "status": changes["status"], "location": path if relative else there}
    return replace(address, answer={**target, "name": name}, more_answers=more_answers)


def _failing(number: int, picture: Picture, name: str, answer: dict[str, Any], expect: str) -> Address:
    host = "down.test" if answer["do"] == "down" else HOSTS[number % len(HOSTS)]
    url = f"http://{host}/archive/{number:02d}/{picture.description.replace(' ', '_') or 'picture'}.jpg"
    answer = {"file": picture.file, "type": picture.content_type, **answer, "name": name}
    if answer.pop("loop", False):
        other = f"http://{HOSTS[(number + 1) % len(HOSTS)]}/round/and/round.jpg"
        back = {"do": "redirect", "status": 302, "location": canonical_url(url)}
        return Address(url, picture, {**answer, "location": other}, expect, more_answers={other: back})
    return Address(url, picture, answer, expect)


def behaviour(addresses: list[Address]) -> dict[str, dict[str, Any]]:
    """behaviour.json's entries by URL; those with `candidate` are in FaceCaption's table.

    Raises:
        ValueError: two addresses are one URL on the wire.
    """
    entries: dict[str, dict[str, Any]] = {}
    for address in addresses:
        own = {**address.answer, "candidate": True, "name": address.behaviour}
        own |= {"expect": address.expect, "decodes": address.picture.decodes if address.expect == "success" else None}
        for url, entry in ((canonical_url(address.url), own), *address.more_answers.items()):
            if url in entries:
                raise ValueError(f"two answers for {url}")
            entries[url] = entry
    return dict(sorted(entries.items()))
