"""How each request of the opener ends, and where redirects lead. Only 127.0.0.1 is ever reached."""

from __future__ import annotations

import datetime
import resource
import socket
import ssl
import time
import urllib.request

import pytest

from common.hashing import sha256_of_bytes
from common.http.addresses import AddressBook
from common.http.client import SafeClient
from common.http.connection import tls_context
from common.http.opener import SafeOpener, installed
from tests.servers.loopback_web import JPEG, LOOPBACK, get, opener_for, serving


@pytest.fixture
def web():
    with serving() as server:
        yield server


# -- how a request ends -----------------------------------------------------------------------------------------------


def test_a_success_is_recorded(web):
    body, record = get(opener_for(web), "http://photos.test/a/picture?x=1")
    assert body == JPEG
    assert (record.http_status, record.final_url) == (200, "http://photos.test/a/picture?x=1")
    assert (record.bytes, record.sha256) == (len(JPEG), sha256_of_bytes(JPEG))
    assert record.error is None and 0 < record.seconds < 2
    ((path, headers),) = web.seen
    assert path == "/a/picture?x=1" and headers["Host"] == "photos.test"
    assert headers["Accept-Encoding"] == "identity"


def test_chunks_are_read(web):
    body, record = get(opener_for(web), "http://photos.test/chunked")
    assert body == JPEG and record.bytes == len(JPEG)


def test_a_content_encoding_is_undone(web):
    body, record = get(opener_for(web), "http://photos.test/gzip")
    assert body == JPEG and record.bytes == len(JPEG) and record.sha256 == sha256_of_bytes(JPEG)


