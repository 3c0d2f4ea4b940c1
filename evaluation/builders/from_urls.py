"""References from a list of URLs, e.g. of Unsplash-Face: fetched by the safe client, never from a private network.

The list is a text file with a URL a line, or a CSV file whose first line names its columns: `url`, and of `name`, `words`,
`person` and `licence` those that there are. A list is somebody's choice: robots.txt is not asked.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.hashing import sha256_of_bytes
from common.http.addresses import AddressBook, FetchFailure
from common.http.client import SafeClient
from common.http.opener import SafeOpener
from common.version import VERSION
from evaluation.builders.candidates import Candidate, Candidates
from evaluation.manifest import LeftOut
from evaluation.sets import SetError

COLUMNS = ("url", "name", "words", "person", "licence")
AT_ONCE = 4  # requests; a list is often of one host
AGENT = {"User-Agent": f"facemakeup/{VERSION} (test set of an evaluation)"}


def read_list(file: Path) -> list[dict[str, str]]:
    """The rows of a list: `url` and what else it says.

    Raises:
        SetError: it cannot be read, or holds no URL.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise SetError(f"{file}: cannot be read: {error}") from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and "url" in lines[0].split(","):
        rows = [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in csv.DictReader(lines)]
    else:
        rows = [dict.fromkeys(COLUMNS, "") | {"url": line} for line in lines]
    rows = [row for row in rows if row["url"]]
    if not rows:
        raise SetError(f"{file}: holds no URL: write one a line, or CSV with the columns {', '.join(COLUMNS)}")
    return rows


def from_urls(rows: Iterable[dict[str, str]], opener: SafeOpener | None = None) -> Candidates:
    """The photo of each row, in their order, or why it could not be had."""
    opener = opener or SafeOpener(SafeClient(AddressBook()))

    def fetched(row: dict[str, str]) -> Candidate | LeftOut:
        import urllib.request

        try:
            with opener.open(urllib.request.Request(row["url"], headers=AGENT)) as answer:
                data = answer.read()
        except (FetchFailure, ValueError) as failure:
            return LeftOut(name=row["url"], reason=str(failure).partition("; `fetch.")[0])
        key = row["name"] or sha256_of_bytes(row["url"].encode())[:16]
        return Candidate(key, data, row["words"], row["person"], url=row["url"], licence=row["licence"])

    with ThreadPoolExecutor(AT_ONCE) as requests:
        yield from requests.map(fetched, rows)
