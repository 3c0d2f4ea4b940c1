"""A stored file that is another than its name says, by what it lacks."""

from __future__ import annotations

import pyarrow as pa
import pytest

from common.failures.damage import DamagedFile
from common.storage import Storage


@pytest.mark.parametrize("said", ["7", "[]", "{}", '{"b": 1}'])
def test_another_file_under_a_name_is_found_by_what_it_lacks(tmp_path, said):
    storage = Storage(tmp_path)
    storage.write_bytes("a.json", said.encode())
    with pytest.raises(DamagedFile, match="a.json is another file than its name says: it has no `a`: restore"):
        storage.read_json("a.json", ("a",))
    storage.write_table("a.parquet", pa.table({"b": [1], "d": [2]}))
    with pytest.raises(DamagedFile, match="a.parquet is another file than its name says: it has no `a`, `c`: restore"):
        storage.read_table("a.parquet", ("a", "b", "c"))
    assert storage.read_table("a.parquet", ("b",), optional=("c", "d")).column_names == ["b", "d"]
