"""The latest attempt at each image, read a part of the first round at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.run_directory.attempts import latest_attempts, part_name
from curation.run_directory.candidates import id_numbers, id_texts
from curation.run_directory.run import Run
from curation.run_directory.schemas import ATTEMPT


def attempted(run: Run, number: int, part: int, ids: np.ndarray) -> None:
    rows = [{"id": text, "round": number, "part": part, "error": "timeout"} for text in id_texts(ids).to_pylist()]
    run.write_table(f"{part_name(number, part)}.parquet", pa.Table.from_pylist(rows, schema=ATTEMPT))


def test_of_many_rounds_the_last_attempt_at_each_image_comes_once_and_in_order(tmp_path):
    run, ids = (
        Run(tmp_path),
        np.sort(np.random.default_rng(0).integers(0, (1 << 64) - 1, 100, np.uint64, endpoint=True)),
    )
    assert list(latest_attempts(run, ["round"])) == []
    latest = np.zeros(100, int)
    for number, tried in enumerate([range(100), range(1, 100, 3), [0, 4, 39, 40, 99], [4]]):
        latest[list(tried)] = number
        for part in range(0, len(tried), 20):
            attempted(run, number, part // 20, ids[list(tried)[part : part + 20]])

    tables = list(latest_attempts(run, ["round"]))
    assert [table.num_rows for table in tables] == [20] * 5
    rows = pa.concat_tables(tables)
    assert np.array_equal(id_numbers(rows["id"]), ids) and rows["round"].to_pylist() == latest.tolist()

    run.fs.rm(run.path("fetched/00/00004.parquet"))  # what was tried again of a part that is gone is not lost with it
    rest = pa.concat_tables(latest_attempts(run, ["round"]))
    assert id_numbers(rest["id"]).tolist() == [*ids[:80], *ids[80:][latest[80:] > 0]]
