"""One part of one round: img2dataset's downloader behind the safe opener, and its output as our two files.

img2dataset drops a sample at an exception, calls an HTML page a success and keeps no HTTP status. So its rows are
joined with the opener's records, and every id that went in comes out as exactly one row.
"""

from __future__ import annotations

import io
import os
import tarfile
import urllib.request
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.hashing import sha256_of_bytes, sha256_of_file
from common.http.addresses import AddressBook, FetchFailure
from common.http.client import Attempt, SafeClient
from common.http.opener import SafeOpener, installed
from common.http.urls import request_url
from common.storage import parquet_bytes
from curation.fetch.gate import OptOutGate, SharedState
from curation.recipe.recipe import Fetch
from curation.run_directory.attempts import LOST, images_file, part_name, unit_name
from curation.run_directory.candidates import read_candidates
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT, FETCHED

RETRYABLE = frozenset(  # classes of failures that a later round tries again
    "timeout deadline truncated_body connection dns unreachable lost_by_downloader "
    "http_408 http_429 http_500 http_502 http_503 http_504 asked_to_wait robots_txt_unreachable".split()
)
LOCAL_CAUSES = frozenset({"dns", "unreachable", "tls"})  # more often this side's network than the web's
WORK = "work/fetch"  # of a local run: unfinished downloads, emptied when a fetch starts


Row = dict[str, Any]  # of the table of attempts, by its columns (schemas.ATTEMPT)


class Member(NamedTuple):
    """Where an image's bytes are in a tar, and their hash."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class PartSummary:
    """What became of a part: attempts by class ("success", or the error), the failed ids with their class, the bytes
    fetched, and hosts with a local cause as examples, {host: what happened}."""

    counts: dict[str, int]
    failures: dict[str, str]
    bytes: int
    examples: dict[str, str]

    @classmethod
    def of(cls, table: pa.Table) -> PartSummary:
        """Of a part's table of attempts."""
        failures: dict[str, str] = {}
        examples: dict[str, str] = {}
        columns = (table[name].to_pylist() for name in ("id", "url", "error", "detail"))
        for identifier, url, error, detail in zip(*columns, strict=True):
            if error is not None:
                failures[identifier] = error
                if error in LOCAL_CAUSES or error == LOST:
                    examples.setdefault(_host(url), f"{error}: {detail}" if detail else error)
        counts = Counter(error or "success" for error in table["error"].to_pylist())
        size = sum(table["size"].drop_null().to_pylist())
        return cls(dict(counts), failures, size, dict(list(examples.items())[:5]))


def fetch_part(
    run: Run, round_number: int, part: int, items: list[tuple[str, str]], settings: Fetch, hosts: SharedState
) -> PartSummary:
    """Download `items`, (id, url) in id order, and commit PART-HASH.tar, the table of its images and then PART.parquet,
    which names it.

    HASH is of the tar's content: a task that was thought dead and comes back cannot put its tar under the rows of
    another. `settings.resolve` is the whole resolve map; `hosts` is shared by all parts of a fetch. Raises what the disk,
    the run's file system or img2dataset raise, and then has committed nothing.
    """
    name = part_name(round_number, part)
    if run.exists(f"{name}.parquet"):  # a task that Ray tries again though it was through
        return PartSummary.of(run.read_table(f"{name}.parquet", ATTEMPT.names))
    with run.scratch(WORK, f"{unit_name(round_number, part)}-") as folder:
        sendable, rows = _sendable(items)
        book = AddressBook(settings.resolve, settings.allow_networks)
        client = SafeClient(book, OptOutGate(hosts, book, settings), settings.max_bytes)
        opener = SafeOpener(client, settings.deadline)
        log = _download(folder, part, sendable, settings, opener)
        downloaded, members = _read_back(folder, part)
        for identifier, _ in sendable:
            row = _row(downloaded.get(identifier), opener.records.get(identifier), members)
            if row["error"] == LOST:
                row["detail"] = log[-300:] or None
            rows[identifier] = row
        tar = folder / f"{part:05d}.tar"
        named = f"{name}-{sha256_of_file(tar)[:16]}.tar"
        for row in rows.values():
            row["tar"] = named if row.get("key") else None
        table = _table(rows, items, round_number, part)
        run.put_file(tar, named)
        run.write_table(images_file(named), _images(run, table))
    return _commit(run, name, table)


def _images(run: Run, attempts: pa.Table) -> pa.Table:
    """What was fetched, beside what the sources say of it: all that the later steps ask about a unit's images."""
    fetched = attempts.filter(pc.is_null(attempts["error"]))
    rows = read_candidates(run, fetched["id"].to_pylist())
    for name in ("offset", "size", "sha256"):
        rows = rows.append_column(FETCHED.field(name), fetched[name])
    return rows


