"""Selection beside the frozen baseline: `make bench ONLY=selection`; `python -m tests.bench.selection --help`."""

from tests.bench.selection.measure import bench as bench
