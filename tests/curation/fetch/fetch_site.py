"""A run with selected images whose server is on 127.0.0.1, and what became of each of them."""

from __future__ import annotations

import asyncio
import threading
import time

import pyarrow as pa

from curation.fetch.hosts import Hosts
from curation.recipe.recipe import Fetch, Recipe, parse
from curation.run_directory.run import Run
from curation.run_directory.schemas import CANDIDATE
from tests.servers.loopback_web import JPEG, Server, Web

RULES = ("/robots.txt", "/.well-known/tdmrep.json")


class Site(Web):
    """`pages`: path, or host and path -> function of the how-manieth request this is -> (status, body, headers).

    `seen`: the paths asked for, without those of `RULES`, which are in `rules_seen` with their hosts. `asked`: of every
    request when it came, its host and its headers. `most_at_once`: by host, of requests.
    """

    def do_GET(self) -> None:
        server, host, is_rules = self.server, self.headers["Host"], self.path in RULES
        with server.counting:
            server.asked.append((time.monotonic(), host, self.headers))
            server.at_once[host] += 1
            server.most_at_once[host] = max(server.most_at_once[host], server.at_once[host])
            if is_rules:
                server.rules_seen.append((host, self.path))
            else:
                server.seen.append(self.path)
        default = (404, b"", {}) if is_rules else (200, JPEG + self.path.encode(), {})
        page = server.pages.get(host + self.path) or server.pages.get(self.path, lambda nth: default)
        status, body, headers = page(server.seen.count(self.path))
        with server.counting:
            server.at_once[host] -= 1
        self.answer(status, body, **headers)


class LoopHosts:
    """The hosts' state in a thread of this process, as the Ray actor has it."""

    def __init__(self, settings: Fetch) -> None:
        self.hosts = Hosts(settings.host_connections, settings.deadline + 10, settings.longest_pause)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, name: str):
        method = getattr(self.hosts, name)
        return lambda *arguments: asyncio.run_coroutine_threadsafe(method(*arguments), self.loop).result()


def ident(number: int) -> str:
    return f"{number:016x}"


def select(run: Run, urls: list[str], wanted: int | None = None, ranks: list[int] | None = None) -> None:
    """candidates/ and, in two buckets, selected/, as `select` leaves them; the id of urls[i] is ident(i)."""
    ranks = ranks or list(range(len(urls)))
    table = pa.table({"id": [ident(i) for i in range(len(urls))], "url": urls, "rank": pa.array(ranks, pa.int64())})
    half = len(urls) // 2
    run.write_table("selected/00.parquet", table.slice(0, half))
    run.write_table("selected/01.parquet", table.slice(half))
    counts = {"candidates": len(urls), "wanted": wanted or len(urls), "selected": len(urls), "digest": ""}
    run.write_json("selected/counts.json", {**counts, "key": "box_min_side", "rank_over": "available", "cutoff": 1.0})
    faces = [
        [{"box": [0, 0, 9, 9], "caption": f"face of {text}", "source_id": text}] for text in table["id"].to_pylist()
    ]
    rows = [{**row, "faces": face} for row, face in zip(table.to_pylist(), faces, strict=True)]
    run.write_table("candidates/00000.parquet", pa.Table.from_pylist(rows, schema=CANDIDATE))
    run.write_json("candidates/counts.json", {"buckets": 1})


def recipe_for(site: Server | None, rank_over: str = "available", **options) -> Recipe:
    settings = {"part_size": 4, "timeout": 3, "threads": 4, "allow_networks": ["127.0.0.0/8"], **options}
    if site:
        settings = {"resolve": {f"*.test:{port}": f"127.0.0.1:{site.server_port}" for port in (80, 443)}, **settings}
    tree = {"name": "t", "sources": {"facecaption": ["x"]}, "select": {"count": 1, "rank_over": rank_over}}
    return parse({**tree, "fetch": settings})


def photos(count: int) -> list[str]:
    return [f"http://photos.test/{i}.jpg" for i in range(count)]


def rounds_of(run: Run) -> dict[str, list[tuple[int, str]]]:
    """id -> (round, class) of each attempt, in order."""
    table = run.read_tables("fetched/[0-9]*/[0-9]*.parquet", ["id", "round", "error"])
    found: dict[str, list[tuple[int, str]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["id"], []).append((row["round"], row["error"] or "success"))
    return found