def test_what_the_socket_gives_counts_whatever_the_framing_says(web):
    """A chunk of size -1 makes http.client read to the end, which this server never reaches."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, record = get(opener_for(web, max_bytes=500_000, deadline=5), "http://photos.test/negative_chunk")
    assert record.error == "too_many_bytes" and record.seconds < 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


@pytest.mark.parametrize(
    ("path", "error", "status"),
    [
        ("404", "http_404", 404), ("503", "http_503", 503), ("304", "http_304", 304), ("302", "http_302", 302),
        ("html", "not_an_image", 200), ("empty", "empty_body", 200), ("204", "empty_body", 204),
        ("truncated", "truncated_body", 200), ("half_chunk", "truncated_body", 200), ("huge", "too_many_bytes", 200),
        ("endless", "too_many_bytes", 200), ("negative_chunk", "too_many_bytes", 200), ("bomb", "too_many_bytes", 200),
        ("zstd", "http_protocol", 200),
        ("nonsense", "http_protocol", None), ("reset", "connection", None),
        ("loop", "too_many_redirects", 301),
    ],
)  # fmt: skip
def test_how_an_answer_fails(web, path, error, status):
    body, record = get(opener_for(web, max_bytes=500_000), f"http://photos.test/{path}")
    assert body is None
    assert (record.error, record.http_status) == (error, status)
    if path == "huge":  # not a byte is read of what announces itself as too large
        assert record.bytes is None
    if path == "endless":
        assert record.bytes <= 500_000 + (1 << 16)
    if path == "bomb":  # of 100 MB, a little more than allowed is ever in memory
        assert record.bytes <= 500_000 + (1 << 20)
    if path == "zstd":
        assert record.detail == "Content-Encoding zstd cannot be undone here"
    if path == "loop":
        assert len(web.seen) == 11


@pytest.mark.parametrize("path", ["dripping", "dripping_header"])
def test_the_deadline_holds_against_a_server_that_drips(web, path):
    started = time.monotonic()
    _, record = get(opener_for(web, deadline=0.4), f"http://photos.test/{path}", timeout=2)
    assert record.error == "deadline"
    assert 0.35 < time.monotonic() - started < 1.2
    assert record.seconds == pytest.approx(0.4, abs=0.3)


def test_a_silent_server_is_a_timeout(web):
    started = time.monotonic()
    _, record = get(opener_for(web), "http://photos.test/silent", timeout=0.3)
    assert record.error == "timeout" and time.monotonic() - started < 1.2


def test_the_deadline_is_over_all_redirects(web):
    _, record = get(opener_for(web, deadline=0.3), "http://photos.test/to?/silent", timeout=5)
    assert record.error == "deadline"


def test_the_opt_out_header_reaches_img2dataset_before_the_body(web):
    with installed(opener_for(web)) as _, urllib.request.urlopen("http://photos.test/noai", timeout=2) as response:
        assert response.headers.get_all("X-Robots-Tag", []) == ["noai"]


def test_no_cookies_and_no_proxy(web, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    opener = opener_for(web)
    assert get(opener, "http://photos.test/noai")[0] == JPEG
    assert get(opener, "http://photos.test/noai")[0] == JPEG
    assert all("Cookie" not in headers for _, headers in web.seen)


# -- redirects --------------------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_without_reading_its_body(web):
    body, record = get(opener_for(web), "http://photos.test/moved")
    assert body == JPEG
    assert (record.final_url, record.http_status) == ("http://photos.test/a/picture?x=1", 200)


def test_a_location_beyond_ascii_is_sent_as_the_bytes_it_was(web):
    assert get(opener_for(web), "http://photos.test/latin")[0] == JPEG
    assert web.seen[-1][0] == "/caf%E9%20au%20lait.jpg"


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("file:///etc/passwd", "refused_scheme"),
        ("ftp://photos.test/a.jpg", "refused_scheme"),
        ("data:image/gif;base64,R0lGODlhAQABAAAAACw=", "refused_scheme"),
        ("http://10.0.0.1/latest/meta-data", "refused_address"),
        ("http://[::ffff:169.254.169.254]/", "refused_address"),
        ("//[::1]/", "refused_address"),
        ("http://user:pass@photos.test/a.jpg", "bad_url"),
        ("http://photos.test:99999/", "bad_url"),
        ("http://[::1/", "bad_url"),
    ],
)
def test_a_redirect_into_a_trap(web, location, error, monkeypatch):
    connected = []
    connect = socket.socket.connect

    def recorder(self, address):
        connected.append(address)
        assert address == ("127.0.0.1", web.server_port)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recorder)
    _, record = get(opener_for(web), f"http://photos.test/to?{location}")
    assert record.error == error
    assert len(connected) == 1


# -- tls --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure_web(web, tmp_path):
    """The same server behind TLS, with a certificate for secure.test; yields (server, certificate's path, names)."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "secure.test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("secure.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    return web, tmp_path / "cert.pem", names


def secure_opener(secure_web, trusted: bool, **options) -> SafeOpener:
    server, certificate, _ = secure_web
    context = tls_context()
    if trusted:
        context.load_verify_locations(certificate)
    book = AddressBook({"*.test:443": f"127.0.0.1:{server.server_port}"}, LOOPBACK)
    return SafeOpener(SafeClient(book, context=context), **options)


def test_tls_keeps_the_original_name(secure_web):
    body, record = get(secure_opener(secure_web, trusted=True), "https://secure.test/a")
    assert body == JPEG and record.error is None
    assert secure_web[2] == ["secure.test"]
    assert secure_web[0].seen[0][1]["Host"] == "secure.test"


def test_tls_failures(secure_web):
    assert get(secure_opener(secure_web, trusted=False), "https://secure.test/a")[1].error == "tls"
    assert get(secure_opener(secure_web, trusted=True), "https://other.test/a")[1].error == "tls"
    assert secure_web[0].seen == []


def test_the_deadline_holds_under_tls(secure_web):
    opener = secure_opener(secure_web, trusted=True, deadline=0.5)
    started = time.monotonic()
    assert get(opener, "https://secure.test/dripping")[1].error == "deadline"
    assert time.monotonic() - started < 1.3
