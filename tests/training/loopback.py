"""A folder on a web server on 127.0.0.1, which can be slow, fail for a while, or give something else."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Server(ThreadingHTTPServer):
    """`asked`: GETs by file name; `pause`: seconds before each 64 KiB of a tar; `fail`: {name: how often it answers 503};
    `damaged`: {name: other bytes}; `ranges`, `lists`: what it can do."""

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Files)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: Counter[str] = Counter()
        self.pause, self.ranges, self.lists = 0.0, True, True
        self.fail: Counter[str] = Counter()
        self.damaged: dict[str, bytes] = {}

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


class Files(SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, request, address, server):
        super().__init__(request, address, server, directory=str(server.folder))

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if not name and self.server.lists:
            super().do_GET()
            return
        self.server.asked[name] += 1
        path = self.server.folder / name
        if self.server.fail[name] > 0:
            self.server.fail[name] -= 1
            self.send_error(503)
            return
        if not name or not path.is_file():
            self.send_error(404)
            return
        data = self.server.damaged.get(name, path.read_bytes())
        matched = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if matched and self.server.ranges:
            first, last = int(matched[1]), min(int(matched[2] or len(data)), len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for start in range(0, len(data), 1 << 16):
            if name.endswith(".tar"):
                time.sleep(self.server.pause)
            self.wfile.write(data[start : start + (1 << 16)])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
