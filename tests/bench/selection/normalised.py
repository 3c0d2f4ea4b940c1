"""The normalisation of URLs written out in Python, and URLs of every kind to try it on."""

from __future__ import annotations

import hashlib
import random
import re

PARTS = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#@]*)@)?(\[[^\]]*\]|[^/?#:@]*)(?::([0-9]*))?([/?][^#]*)?(?:#.*)?"
)
DEFAULT_PORTS = {"http": "80", "https": "443"}


def normalised(url: str) -> str | None:
    """Scheme and host in lower case, no default port, no fragment; None where it is no URL."""
    match = PARTS.fullmatch(url)
    if not match or not match[3]:
        return None
    scheme, login, host, port, rest = (part or "" for part in match.groups())
    scheme = scheme.lower()
    port = f":{port}" if port and port != DEFAULT_PORTS.get(scheme) else ""
    return f"{scheme}://{login + '@' if login else ''}{host.lower()}{port}{rest}"


def image_id(url: str) -> str | None:
    """The id that the first 16 digits of the hash are."""
    normal = normalised(url)
    return None if normal is None else hashlib.sha1(normal.encode()).hexdigest()[:16]


def urls_of_every_kind(count: int, seed: int = 0) -> list[str]:
    """Most as they are in the real table, some as nobody would write them, a few that are none."""
    draw, found = random.Random(seed), []
    for number in range(count):
        scheme = draw.choice(["http", "https", "https", "HTTP", "Https", "ftp"])
        login = draw.choice([""] * 9 + ["user@", "User:Pa%20ss@"])
        host = draw.choice(
            [
                f"host{number % 997}.example.com",
                f"Images-{number % 91}.Example.ORG",
                "[2001:DB8::1]",
                "bücher.example",
                "10.0.0.1",
            ]
        )
        port = draw.choice([""] * 6 + [":80", ":443", ":8080", ":"])
        path = draw.choice(
            [
                f"/a/{number}.jpg",
                f"/A b/%C3%A9/ü-{number}.JPG",
                f"/{number},{number}.png",
                "",
                "/",
                f"//x/{number}.jpg?w=1,2",
            ]
        )
        query = draw.choice([""] * 5 + [f"?Q={number}&x=a/b", "?", f"?u=http://other.example:80/{number}"])
        fragment = draw.choice([""] * 6 + ["#top", "#", "#a#b/?"])
        url = f"{scheme}://{login}{host}{port}{path}{query}{fragment}"
        broken = [url.replace("://", ":/"), f"//{host}{path}", str(number), "http://", "://a.test/x"]
        found.append(url if draw.random() < 0.97 else draw.choice(broken))
    return found
