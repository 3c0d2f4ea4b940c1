"""`python -m tests.docker FOLDER`: the image's environment in a folder, by the Dockerfile's own steps; prints its bin/."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.docker.image import make_environment

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m tests.docker FOLDER")
    print(make_environment(Path(sys.argv[1]).resolve()).bin)
