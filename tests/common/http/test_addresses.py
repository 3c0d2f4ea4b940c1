"""Where the opener connects and where it does not, and what it asks for. Only 127.0.0.1 is ever reached."""

from __future__ import annotations

import re
import socket

import pytest

from common.http.addresses import AddressBook, FetchFailure, refusal
from common.http.client import SafeClient
from common.http.opener import SafeOpener
from common.http.urls import request_url
from tests.servers.loopback_web import JPEG, LOOPBACK, answers, get, opener_for, serving


@pytest.fixture
def web():
    with serving() as server:
        yield server


@pytest.fixture
def no_sockets(monkeypatch):
    """What was connected to; nothing is, for the test's own sockets are made to refuse."""
    connected = []

    def connect(_self, address):
        connected.append(address)
        raise AssertionError(f"a socket was opened to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(socket, "create_connection", lambda address, *_, **__: connect(None, address))
    return connected


# -- addresses --------------------------------------------------------------------------------------------------------

NOT_PUBLIC = [
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.251",
    "255.255.255.255", "240.0.0.1", "192.0.2.7", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
    "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1", "192.88.99.1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_points_inside_opens_no_socket(address, no_sockets):
    _, record = get(opener_for(None, answers(address)), "http://innocent.example/a.jpg")
    assert record.error == "refused_address"
    assert no_sockets == []


def test_one_inner_address_among_public_ones_refuses_the_host(no_sockets):
    _, record = get(opener_for(None, answers("93.184.216.34", "10.0.0.1")), "http://innocent.example/")
    assert record.error == "refused_address" and no_sockets == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1:8080/"])
def test_an_inner_address_in_the_url_opens_no_socket(url, no_sockets):
    _, record = get(opener_for(None), url)
    assert record.error == "refused_address" and no_sockets == []


def test_public_addresses_are_not_refused():
    for address in ("93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"):
        assert refusal(address, 80, []) is None, address


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch):
    looked_up, connected = [], []

    def rebinding(host, port, **options):  # public at the first look-up, inside at the second
        looked_up.append(host)
        return answers("93.184.216.34" if len(looked_up) == 1 else "10.0.0.1")(host, port, **options)

    def connect(_self, address):
        connected.append(address)
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket.socket, "connect", connect)
    _, record = get(opener_for(None, rebinding), "http://rebinding.example/")
    assert (looked_up, connected) == (["rebinding.example"], [("93.184.216.34", 80)])
    assert record.error == "connection"


def test_allowed_networks_are_reached(web):
    book = AddressBook({}, ["127.0.0.0/8"])
    body, record = get(SafeOpener(SafeClient(book)), f"http://127.0.0.1:{web.server_port}/a")
    assert body == JPEG and record.error is None
    _, record = get(SafeOpener(SafeClient(AddressBook({}, ["10.0.0.0/8"]))), f"http://127.0.0.1:{web.server_port}/a")
    assert record.error == "refused_address" and len(web.seen) == 1


def test_a_network_may_be_allowed_on_one_port_only():
    book = AddressBook({}, ["127.0.0.0/8:8000", "fd00::/8:80", "10.0.0.0/8"])
    assert refusal("127.0.0.1", 8000, book.allowed) is None
    assert refusal("127.0.0.1", 22, book.allowed) == "loopback address; `fetch.allow_networks` can allow it"
    assert refusal("fd00::1", 80, book.allowed) is None and refusal("fd00::1", 81, book.allowed)
    assert refusal("10.1.2.3", 22, book.allowed) is None


@pytest.mark.parametrize("entry", ["127.0.0.0/8:", "127.0.0.0/8:http", "127.0.0.0/8:70000", "localhost", "10.0.0.1/8"])
def test_an_allowed_network_that_cannot_be_read_is_said_so(entry):
    with pytest.raises(ValueError, match=re.escape(entry)):
        AddressBook({}, [entry])


