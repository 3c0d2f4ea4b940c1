"""The digest of a table hangs on its values, each of them, and on nothing else."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curation.run_directory.schemas import UNRANKED_CANDIDATE
from curation.sources.digest import table_digest


def rows(**changes) -> list[dict]:
    face = {"box": [1, 2, 3, 4], "caption": "one", "source_id": "a"}
    first = dict.fromkeys(UNRANKED_CANDIDATE.names) | {
        "id": "0",
        "url": "u",
        "faces": [face, face],
        "sample_id": 7,
        "in_hq": True,
    }
    return [first | changes, first | {"id": "1", "laion_caption": "photo", "similarity": 0.5}]


def table(**changes) -> pa.Table:
    return pa.Table.from_pylist(rows(**changes), UNRANKED_CANDIDATE)


def test_how_the_values_lie_is_no_part_of_it():
    whole = table()
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    longer = pa.concat_tables([whole, whole]).combine_chunks()
    filtered = longer.filter(pa.array([False, False, True, True]))
    assert {table_digest(one) for one in (whole, parts, longer.slice(2), filtered)} == {table_digest(whole)}
    assert table_digest(whole.slice(0, 0)) == table_digest(UNRANKED_CANDIDATE.empty_table())


@pytest.mark.parametrize(
    "changes",
    [
        {"laion_caption": ""}, {"url": None}, {"in_hq": False}, {"in_hq": None}, {"sample_id": 0}, {"sample_id": None},
        {"width": 0}, {"similarity": 0.0}, {"faces": []}, {"faces": None},
        {"faces": [{"box": [1, 2, 3], "caption": "one", "source_id": "a"}, {"box": [4, 1, 2, 3, 4], "caption": "one", "source_id": "a"}]},
        {"faces": [{"box": [1, 2, 3, 4], "caption": "on", "source_id": "ea"}] * 2}, {"id": "", "url": "0u"},
    ],
    ids=str,
)  # fmt: skip
def test_each_value_is_part_of_it(changes):
    assert table_digest(table(**changes)) != table_digest(table())
