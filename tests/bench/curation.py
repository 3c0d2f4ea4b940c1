"""The curation beside the libraries that it stands on, on the sample's photos."""

from __future__ import annotations

import io
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

from common.decode import Picture, decode
from common.shard_format import write_tar
from curation.calibration.calibrate import ROOT
from curation.recipe import recipe as recipes
from curation.recipe.recipe import Fetch
from curation.run_directory.run import Run
from tests.bench.duel import Bench, duel, seconds
from tests.bench.scoring.photo_run import sample_photos
from tests.world import url_ids


def sample_bytes(count: int = 120) -> list[bytes]:
    """JPEGs of the sample."""
    return [data for data, _ in sample_photos() if data[:3] == b"\xff\xd8\xff"][:count]


def bench_decode(bench: Bench, data: list[bytes]) -> None:
    buffers = [np.frombuffer(item, np.uint8) for item in data]
    times = duel(lambda: [decode(item) for item in data], lambda: [cv2.imdecode(b, cv2.IMREAD_COLOR) for b in buffers])
    bench.rate("decode, safely, upright", "cv2.imdecode, unsafely", len(data), "images", times)


def bench_grayscale(bench: Bench, pictures: list[Picture]) -> None:
    grayscale = sample_recipe().open_filters()["grayscale"]
    for picture in pictures:
        picture.view(256)
    naive = duel(
        lambda: grayscale.score(pictures, {}),
        lambda: [picture.view(256).astype(np.float32).std(axis=2).mean() for picture in pictures],
    )
    bench.rate("grayscale, on a ready view", "std(axis=2).mean()", len(pictures), "images", naive)


def bench_models(bench: Bench, pictures: list[Picture]) -> None:
    """How much of a model filter's time is its network: the limit of everything around it."""
    filters = sample_recipe("filters.drawing={}").open_filters()
    few = pictures[:24]
    sessions = {
        "faces": lambda item: item.model.session,
        "text": lambda item: item.engine.session,
        "drawing": lambda item: item.network,
    }
    for name, session_of in sessions.items():
        item = filters[name]
        item.score(few[:1], {})
        session, spent = session_of(item), [0.0]
        real = session.run

        def timed(*arguments, real=real, spent=spent):
            started = time.perf_counter()
            try:
                return real(*arguments)
            finally:
                spent[0] += time.perf_counter() - started

        session.run = timed
        whole = seconds(lambda item=item: item.score(few, {}))
        session.run = real
        bench.rate(f"{name} filter, whole", "its network alone", len(few), "images", (whole, spent[0]))


def bench_tar(bench: Bench, data: list[bytes]) -> None:
    import webdataset as wds

    samples = [
        (f"{row:016x}", [("jpg", item), ("json", b"{}" * 400), ("txt", b"a face")]) for row, item in enumerate(data)
    ]

    def theirs() -> None:
        writer = wds.TarWriter(io.BytesIO())
        for key, members in samples:
            writer.write({"__key__": key, **dict(members)})
        writer.close()

    megabytes = sum(len(item) for item in data) / 1e6
    bench.rate(
        "shard in memory, indexed",
        "wds.TarWriter",
        megabytes,
        "MB",
        duel(lambda: write_tar(io.BytesIO(), samples), theirs),
    )


def bench_urls(bench: Bench) -> None:
    urls = [f"http://Host{row % 999}.Example.test:80/a/b c/{row}.jpg?x={row}#f" for row in range(100_000)]
    import hashlib
    from urllib.parse import urlsplit

    def plain() -> list[str]:
        found = []
        for url in urls:
            parts = urlsplit(url)
            port = "" if parts.port in (None, 80) else f":{parts.port}"
            normal = f"{parts.scheme}://{parts.hostname}{port}{parts.path}?{parts.query}"
            found.append(hashlib.sha1(normal.encode()).hexdigest()[:16])
        return found

    bench.rate("normalise and hash URLs", "urllib + hashlib", len(urls), "URLs", duel(lambda: url_ids(urls), plain, 3))


class _Pictures(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body = b"\xff\xd8\xff" + bytes(range(256)) * 80

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def bench_fetch(bench: Bench, count: int = 400) -> None:
    """One part through img2dataset and everything around it, beside a bare thread pool of urlopen: same server."""
    from curation.fetch.part import fetch_part
    from tests.curation.fetch.fetch_site import LoopHosts

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pictures)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    settings = Fetch(allow_networks=["127.0.0.0/8"], threads=16, resolve={"*.test:80": f"127.0.0.1:{port}"})
    bare = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            items = [(f"{row:016x}", f"http://pictures.test/{row}.jpg") for row in range(count)]
            assert fetch_part(Run(folder), 0, 0, items, settings, LoopHosts(settings))

    def theirs() -> None:
        with ThreadPoolExecutor(16) as pool:
            urls = [f"http://127.0.0.1:{port}/{row}.jpg" for row in range(count)]
            assert sum(len(body) for body in pool.map(lambda url: bare.open(url).read(), urls))

    try:
        bench.rate("fetch a part, checked and packed", "urlopen alone", count, "images", duel(ours, theirs, rounds=3))
    finally:
        server.shutdown()


def sample_recipe(*changes: str) -> recipes.Recipe:
    return recipes.load(ROOT / "curation" / "recipe" / "sample.yaml", changes)


def bench() -> Bench:
    found = Bench("curation, on this machine, one process")
    data = sample_bytes()
    pictures = [decode(item) for item in data]
    bench_decode(found, data)
    bench_grayscale(found, pictures)
    bench_models(found, pictures)
    bench_tar(found, data)
    bench_urls(found)
    bench_fetch(found)
    return found
