"""Speed, as ratios measured in one run: `make bench`, or a part of it: `make bench ONLY=training`. Minutes.

Never a test, since machines differ. Each line: what was measured, its figure, the figure of its limit or of a peer on
the same input, their ratio and, where there is one, the goal. Rounds of both sides alternate and medians are taken, so
that a busy neighbour hits both alike.
"""

from __future__ import annotations

import importlib
import sys

from rich.console import Console

PARTS = ("curation", "evaluation", "forecast", "memory", "pools", "rehearsal", "scoring", "selection", "training")


def main(names: list[str]) -> int:
    """0: measured, whatever the figures are; 2: there is no such part."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"ONLY={' '.join(unknown)}: the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    for name in names or PARTS:
        table = importlib.import_module(f"tests.bench.{name}").bench().table
        # in a file a line is as long as it has to be
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
