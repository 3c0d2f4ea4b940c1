"""Where a run directory has what the ledger counts, in this format and in the earlier ones, which are only reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.storage import REQUESTS
from curation.cutting.cut import current_pass
from curation.run_directory.candidates import id_numbers
from curation.run_directory.run import Run
from curation.run_directory.schemas import SnapshotCounts
from curation.run_directory.scores import score_files
from curation.run_directory.snapshot import snapshot_file

NO_HASH = "0" * 16
COUNTED = ("status", "width", "height", "sha256", "phash")  # of what the decoding of an image showed


def rows_of_snapshot(run: Run, name: str, counts: SnapshotCounts) -> str:
    """Path of the rows of the snapshot whose counts are at `name`.json."""
    return snapshot_file(counts) if run.exists(snapshot_file(counts)) else f"{name}.parquet"  # before format 5


def image_tables(run: Run) -> Iterator[tuple[str, pa.Table]]:
    """(path, what the decoding of some images showed, as it is stored), file by file."""
    paths, columns = run.glob("scores/*.parquet"), [f"image.{name}" for name in COUNTED]
    yield from zip(paths, run.read_each(paths, ["id", *columns]), strict=True)
    paths = run.glob("scores/images/*.parquet")  # before format 5
    yield from zip(paths, run.read_each(paths), strict=True)


def decode_facts(stored: pa.Table) -> pa.Table:
    """`COUNTED` of rows of `image_tables` that have it; hashes as numbers, the first 64 bits of each, 0 where there is none."""
    facts = stored
    if "image" in stored.column_names:
        whole = stored.filter(stored["image"].is_valid()) if stored["image"].null_count else stored
        flat = whole.flatten()
        facts = flat.rename_columns([name.removeprefix("image.") for name in flat.column_names])
    for name in ("sha256", "phash"):
        digits = pc.utf8_slice_codeunits(pc.fill_null(facts[name], NO_HASH), 0, 16)
        try:
            numbers = id_numbers(digits)
        except (ValueError, pa.ArrowException):  # somewhere in it is no hash
            numbers = np.array([_number_or_0(text) for text in digits.to_pylist()], np.uint64)
        facts = facts.set_column(facts.column_names.index(name), name, pa.array(numbers))
    return facts


def _number_or_0(digits: str) -> int:
    try:
        return int(digits, 16)
    except ValueError:
        return 0


def verdict_folder(run: Run, cut: str) -> str:
    """Of a cut's verdicts: the newest that are whole, else those that are being made."""
    begun = sorted({path.rpartition("/")[0] for path in run.glob(f"cuts/{cut}/verdicts/*/*.parquet")})
    return current_pass(run, cut) or (begun[-1] if begun else f"cuts/{cut}/verdicts")  # flat before format 5


def evidence_files(run: Run, column: str) -> dict[str, list[str]]:
    """{unit: the files that may hold one filter's evidence of it}."""
    files = score_files(run)
    for path in run.glob(f"scores/{column}/*.parquet"):  # before format 5
        unit = "-".join(path.rpartition("/")[2].removesuffix(".parquet").split("-")[:2])
        files[unit].append(path)
    return files


def read_evidence(run: Run, paths: Sequence[str], column: str) -> Iterator[pa.Table]:
    """One filter's evidence out of each of these files, of those that have some."""
    for table in run.read_each(paths):
        if column in table.column_names:
            struct = table.filter(table[column].is_valid())
            flat = (
                struct.select([column])
                .flatten()
                .rename_columns([field.name for field in struct.schema.field(column).type])
            )
            yield flat.append_column("id", struct["id"])
        elif "error" in table.column_names:  # before format 5
            yield table


def annotation_tables(run: Run, folder: str, run_format: int) -> Iterator[tuple[str, pa.Table]]:
    """(path, `id` and `has_identity`) of each file of annotations."""
    paths = run.glob(f"{folder}/*.parquet")
    if run_format < 6:
        for path, part in zip(paths, run.read_each(paths, ["id", "identity"]), strict=True):
            yield path, pa.table({"id": part["id"], "has_identity": pc.is_valid(part["identity"])})
        return
    with ThreadPoolExecutor(1 if run.is_local else REQUESTS) as requests:
        for start in range(0, len(paths), REQUESTS):
            some = paths[start : start + REQUESTS]
            yield from zip(
                some, requests.map(partial(run.read_columns, columns=["id", "has_identity"]), some), strict=True
            )
