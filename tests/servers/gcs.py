"""A server of Google's storage on 127.0.0.1, as far as `Storage` needs one: objects, listings, writes that only one wins."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import gcsfs
import pytest


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    lock: threading.Lock

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        asked, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        _, _, name = asked.path.partition("/o/")
        if name and unquote(name) not in self.objects:
            self._answer(404, b"{}")
        elif name and "/download/" in asked.path:
            data = self.objects[unquote(name)]
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                self._answer(206, data[int(found[1]) : int(found[2] or len(data)) + 1])
            else:
                self._answer(200, data)
        elif name:
            self._answer(200, self._describe(unquote(name)))
        elif asked.path.endswith("/o"):
            prefix, cut = query.get("prefix", [""])[0], "delimiter" in query
            below = [key for key in sorted(self.objects) if key.startswith(prefix)]
            deeper = {prefix + key[len(prefix) :].partition("/")[0] + "/" for key in below if "/" in key[len(prefix) :]}
            items = [key for key in below if not (cut and "/" in key[len(prefix) :])]
            self._answer(
                200, {"items": [self._describe(key) for key in items], "prefixes": sorted(deeper) if cut else []}
            )
        else:
            self._answer(200, {"kind": "storage#bucket", "name": asked.path.rpartition("/")[2]})

    def do_POST(self) -> None:
        body, query = self.rfile.read(int(self.headers["Content-Length"])), parse_qs(urlsplit(self.path).query)
        boundary = re.search(r"boundary=[\"']?([^\"';]+)", self.headers["Content-Type"])[1].encode()
        _, described, data, *_ = body.split(b"--" + boundary)
        name = json.loads(described.partition(b"\n\n")[2] or described.partition(b"\r\n\r\n")[2])["name"]
        separator = b"\r\n\r\n" if b"\r\n\r\n" in data else b"\n\n"
        data = data.partition(separator)[2].removesuffix(b"\n").removesuffix(b"\r")
        with self.lock:
            if query.get("ifGenerationMatch") == ["0"] and name in self.objects:
                return self._answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
            self.objects[name] = data
        return self._answer(200, self._describe(name))

    def do_DELETE(self) -> None:
        self.objects.pop(unquote(urlsplit(self.path).path.partition("/o/")[2]))
        self._answer(204, b"")

    def _describe(self, name: str) -> dict[str, str]:
        return {"name": name, "bucket": "b", "size": str(len(self.objects[name])), "generation": "1"}

    def _answer(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def gcs_bucket() -> Iterator[dict[str, bytes]]:
    """This process's gs:// leads to an empty server, whose bucket is "b"; gives its objects."""
    objects: dict[str, bytes] = {}
    handler = type("Handler", (_Handler,), {"objects": objects, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        gcsfs.GCSFileSystem.clear_instance_cache()
        try:
            yield objects
        finally:
            server.shutdown()
            server.server_close()
            gcsfs.GCSFileSystem.clear_instance_cache()
