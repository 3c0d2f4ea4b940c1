"""A run with selected images whose server is on 127.0.0.1, and what became of each of them."""

from __future__ import annotations

import pyarrow as pa

from curation.recipe.recipe import Recipe, parse
from curation.run_directory.run import Run
from tests.loopback_web import JPEG, Server, Web


class Site(Web):
    """`pages`: path -> function of the how-manieth request this is -> (status, body, headers)."""

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        page = self.server.pages.get(self.path, lambda nth: (200, JPEG + self.path.encode(), {}))
        status, body, headers = page(self.server.seen.count(self.path))
        self.answer(status, body, **headers)


def ident(number: int) -> str:
    return f"{number:016x}"


def select(run: Run, urls: list[str], wanted: int | None = None, ranks: list[int] | None = None) -> None:
    """selected/ in two buckets, as `select` leaves it; the id of urls[i] is ident(i)."""
    ranks = ranks or list(range(len(urls)))
    table = pa.table({"id": [ident(i) for i in range(len(urls))], "url": urls, "rank": pa.array(ranks, pa.int64())})
    half = len(urls) // 2
    run.write_table("selected/00.parquet", table.slice(0, half))
    run.write_table("selected/01.parquet", table.slice(half))
    counts = {"wanted": wanted or len(urls), "selected": len(urls), "key": "box_min_side", "cutoff": 1.0}
    run.write_json("selected/counts.json", counts)


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
