"""A web server on 127.0.0.1, and an empty run."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from curation.run_directory.run import Run
from tests.curation.fetch.fetch_site import Site
from tests.servers.loopback_web import serving


@pytest.fixture
def site():
    with serving(Site) as server:
        server.pages, server.rules_seen = {}, []
        server.asked, server.counting = [], threading.Lock()
        server.at_once, server.most_at_once = Counter(), Counter()
        yield server


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")