def test_a_resolve_target_is_checked_too(no_sockets):
    book = AddressBook({"a.test:80": "127.0.0.1:8000"})
    _, record = get(SafeOpener(SafeClient(book)), "http://a.test/")
    assert record.error == "refused_address" and no_sockets == []
    assert book.refused_targets() == ["127.0.0.1: loopback address; `fetch.allow_networks` can allow it"]


def test_the_more_specific_resolve_entry_wins():
    book = AddressBook(
        {
            "*.test:80": "1.1.1.1:1",
            "*.deep.test:80": "1.1.1.1:2",
            "a.deep.test:80": "1.1.1.1:3",
            "*.test:443": "[::1]:4",
        }
    )
    assert book.target("b.test", 80) == ("1.1.1.1", 1)
    assert book.target("x.y.deep.test", 80) == ("1.1.1.1", 2)
    assert book.target("A.Deep.Test.", 80) == ("1.1.1.1", 3)
    assert book.target("b.test", 443) == ("::1", 4)
    assert book.target("test", 80) == ("test", 80)
    assert book.target("btest", 80) == ("btest", 80)
    assert book.target("b.test", 8080) == ("b.test", 8080)


@pytest.mark.parametrize("entry", [{"a.test": "1.1.1.1:80"}, {"a.test:80": "other.test:80"}, {"a.test:0": "1.1.1.1:1"}])
def test_a_resolve_entry_that_cannot_be_read_is_said_so(entry):
    with pytest.raises(ValueError, match="resolve"):
        AddressBook(entry)


def test_a_name_that_does_not_resolve(no_sockets):
    def lookup(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    _, record = get(opener_for(None, lookup), "http://gone.example/")
    assert record.error == "dns" and "gone.example" in record.detail


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionRefusedError(111, "refused"), "connection"),
        (OSError(101, "Network is unreachable"), "unreachable"),
        (OSError(113, "No route to host"), "unreachable"),
        (TimeoutError("timed out"), "timeout"),
        (OSError(24, "Too many open files"), "other"),
    ],
)
def test_how_connecting_fails(error, name, monkeypatch):
    def connect(*_):
        raise error

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert get(opener_for(None, answers("93.184.216.34")), "http://a.example/")[1].error == name


def test_the_next_address_is_tried(web):
    def lookup(host, port, **_):
        return answers("127.0.0.2", "127.0.0.1")(host, web.server_port)  # the server listens on the second alone

    body, record = get(SafeOpener(SafeClient(AddressBook({}, LOOPBACK, lookup))), "http://two.example/a")
    assert body == JPEG and record.http_status == 200


@pytest.mark.parametrize("url", ["//127.0.0.1/", "127.0.0.1", ""])
def test_what_is_no_url_is_a_failure_like_any_other(url, no_sockets):
    opener = opener_for(None)
    with pytest.raises(FetchFailure, match="bad_url"):
        opener.open(url)
    assert opener.records[url].error == "bad_url" and no_sockets == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://a.test/b", "data:image/png;base64,AAAA"])
def test_only_http_and_https_to_begin_with(url, no_sockets):
    assert get(opener_for(None), url)[1].error == "refused_scheme"


