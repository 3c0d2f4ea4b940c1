"""The other side of tests/bench/loading/mosaic.py, run in the environment that it makes: FOLDER WORKERS.

Writes the samples of FOLDER/given.pickle as MDS, once, says so, and then reads an epoch for every line on its input.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import sys
import tarfile
import types
from pathlib import Path

# its own __init__ imports vision classes that nobody needs here, and with them torchvision
_package = types.ModuleType("streaming")
_package.__path__ = list(importlib.util.find_spec("streaming").submodule_search_locations)
sys.modules["streaming"] = _package

from streaming.base import MDSWriter, StreamingDataset  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from tests.bench.duel import core_seconds, one_thread  # noqa: E402
from tests.bench.loading.loader import Input, Prepared, stacked  # noqa: E402

MEMBERS = ("jpg", "json", "txt", "identity.npy")


def written(given: Input, out: Path) -> int:
    """The samples of the tars as MDS, in shards of about the same size; how many."""
    size, count = max(Path(tar).stat().st_size for tar in given.tars()), 0
    with MDSWriter(out=str(out), columns=dict.fromkeys(MEMBERS, "bytes"), size_limit=size) as writer:
        for path in given.tars():
            with tarfile.open(path) as tar:
                sample: dict[str, bytes] = {}
                for member in tar:
                    sample[member.name.partition(".")[2]] = tar.extractfile(member).read()
                    if len(sample) == len(MEMBERS):
                        writer.write(sample)
                        sample, count = {}, count + 1
    return count


class Samples(StreamingDataset):
    """As its users write it: a sample's tensors are made where it is read."""

    def __init__(self, prepared: Prepared, **options):
        super().__init__(**options)
        self.prepared = prepared

    def __getitem__(self, at):
        return self.prepared(super().__getitem__(at))


def main(folder: str, workers: int) -> None:
    one_thread()
    clean_stale_shared_memory()
    given: Input = pickle.loads((Path(folder) / "given.pickle").read_bytes())  # noqa: S301  written by who started this
    count = written(given, Path(folder) / "mds")
    data = Samples(Prepared(given.ready), local=f"{folder}/mds", shuffle=True, batch_size=given.micro)
    options = {"prefetch_factor": 4, "multiprocessing_context": "fork"} if workers else {}

    def epoch() -> None:
        feed = DataLoader(data, batch_size=given.micro, num_workers=workers, collate_fn=stacked, **options)
        assert sum(len(batch["valid"]) for batch in feed) == count

    print(json.dumps({"samples": count}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"core_seconds": core_seconds(epoch)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
