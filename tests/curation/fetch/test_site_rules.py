"""robots.txt and tdmrep.json: what they forbid, and what a site's silence means."""

from __future__ import annotations

import json
import pickle
import time

import pytest

from common.http.addresses import FetchFailure
from common.http.client import SafeClient
from curation.fetch import tdm
from curation.fetch.site_rules import MOST, REDIRECTS, SiteRules, read_rules
from curation.recipe.recipe import Fetch
from tests.servers.loopback_web import opener_for

SITE, SETTINGS = "http://photos.test", Fetch(timeout=0.5, deadline=1)
NOTHING = b"User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/a.jpg", True),
        ("User-agent: *\nDisallow: /", "/a.jpg", False),
        ("User-agent: *\nDisallow:", "/a.jpg", True),
        ("User-agent: *\nDisallow: /private", "/public/a.jpg", True),
        ("User-agent: otherbot\nDisallow: /", "/a.jpg", True),
        ("User-agent: FaceMakeup\nDisallow: /\n\nUser-agent: *\nAllow: /", "/a.jpg", False),
        ("User-agent: facemakeup\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a.jpg", True),
        ("User-agent: otherbot\nUser-agent: facemakeup\nDisallow: /", "/a.jpg", False),
        ("User-agent: *\nDisallow: /\nAllow: /open/", "/open/a.jpg", True),  # the longest match decides
        ("User-agent: *\nDisallow: /*.jpg$", "/b/a.jpg", False),
        ("User-agent: *\nDisallow: /*.jpg$", "/b/a.jpg?x", True),
        ("User-agent: *\nDisallow: /caf%C3%A9", "/caf%C3%A9/a.jpg", False),
        ("<html>not found</html>", "/a.jpg", True),
    ],
)
def test_robots_txt(text, path, allowed):
    assert SiteRules(text).allow(SITE + path, "facemakeup") is allowed


def test_without_a_name_the_rules_for_everybody_count():
    assert not SiteRules("User-agent: *\nDisallow: /").allow(f"{SITE}/a", None)
    assert SiteRules("User-agent: facemakeup\nDisallow: /").allow(f"{SITE}/a", None)


def ask(site, page, path: str = "/robots.txt") -> SiteRules:
    site.pages[path] = page
    book = opener_for(site).client.book
    return read_rules(SITE, {}, SafeClient(book, None, MOST, REDIRECTS, truncate=True), SETTINGS)


@pytest.mark.parametrize(
    ("status", "headers", "means"),
    [
        (404, {}, "allowed"), (401, {}, "allowed"), (403, {}, "allowed"), (410, {}, "allowed"), (304, {}, "allowed"),
        (301, {"Location": "/robots.txt"}, "allowed"),  # more than five redirects: as if there were none
        (301, {"Location": "ftp://photos.test/"}, "allowed"),
        (500, {}, "robots_txt_unreachable"), (503, {}, "robots_txt_unreachable"), (429, {}, "robots_txt_unreachable"),
        (200, {"Content_Encoding": "zstd"}, "robots_txt_unreachable"),  # what cannot be read may forbid anything
        (301, {"Location": "http://10.0.0.1/"}, "refused_address"), (200, {}, "forbidden"),
    ],
)  # fmt: skip
def test_what_an_answer_means(site, status, headers, means):
    rules = ask(site, lambda nth: (status, NOTHING, headers))
    if means in ("allowed", "forbidden"):
        assert rules.allow(f"{SITE}/a.jpg", "facemakeup") is (means == "allowed")
    else:
        with pytest.raises(FetchFailure, match=means):
            rules.allow(f"{SITE}/a.jpg", "facemakeup")
    if "Location" in headers and means == "allowed" and status == 301 and headers["Location"].startswith("/"):
        assert len([path for _, path in site.rules_seen if path == "/robots.txt"]) == 1 + REDIRECTS