# -- urls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://a.test/a b.jpg?q=c d", "http://a.test/a%20b.jpg?q=c%20d"),
        ("http://a.test/a%20b%2Fc%zz.jpg?u=http://x.y/z&a=[1]", "http://a.test/a%20b%2Fc%zz.jpg?u=http://x.y/z&a=[1]"),
        ("http://a.test/küche/写真.jpg", "http://a.test/k%C3%BCche/%E5%86%99%E7%9C%9F.jpg"),
        ("HTTP://Bücher.Test:80/x", "http://xn--bcher-kva.test:80/x"),
        ("https://a.test", "https://a.test/"),
        ("http://a.test?x", "http://a.test/?x"),
        ("http://a.test/x#frag ment", "http://a.test/x"),
        (" http://a.test/\nx\t ", "http://a.test/x"),
        ('http://a.test/<"{`}>', "http://a.test/%3C%22%7B%60%7D%3E"),
        ("http://[2001:db8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
    ],
)
def test_request_url(url, sent):
    assert request_url(url) == sent
    assert request_url(sent) == sent


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("", "bad_url"), ("UNKNOWN", "bad_url"), ("//a.test/x", "bad_url"), ("http:///x", "bad_url"),
        ("http://a.test:x/", "bad_url"), ("http://a.test:0/", "bad_url"), ("http://a b.test/", "bad_url"),
        ("http://a.test%0d%0aX:1/", "bad_url"), ("http://u@a.test/", "bad_url"), ("http://[a/", "bad_url"),
        (f"http://{'ü' * 70}.test/", "bad_url"), ("file:///x", "refused_scheme"), ("javascript:1", "refused_scheme"),
    ],
)  # fmt: skip
def test_request_url_refuses(url, error):
    with pytest.raises(FetchFailure) as caught:
        request_url(url)
    assert caught.value.error == error


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        # UTS 46, not transitional: IDNA 2003 would ask strasse.de and fass.de, which are others
        ("straße.de", "xn--strae-oqa.de"), ("faß.de", "xn--fa-hia.de"), ("FAẞ.de", "xn--fa-hia.de"),
        ("Faß.DE", "xn--fa-hia.de"), ("FASS.de", "fass.de"), ("βόλος.gr", "xn--nxasmm1c.gr"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"), ("क\u094d\u200dष.com", "xn--11b2ezcw70k.com"),
        # mapped: upper case, width, full stops, what is ignored, composed letters
        ("BÜCHER.de", "xn--bcher-kva.de"), ("ＡＢＣ。ＤＥ", "abc.de"), ("日本語。ＪＰ", "xn--wgv71a119e.jp"),
        ("a．b｡de", "a.b.de"), ("a\u00adb.de", "ab.de"), ("bu\u0308cher.de", "xn--bcher-kva.de"), ("①.de", "1.de"),
        # symbols, which IDNA 2008 does not have and browsers open
        ("💩.la", "xn--ls8h.la"), ("☕.example", "xn--53h.example"), ("i❤.ws", "xn--i-7iq.ws"),
        # as it stands
        ("xn--strae-oqa.de", "xn--strae-oqa.de"), ("XN--STRAE-OQA.de", "xn--strae-oqa.de"), ("xn--a.de", "xn--a.de"),
        ("my_shop.bücher.de", "my_shop.xn--bcher-kva.de"), ("ü.xn--strae-oqa.de", "xn--tda.xn--strae-oqa.de"),
        ("b%C3%BCcher.de", "xn--bcher-kva.de"), ("bücher.de.", "xn--bcher-kva.de."), ("-ü.de", "xn----eha.de"),
        # refused: a joiner out of place (also in emoji), directions, a combining start, letters that are not allowed
        ("a\u200db.de", None), ("👨\u200d👩\u200d👧.ws", None), ("א1a.de", None), ("\u0301ü.de", None), ("⒈.de", None),
        ("a\ufffdb.de", None), ("\ue000.de", None), (f"{'ü' * 63}.de", None), ("ü/a.de", "xn--tda"),
        ("ü／a.de", None), ("ü＠a.de", None), ("ü％00.de", None), ("ü：80.de", None),
    ],
)  # fmt: skip
def test_a_host_beyond_ascii(host, asked):
    try:
        sent = request_url(f"http://{host}/")
    except FetchFailure as failure:
        assert asked is None and failure.error == "bad_url"
    else:
        assert sent.split("/")[2] == asked
        assert request_url(sent) == sent


def test_a_host_that_no_resolver_can_be_asked_for():
    assert get(opener_for(None), f"http://{'a' * 70}.example/")[1].error in ("bad_url", "dns")
    assert get(opener_for(None), "http://a..example/")[1].error == "bad_url"
