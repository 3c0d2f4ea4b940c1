"""Selection beside the baseline at another size: python -m tests.bench.selection --faces 130_000 --laion 500_000"""

from __future__ import annotations

import argparse

from rich.console import Console

from tests.bench.selection.measure import FACES, LAION, ROUNDS, bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=FACES, help="rows of FaceCaption")
    parser.add_argument("--laion", type=int, default=LAION, help="rows of LAION-Face")
    parser.add_argument("--group", type=int, default=100_000, help="rows a row group")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of both sides, alternating")
    parser.add_argument("--sources", help="a folder where the made sources are, or are kept; else they are temporary")
    asked = parser.parse_args()
    Console(width=200).print(bench(asked.faces, asked.laion, asked.rounds, asked.group, asked.sources).table)


if __name__ == "__main__":
    main()
