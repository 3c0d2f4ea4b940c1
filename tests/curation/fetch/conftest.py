"""A web server on 127.0.0.1, and an empty run."""

from __future__ import annotations

import pytest

from curation.run_directory.run import Run
from tests.curation.fetch.fetch_site import Site
from tests.loopback_web import serving


@pytest.fixture
def site():
    with serving(Site) as server:
        server.pages = {}
        yield server


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")
