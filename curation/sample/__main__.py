"""The command that makes the sample: python -m curation.sample [--out DIR]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.command_line import exit_code_of
from common.pinned_files.packages import cache_dir
from common.progress import console
from curation.sample.folder import is_complete, make_sample


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m curation.sample", description="Make the sample that `make curate` runs on."
    )
    parser.add_argument("--out", type=Path, default=cache_dir() / "sample", help="default: %(default)s")
    folder = parser.parse_args().out

    def make() -> None:
        before = is_complete(folder)
        counts = make_sample(folder)
        console.print(
            f"sample {'is there' if before else 'made'}: {folder}  "
            f"{counts['photos']} photos, {counts['made']} pictures derived from them, {counts['urls']} URLs, "
            f"{counts['facecaption']['rows']} rows of FaceCaption, {counts['laion_face']['rows']} of LAION-Face"
        )

    return exit_code_of(make)


if __name__ == "__main__":
    sys.exit(main())
