"""The URL as it is sent: http or https only, encoded so that every server reads it the same way."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import idna

from common.http.addresses import FetchFailure

NOT_SENDABLE = re.compile(r"[^!#-;=?-_a-z|~]")  # controls, space, quotes, angle brackets, braces, non-ASCII
JOINERS = "\u200c\u200d"


def request_url(url: str) -> str:
    """The URL as it is sent: no fragment, IDN host in punycode, what cannot be sent percent-encoded as UTF-8.

    What is already encoded, and every other character of path and query, stays byte for byte.

    Raises:
        FetchFailure: `bad_url`, or `refused_scheme` for anything but http and https.
    """
    url = re.sub(r"[\t\r\n]", "", url.strip())
    try:
        parts = urlsplit(url)
        port = parts.port
        host = unquote(parts.hostname or "", errors="strict")
        host = host if host.isascii() else _ascii_host(host)
    except ValueError as error:  # UnicodeError is one
        raise FetchFailure("bad_url", f"{url[:200]}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise FetchFailure("refused_scheme" if parts.scheme else "bad_url", url[:200])
    if not host or port == 0 or "@" in parts.netloc or NOT_SENDABLE.search(host) or re.search(r"[/?#%\\]", host):
        raise FetchFailure("bad_url", url[:200])
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    path = parts.path or "/"
    return f"{parts.scheme}://{netloc}{_encoded(path)}" + (f"?{_encoded(parts.query)}" if parts.query else "")


def _ascii_host(host: str) -> str:
    """The host in punycode as browsers have it: UTS 46 without its transitional mapping, so that `straße` stays itself.

    Raises:
        UnicodeError: a letter or label that UTS 46 does not allow, or one that is too long.
    """
    labels = idna.uts46_remap(host, std3_rules=False).split(".")
    # a label that is ASCII is sent as it stands, an underscore or punycode in it too
    return ".".join(label if label.isascii() else _ascii_label(label) for label in labels)


def _ascii_label(label: str) -> str:
    # what UTS 46 asks of a label. `idna.alabel` would ask IDNA 2008's list of letters as well, which knows no symbols:
    # emoji are in use as names, and browsers open them
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for place, letter in enumerate(label):
        if letter in JOINERS and not idna.valid_contextj(label, place):
            raise idna.InvalidCodepointContext(f"joiner out of place in {label!r}")
    ascii_label = f"xn--{label.encode('punycode').decode()}"
    if len(ascii_label) > 63:
        raise idna.IDNAError(f"more than 63 letters: {ascii_label}")
    return ascii_label


def _encoded(text: str) -> str:
    try:
        return NOT_SENDABLE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
    except UnicodeEncodeError as error:
        raise FetchFailure("bad_url", str(error)) from error
