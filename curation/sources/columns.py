"""A source's columns as people have them: every Arrow encoding of a text or a number, read into one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# a caption of nothing but these is blank: separators, controls, format characters (zero-width ones), and what scripts
# have for "nothing here" (Braille's empty cell, Hangul fillers, joiners, variation selectors)
BLANK = (
    r"^[\p{Z}\p{Cc}\p{Cf}\x{034F}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{180B}-\x{180F}\x{2800}\x{3164}\x{FE00}-\x{FE0F}"
    r"\x{FFA0}]*$"
)
WHOLE = r"^\s*(?P<digits>-?\d{1,18})(?:\.0*)?\s*$"
NUMBER = r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?$"
LARGEST = float(2**63 - 1024)  # the last float64 below 2**63


def find_column(names: list[str], wanted: str) -> str | None:
    """The name that is `wanted`, else the one that differs from it in upper and lower case only."""
    if wanted in names:
        return wanted
    return next((name for name in names if name.lower() == wanted.lower()), None)


def is_text(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
            pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary,
        )
    )  # fmt: skip


def is_list(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )  # fmt: skip


def is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def values_of(kind: pa.DataType) -> pa.DataType:
    """The type without what only says how values are stored: dictionaries and extensions."""
    while pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind.storage_type
    return kind


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array, without dictionaries and extensions; lists as large_list."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    while isinstance(array.type, pa.BaseExtensionType) or pa.types.is_dictionary(array.type):
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array.storage
    return _as_large_list(array) if is_list(array.type) else array


def _as_large_list(array: pa.Array) -> pa.Array:
    """Of any list. Not by `cast`, which loses rows of list views and keeps values under nulls of fixed-size lists."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    values = pc.list_flatten(array)
    return (
        pa.LargeListArray.from_arrays(offsets, values, mask=array.is_null())
        if len(array)
        else (pa.array([], pa.large_list(values.type)))
    )


def takes_text(kind: pa.DataType) -> bool:
    """Whether `texts` reads a type: text, or a list of texts."""
    kind = values_of(kind)
    return is_text(kind) or pa.types.is_null(kind) or (is_list(kind) and takes_text(kind.value_type))


def takes_word(kind: pa.DataType) -> bool:
    """Whether `texts` reads a type: text, a list of texts, a number or a truth value."""
    return takes_text(kind) or is_number(values_of(kind)) or pa.types.is_boolean(values_of(kind))


def takes_number(kind: pa.DataType) -> bool:
    """Whether `whole_numbers` and `numbers` read a type."""
    kind = values_of(kind)
    return is_number(kind) or is_text(kind) or pa.types.is_null(kind)


def texts(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, np.ndarray]:
    """large_string, letter for letter, and bool (rows,): where the bytes are no UTF-8 (null in the first).

    Of a list it is the first text that is not blank, else the first one.
    """
    array = plain(column)
    if is_list(array.type):
        inner, unreadable = texts(array.flatten())
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        if len(array) and pc.max(lengths).as_py() <= 1:  # nothing to choose from, as in the published table
            has_one = lengths.to_numpy().astype(bool)
            broken = np.zeros(len(array), bool)
            broken[has_one] = unreadable
            if has_one.all():
                return inner, broken
            return inner.take(pa.array(np.cumsum(has_one) - 1, pa.int64(), mask=~has_one)), broken
        parents = pc.list_parent_indices(array).to_numpy()
        has_words = ~is_blank(inner)
        # by list, those with words first; the sort is stable
        order = np.lexsort((~has_words & ~unreadable, parents))
        rows, at = np.unique(parents[order], return_index=True)
        take = np.full(len(array), -1)
        take[rows] = order[at]
        found = pa.array(take, pa.int64(), mask=take < 0)
        return inner.take(found), np.isin(np.arange(len(array)), parents[unreadable])
    if not is_text(array.type):
        return array.cast(pa.large_string()), np.zeros(len(array), bool)
    raw = array.cast(pa.large_binary())
    try:
        return raw.cast(pa.large_string()), np.zeros(len(array), bool)
    except pa.ArrowInvalid:
        unreadable = np.array([value is not None and not _is_utf8(value) for value in raw.to_pylist()], dtype=bool)
        return pc.if_else(pa.array(~unreadable), raw, None).cast(pa.large_string()), unreadable


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_blank(text: pa.Array) -> np.ndarray:
    """bool (rows,): null, empty, or nothing that can be seen."""
    blank = pc.match_substring_regex(text, BLANK)
    return pc.fill_null(blank, True).to_numpy(zero_copy_only=False)


def whole_numbers(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """int64 out of any number or text; null where it is none, or no whole one. Never through a float."""
    array = plain(column)
    kind = array.type
    if is_text(kind):
        digits = pc.extract_regex(texts(array)[0], WHOLE)
        return pc.struct_field(digits, "digits").cast(pa.int64())
    if pa.types.is_floating(kind):
        array = array.cast(pa.float64())
        whole = pc.and_(pc.equal(array, pc.floor(array)), pc.less_equal(pc.abs(array), LARGEST))
        return pc.if_else(whole, array, None).cast(pa.int64())
    if pa.types.is_decimal(kind):
        return whole_numbers(array.cast(pa.string()))
    if pa.types.is_uint64(kind):
        array = pc.if_else(pc.less_equal(array, pa.scalar(2**63 - 1, pa.uint64())), array, None)
    return array.cast(pa.int64())


def numbers(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """float64 out of any number or text; null where it is none."""
    array = plain(column)
    if not is_text(array.type):
        return array.cast(pa.float64(), safe=False)
    text = pc.utf8_trim_whitespace(texts(array)[0])
    return pc.if_else(pc.match_substring_regex(text, NUMBER), text, None).cast(pa.float64())
