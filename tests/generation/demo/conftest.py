"""Fixtures of the demo's tests: the tiny model, real photos, one page and one browser for all modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import pytest

from tests.generation.demo.demo_world import Visitor, connected, group_file, portrait_files, tiny_model


@pytest.fixture(scope="session")
def model():
    return tiny_model()


@pytest.fixture(scope="session")
def portraits() -> dict[str, Path]:
    return portrait_files()


@pytest.fixture(scope="session")
def group() -> Path:
    return group_file()


@pytest.fixture(scope="session")
def page(model, tmp_path_factory):
    from generation.demo.server import serve

    sys.addaudithook(lambda event, args: connected.append(args[1]) if event == "socket.connect" else None)
    page = serve(model, tmp_path_factory.mktemp("page"))
    yield page
    page.close(verbose=False)


@pytest.fixture
def visitor(browser, page) -> Iterator[Callable[..., Visitor]]:
    """Somebody comes to the page, at another address if one is given."""
    visitors: list[Visitor] = []

    def come(url: str = page.local_url) -> Visitor:
        visitors.append(Visitor(browser, url))
        return visitors[-1]

    yield come
    for person in visitors:
        person.context.close()
        hosts = {urlparse(url).hostname for url in person.asked if urlparse(url).scheme not in ("data", "blob")}
        assert hosts == {"127.0.0.1"}, "the browser asked elsewhere"
