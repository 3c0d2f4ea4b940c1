"""A few columns of a table whose others are large: the others are not read; what is damaged is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.failures.damage import DamagedFile, MissingFile
from curation.run_directory.run import Run

TABLE = "annotations/a/00-00000-0.parquet"


@pytest.fixture()
def run(tmp_path):
    run, vectors = Run(tmp_path), np.random.default_rng(0).normal(size=(1000, 256)).astype(np.float32)
    rows = {"id": [f"{n:016x}" for n in range(1000)], "identity": list(vectors), "has_identity": [True] * 1000}
    run.write_table(TABLE, pa.table(rows))
    return run


def test_the_columns_that_are_not_asked_for_are_not_read(run, monkeypatch):
    read, whole = [], Run.read_bytes

    def counted(self, relative, *place):
        data = whole(self, relative, *place)
        read.append(len(data))
        return data

    monkeypatch.setattr(Run, "read_bytes", counted)
    monkeypatch.setattr(Run, "is_local", False)  # a request each; of a disk the library reads them itself
    table = run.read_columns(TABLE, ["id", "has_identity"])
    assert 0 < sum(read) < run.size(TABLE) / 9 and len(read) == 3
    monkeypatch.undo()
    assert table.equals(run.read_table(TABLE, ["id", "has_identity"])) and table.equals(
        run.read_columns(TABLE, ["id", "has_identity"])
    )


@pytest.mark.parametrize("data", [b"", b"PAR1 and no more", None])
def test_a_damaged_table_is_named(run, data):
    whole = run.read_bytes(TABLE)
    run.write_bytes(TABLE, whole[:-1000] if data is None else data)
    with pytest.raises(DamagedFile, match=f"{TABLE} is no parquet file, or damaged .*delete it, and `make curate`"):
        run.read_columns(TABLE, ["id"])


def test_a_table_that_is_gone_or_another_is_named(run):
    with pytest.raises(DamagedFile, match="it has no `other`: delete it"):
        run.read_columns(TABLE, ["id", "other"])
    with pytest.raises(MissingFile, match="is not there: delete it"):
        run.read_columns("annotations/a/gone.parquet", ["id"])


def test_a_large_table_is_read_a_row_group_at_a_time(run, tmp_path):
    whole = run.read_table(TABLE)
    with pq.ParquetWriter(tmp_path / TABLE, whole.schema) as writer:
        for start in range(0, 1000, 300):
            writer.write_table(whole.slice(start, 300))
    groups = list(run.read_groups(TABLE, ["id", "has_identity"]))
    assert [group.num_rows for group in groups] == [300, 300, 300, 100]
    assert pa.concat_tables(groups).equals(whole.select(["id", "has_identity"]))
    for columns, words in ((["id", "other"], "it has no `other`"), (["id"], "is no parquet file, or damaged")):
        with pytest.raises(DamagedFile, match=words):
            list(run.read_groups(TABLE, columns))
        run.write_bytes(TABLE, b"PAR1 and no more")
