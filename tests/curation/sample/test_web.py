"""The loopback web behaves as badly as it says, by real requests to 127.0.0.1."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from curation.sample.web import ENDLESS_BYTES, LocalWeb, RequestLog, canonical_url

BODY = bytes(range(256)) * 40
ENTRY = {"file": "photos/a.jpg", "type": "image/jpeg"}
BEHAVIOUR = {
    "fine.jpg": {"do": "file"},
    "gone.jpg": {"do": "status", "status": 404},
    "busy.jpg": {"do": "status", "status": 503, "heals_at": 3, "headers": {"Retry-After": "1"}},
    "late.jpg": {"do": "silent", "heals_at": 2},
    "moved.jpg": {"do": "redirect", "status": 301, "location": "http://b.test/fine.jpg"},
    "html.jpg": {"do": "html"},
    "empty.jpg": {"do": "empty"},
    "cut.jpg": {"do": "cut"},
    "drip.jpg": {"do": "drip"},
    "huge.jpg": {"do": "huge"},
    "endless.jpg": {"do": "endless"},
    "chunked.jpg": {"do": "chunked"},
    "reset.jpg": {"do": "reset"},
    "noai.jpg": {"do": "file", "headers": {"X-Robots-Tag": "noai"}},
    "typeless.jpg": {"do": "file", "type": None},
    "two%20words/caf%C3%A9.jpg?q=sch%C3%B6n&n=1": {"do": "file"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(BODY)
    urls = {f"http://a.test/{path}": {**ENTRY, **entry} for path, entry in BEHAVIOUR.items()}
    (tmp_path / "behaviour.json").write_text(json.dumps({"urls": urls}))
    return tmp_path


@pytest.fixture
def web(folder: Path) -> Iterator[LocalWeb]:
    with LocalWeb(folder) as running:
        yield running


def get(web: LocalWeb, url: str, timeout: float = 5) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=timeout)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", path, headers={"Host": parts.netloc})
    return connection.getresponse()


def test_a_picture(web: LocalWeb) -> None:
    answer = get(web, "http://a.test/fine.jpg")
    assert (answer.status, answer.headers["Content-Type"], answer.read()) == (200, "image/jpeg", BODY)
    assert get(web, "http://A.TEST:80/fine.jpg").read() == BODY
    assert get(web, "http://b.test/fine.jpg").status == 404, "another host, another web"
    assert web.request_log.counts == {"http://a.test/fine.jpg": 2, "http://b.test/fine.jpg": 1}


@pytest.mark.parametrize(
    "path", ["two%20words/caf%C3%A9.jpg?q=sch%C3%B6n&n=1", "two%20words/caf%c3%a9.jpg?q=sch%c3%b6n&n=1"]
)
def test_percent_encoded_urls(web: LocalWeb, path: str) -> None:
    assert get(web, f"http://a.test/{path}").read() == BODY


def test_an_unencoded_path_is_refused(web: LocalWeb) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as raw:
        raw.sendall("GET /two%20words/café.jpg HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_statuses_and_headers(web: LocalWeb) -> None:
    assert get(web, "http://a.test/gone.jpg").status == 404
    moved = get(web, "http://a.test/moved.jpg")
    assert (moved.status, moved.headers["Location"]) == (301, "http://b.test/fine.jpg")
    assert get(web, "http://a.test/noai.jpg").headers["X-Robots-Tag"] == "noai"
    assert get(web, "http://a.test/typeless.jpg").headers["Content-Type"] is None
    page = get(web, "http://a.test/html.jpg")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html")
    assert page.read().startswith(b"<!DOCTYPE html>")
    assert (get(web, "http://a.test/empty.jpg").status, get(web, "http://a.test/empty.jpg").read()) == (200, b"")


def test_it_heals_at_the_third_request(web: LocalWeb) -> None:
    answers = [get(web, "http://a.test/busy.jpg") for _ in range(4)]
    assert [answer.status for answer in answers] == [503, 503, 200, 200]
    assert answers[0].headers["Retry-After"] == "1"


def test_silence_then_a_picture(web: LocalWeb) -> None:
    with pytest.raises(TimeoutError):
        get(web, "http://a.test/late.jpg", timeout=0.3)
    assert get(web, "http://a.test/late.jpg").read() == BODY


def test_bodies_that_go_wrong(web: LocalWeb) -> None:
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(web, "http://a.test/cut.jpg").read()
    assert len(cut.value.partial) == len(BODY) // 2
    assert get(web, "http://a.test/chunked.jpg").read() == BODY
    assert int(get(web, "http://a.test/huge.jpg").headers["Content-Length"]) == 50 << 30
    with pytest.raises(ConnectionResetError):
        get(web, "http://a.test/reset.jpg")


def test_a_body_that_drips(web: LocalWeb) -> None:
    answer, started = get(web, "http://a.test/drip.jpg"), time.monotonic()
    assert answer.read(4) == BODY[:4]
    assert 0.8 < time.monotonic() - started < 3


def test_a_body_without_an_end(web: LocalWeb) -> None:
    answer = get(web, "http://a.test/endless.jpg")
    assert answer.headers["Content-Length"] is None
    assert len(answer.read(6_000_000)) == 6_000_000 < ENDLESS_BYTES
    answer.close()


def test_resolve_sends_hosts_here_and_one_nowhere(web: LocalWeb) -> None:
    assert list(web.resolve) == ["down.test:80", "*.test:80"], "the more specific one first"
    assert web.resolve["*.test:80"] == f"127.0.0.1:{web.port}"
    host, port = web.resolve["down.test:80"].split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=2)


def test_the_journal_survives_a_restart(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "deep" / "web-journal"
    with LocalWeb(folder, state) as first:
        assert get(first, "http://a.test/busy.jpg").status == 503
    with open(state, "ab") as file:
        file.write(b"http://a.test/bu")  # killed while writing
    with LocalWeb(folder, state) as second:
        assert get(second, "http://a.test/busy.jpg").status == 503
        assert get(second, "http://a.test/busy.jpg").status == 200
    assert RequestLog(state).counts == {"http://a.test/busy.jpg": 3}
    with LocalWeb(folder) as third:
        assert get(third, "http://a.test/busy.jpg").status == 503, "without a state, each starts afresh"


def test_it_closes_at_once_while_connections_hang(folder: Path) -> None:
    with LocalWeb(folder) as web:
        hanging = []
        for _ in range(100):  # more than it has threads for
            connection = socket.create_connection(("127.0.0.1", web.port))
            connection.sendall(b"GET /drip.jpg HTTP/1.1\r\nHost: a.test\r\n\r\n")
            hanging.append(connection)
        time.sleep(0.5)
        assert threading.active_count() < 90
        started = time.monotonic()
    assert time.monotonic() - started < 2
    for connection in hanging:
        connection.close()


def test_a_missing_sample_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), LocalWeb(tmp_path):
        pass


@pytest.mark.parametrize(
    ("url", "one"),
    [
        ("HTTP://A.Test:80/x y.jpg#face", "http://a.test/x%20y.jpg"),
        ("http://a.test/größe/é.jpg?q=schön l&n=1", "http://a.test/gr%C3%B6%C3%9Fe/%C3%A9.jpg?q=sch%C3%B6n%20l&n=1"),
        ("http://a.test/gr%c3%b6%C3%9fe/(a)+b,c.jpg", "http://a.test/gr%C3%B6%C3%9Fe/%28a%29%2Bb%2Cc.jpg"),
        ("http://a.test:8080", "http://a.test:8080/"),
    ],
)
def test_canonical_url(url: str, one: str) -> None:
    assert canonical_url(url) == one == canonical_url(one)