def test_rules_beyond_500_kilobytes_do_not_count(site):
    filler = b"# padding\n" * (MOST // 10)
    assert not ask(site, lambda nth: (200, NOTHING + filler + b"Allow: /a", {})).allow(f"{SITE}/a", "facemakeup")
    assert ask(site, lambda nth: (200, filler + b"#" * 20 + NOTHING, {})).allow(f"{SITE}/a", "facemakeup")


def test_a_host_that_is_down_fails_as_its_images_would():
    client = SafeClient(opener_for(None, lambda *_, **__: []).client.book)
    assert read_rules(SITE, {}, client, SETTINGS).failure[0] == "dns"


def test_a_switch_that_is_off_asks_for_nothing(site):
    client = SafeClient(opener_for(site).client.book)
    off = SETTINGS.model_copy(update={"robots_txt": False, "tdm_reservation": False})
    assert read_rules(SITE, {}, client, off) == SiteRules() and site.rules_seen == []


RESERVED = [{"location": "/art/*.jpg$", "tdm-reservation": 0}, {"location": "/art/", "tdm-reservation": 1}]


def rule(location: str, value: object = 1) -> dict[str, object]:
    return {"location": location, "tdm-reservation": value}


@pytest.mark.parametrize(
    ("rules", "headers", "selector", "reserved"),
    [
        ([], [], "/a.jpg", False),
        # the header supersedes the file; what is neither 0 nor 1 is as if it were not there
        ([], ["1"], "/a.jpg", True), ([], ["0"], "/a.jpg", False), ([], [" 1 "], "/a.jpg", True),
        ([], ["maybe"], "/a.jpg", False), ([], ["true"], "/a.jpg", False), ([], ["2"], "/a.jpg", False),
        (RESERVED, ["0"], "/art/a.png", False), (RESERVED, ["1"], "/art/a.jpg", True),
        (RESERVED, ["maybe"], "/art/a.png", True), (RESERVED, [""], "/art/a.png", True),
        ([], ["1, 1"], "/a", True), ([], ["0", "1"], "/a", True), ([], ["1, 0"], "/a", True), ([], ["0, 0"], "/a", False),
        # of the file the first rule that matches, however short
        (RESERVED, [], "/art/a.jpg", False), (RESERVED, [], "/art/a.jpg?size=2", True),
        (RESERVED, [], "/other/a.jpg", False), ([rule("/"), rule("/art/longer/", 0)], [], "/art/longer/a", True),
        # values
        ([rule("/", "1")], [], "/a", True), ([rule("/", 0)], [], "/a", False), ([rule("/", "0")], [], "/a", False),
        ([rule("/", True)], [], "/a", False), ([rule("/", "yes"), rule("/")], [], "/a", True),
        ([{"location": "/"}, rule("/")], [], "/a", True), ([rule("/", [[1]])], [], "/a", False),
        # no rules at all
        ([{"tdm-reservation": 1}, "nonsense", None], [], "/a", False), (rule("/"), [], "/a", False),
        ([{"location": 1, "tdm-reservation": 1}], [], "/1", False),
        # patterns
        ([rule("*")], [], "/a", True), ([rule("art")], [], "/art/a", True), ([rule("/a.b")], [], "/axb", False),
        ([rule("")], [], "/a", True), ([rule("/A")], [], "/a", False), ([rule("/a$")], [], "/a", True),
        ([rule("/a$")], [], "/ab", False), ([rule("$")], [], "/", True), ([rule("$")], [], "/a", False),
        ([rule("/*a*b$")], [], "/xaxbxb", True), ([rule("/*a*b$")], [], "/xaxbx", False),
        ([rule("/*ab*b$")], [], "/ab", False), ([rule("/*/c/*.jpg$")], [], "/a/b/c/d.jpg", True),
        ([rule("/a*")], [], "/a", True), ([rule("/**b")], [], "/ab", True), ([rule("/a$b")], [], "/a$b", True),
        # percent-encoding
        ([rule("/foo-%24")], [], "/foo-$", True), ([rule("/foo-%24")], [], "/foo-", False),
        ([rule("/a%2Ab")], [], "/a*b", True), ([rule("/a%2ab")], [], "/axb", False),
        ([rule("/%7Eme/")], [], "/~me/a", True), ([rule("/~me/")], [], "/%7eme/a", True),
        ([rule("/a%2fb")], [], "/a/b", False), ([rule("/a%2fb")], [], "/a%2Fb", True),
        ([rule("/k\u00fcche/")], [], "/k%C3%BCche/a", True), ([rule("/k%c3%bcche/")], [], "/k%C3%BCche/a", True),
        ([rule("/\ud800")], [], "/a", False),
    ],
)  # fmt: skip
def test_tdm_reservations(rules, headers, selector, reserved):
    assert tdm.reserved(headers, tdm.rules_of(json.dumps(rules).encode()), selector) is reserved


def test_a_pattern_of_many_stars_takes_no_time():
    """As a regular expression it would take longer than anybody waits, in every worker that meets the site."""
    started = time.monotonic()
    assert not tdm.reserved([], (("/" + "*a" * 100 + "b", True),), "/" + "a" * 2000)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_tdmrep_json_reserves_nothing(body):
    assert tdm.rules_of(body) == ()


def test_tdmrep_json_is_asked_for(site):
    rules = ask(site, lambda nth: (200, json.dumps(RESERVED).encode(), {}), tdm.PATH)
    assert rules.reservations == (("/art/*.jpg$", False), ("/art/", True)) and rules.failure is None


def test_rules_travel_between_processes():
    rules = SiteRules("User-agent: *\nDisallow: /", (("/", True),))
    rules.allow(f"{SITE}/a", "x")  # parsed once, which does not travel
    assert pickle.loads(pickle.dumps(rules)) == rules  # noqa: S301  our own bytes