def _commit(run: Run, name: str, table: pa.Table) -> PartSummary:
    """Of the part's rows: these, or those of another task that was faster."""
    if not run.write_new(f"{name}.parquet", parquet_bytes(table)):
        table = run.read_table(f"{name}.parquet", ATTEMPT.names)
    return PartSummary.of(table)


def lost_part(run: Run, round_number: int, part: int, items: list[tuple[str, str]], why: str) -> PartSummary:
    """Commit a part whose task failed as a whole: every id is `lost_by_downloader`."""
    rows = {identifier: {"error": LOST, "detail": why[-300:]} for identifier, _ in items}
    return _commit(run, part_name(round_number, part), _table(rows, items, round_number, part))


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url[:80]
    except ValueError:
        return url[:80]


def _sendable(items: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], dict[str, Row]]:
    """(id, URL as sent) of what can be sent at all, and rows for the rest."""
    sendable, rows = [], {}
    for identifier, url in items:
        try:
            sendable.append((identifier, request_url(url)))
        except FetchFailure as failure:
            rows[identifier] = {"error": failure.error, "detail": failure.detail or None}
    return sendable, rows


def _download(
    folder: Path, part: int, items: list[tuple[str, str]], settings: Fetch, opener: urllib.request.OpenerDirector
) -> str:
    """Run img2dataset's downloader: PART.tar and PART.parquet in `folder`. Returns what it printed."""
    if not items:
        with tarfile.open(folder / f"{part:05d}.tar", "w"):
            return ""
    # its imports telephone home unless told not to
    os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="disabled")
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), installed(opener):
        from img2dataset import downloader, resizer, writer

        shard = folder / "shard.feather"
        table = pa.table(
            {"url": [f"{url}#{identifier}" for identifier, url in items], "id": [identifier for identifier, _ in items]}
        )
        with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        downloader.Downloader(
            writer.WebDatasetSampleWriter,
            resizer.Resizer(image_size=256, resize_mode="no", resize_only_if_bigger=False, disable_all_reencoding=True),
            thread_count=settings.threads,
            save_caption=False,
            extract_exif=False,
            output_folder=str(folder),
            column_list=["url", "id"],
            timeout=settings.timeout,
            number_sample_per_shard=settings.part_size,
            oom_shard_count=5,
            compute_hash=None,
            verify_hash_type=None,
            encode_format="jpg",
            retries=0,
            user_agent_token=settings.user_agent_token,
            disallowed_header_directives=None,  # the gate reads X-Robots-Tag: img2dataset's way misses most forms
        ).download_shard((part, str(shard)))
    return printed.getvalue()


def _read_back(folder: Path, part: int) -> tuple[dict[str, dict[str, Any]], dict[str, Member]]:
    """img2dataset's rows by id, and the members of the tar by key."""
    members = {}
    path = folder / f"{part:05d}.tar"
    with tarfile.open(path, "r:") as tar, open(path, "rb") as file:
        for member in tar:
            key, _, ending = member.name.rpartition(".")
            if ending == "jpg":
                file.seek(member.offset_data)
                digest = sha256_of_bytes(file.read(member.size))
                members[key] = Member(member.offset_data, member.size, digest)
    table = folder / f"{part:05d}.parquet"
    columns = ["id", "key", "status", "error_message"]
    rows = pq.read_table(table, columns=columns).to_pylist() if table.exists() else []
    return {row["id"]: row for row in rows}, members


def _row(downloaded: dict[str, Any] | None, attempt: Attempt | None, members: dict[str, Member]) -> Row:
    """One id's row out of img2dataset's row, the opener's record and the tar's members."""
    record = attempt or Attempt()
    row = {
        "http_status": record.http_status,
        "final_url": record.final_url,
        "bytes": record.bytes,
        "sha256": record.sha256,
        "seconds": record.seconds,
        "error": record.error,
        "detail": record.detail,
    }
    if record.error:
        return row
    message = (downloaded or {}).get("error_message")
    if downloaded is None:
        row["error"] = LOST
    elif message:
        row |= {"error": "other", "detail": message[:300]}
    else:
        member = members.get(downloaded["key"])
        if member is None or member.sha256 != record.sha256:  # what is in the tar is not what came over the network
            row["error"] = LOST
        else:
            row |= {"key": downloaded["key"], "offset": member.offset, "size": member.size}
    return row


def _table(rows: dict[str, Row], items: list[tuple[str, str]], round_number: int, part: int) -> pa.Table:
    complete = [
        {
            **rows[identifier],
            "id": identifier,
            "url": url,
            "round": round_number,
            "part": part,
            "status": "failed" if rows[identifier].get("error") else "success",
        }
        for identifier, url in items
    ]
    return pa.Table.from_pylist(complete, schema=ATTEMPT)
