"""References from a list of URLs, e.g. of Unsplash-Face: fetched by the safe client, never from a private network.

The list is a text file with a URL a line, or a CSV file whose first line names its columns: `url`, and of `name`, `words`,
`person` and `licence` those that there are. A list is somebody's choice: neither robots.txt nor the opt-outs of
an answer's headers, which `curate` obeys, are asked.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.hashing import sha256_of_bytes, sha256_of_file
from common.http.addresses import AddressBook, FetchFailure
from common.http.client import SafeClient
from common.http.opener import SafeOpener
from common.local_files import new_file
from common.version import VERSION
from evaluation.builders.candidates import Candidate, Candidates
from evaluation.manifest import LeftOut, read_manifest
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
    columns = [name.strip().lower() for name in next(csv.reader(lines[:1]), [])]
    if "url" in columns:
        read = csv.DictReader(lines[1:], columns)
        rows = [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in read]
    elif lines and (file.suffix.lower() == ".csv" or len(columns) > 1 and "://" not in lines[0]):
        raise SetError(
            f"{file}: its first line names no column `url`, but {lines[0]!r}: name them, with commas, of {', '.join(COLUMNS)}"
        )
    else:
        rows = [dict.fromkeys(COLUMNS, "") | {"url": line} for line in lines]
    rows = [row for row in rows if row["url"]]
    if not rows:
        raise SetError(f"{file}: holds no URL: write one a line, or CSV with the columns {', '.join(COLUMNS)}")
    return rows


class Kept:
    """Photos of URLs that need not be fetched again: of the set as it was built before, and of a build that was interrupted.

    `out`: the folder that is built; `folder`: where photos are kept until it is.
    """

    def __init__(self, out: Path, folder: Path):
        manifest = read_manifest(out)
        self._rows = {row.url: row for row in manifest.references if row.url} if manifest else {}
        self._out, self._folder = out, folder

    def read(self, url: str) -> bytes | None:
        for file in filter(None, (self._of_the_set(url), self._place(url))):
            if file.is_file():
                return file.read_bytes()
        return None

    def keep(self, url: str, data: bytes) -> None:
        with new_file(self._place(url)) as file:
            file.write(data)

    def _of_the_set(self, url: str) -> Path | None:
        """A file that was changed since is none of the URL's."""
        row = self._rows.get(url)
        file = self._out / row.file if row else None
        return file if file and file.is_file() and sha256_of_file(file) == row.sha256 else None

    def _place(self, url: str) -> Path:
        return self._folder / sha256_of_bytes(url.encode())[:32]


def from_urls(rows: Iterable[dict[str, str]], kept: Kept, opener: SafeOpener | None = None) -> Candidates:
    """The photo of each row, in their order, or why it could not be had. Only what is not `kept` is fetched."""
    opener = opener or SafeOpener(SafeClient(AddressBook()))

    def fetched(row: dict[str, str]) -> Candidate | LeftOut:
        import urllib.request

        url = row["url"]
        data = kept.read(url)
        if data is None:
            try:
                with opener.open(urllib.request.Request(url, headers=AGENT)) as answer:
                    data = answer.read()
            except (FetchFailure, ValueError) as failure:
                return LeftOut(name=url, reason=str(failure).partition("; `fetch.")[0])
            kept.keep(url, data)
        key = row["name"] or sha256_of_bytes(url.encode())[:16]
        return Candidate(key, data, row["words"], row["person"], url=url, licence=row["licence"])

    with ThreadPoolExecutor(AT_ONCE) as requests:
        yield from requests.map(fetched, rows)
