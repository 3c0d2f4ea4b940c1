"""A hash of what a table says: of its values alone, not of how Arrow or a file lays them out."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def table_digest(table: pa.Table) -> str:
    """sha256 over the columns, one after the other, in hex."""
    found = hashlib.sha256()
    for name in table.column_names:
        found.update(f"{name} {table.num_rows}\n".encode())
        _add(found, table[name].combine_chunks())
    return found.hexdigest()


def _add(found: hashlib._Hash, array: pa.Array) -> None:
    """Which values are there, then the values: of lists and texts the lengths, then all that is in them."""
    found.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
    kind = array.type
    if pa.types.is_list(kind):
        found.update(pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype("<i4").tobytes())
        _add(found, array.flatten())
    elif pa.types.is_struct(kind):
        for part in array.flatten():
            _add(found, part)
    elif pa.types.is_string(kind):
        filled = pc.fill_null(array, "").cast(pa.large_binary())
        found.update(pc.binary_length(filled).to_numpy().astype("<i8").tobytes())
        if len(filled):
            ends = np.frombuffer(filled.buffers()[1], np.int64)[filled.offset : filled.offset + len(filled) + 1]
            found.update(memoryview(filled.buffers()[2] or b"")[ends[0] : ends[-1]])
    else:
        numbers = pc.fill_null(array, False if pa.types.is_boolean(kind) else 0).to_numpy(zero_copy_only=False)
        found.update(numbers.astype(numbers.dtype.newbyteorder("<")).tobytes())
