"""A smaller measurement than `make bench`'s, while one works on what it measures."""

from __future__ import annotations

import argparse

from rich.console import Console

from tests.bench.scoring import PART, ROUNDS, SIZES, bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default=",".join(map(str, SIZES)), help="two numbers: the slope is between them")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    fewer, more = map(int, options.images.split(","))
    if not PART <= fewer < more:
        parser.error(f"--images: two numbers, ascending, from {PART} on")
    Console(width=200).print(bench((fewer, more), options.rounds).table)


if __name__ == "__main__":
    main()
