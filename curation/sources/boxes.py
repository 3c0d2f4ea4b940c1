"""Face boxes as people store them: four numbers in a list, in text, or in named fields, read into one list."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.sources.columns import is_list, is_number, is_text, plain, texts, values_of

CORNERS = (("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"))
SIZES = (("x", "y", "w", "h"), ("x", "y", "width", "height"), ("left", "top", "width", "height"))
ACCEPTED = (
    'four numbers x1, y1, x2, y2 as a list, as text ("[1, 2, 3, 4]", "(1, 2, 3, 4)"), or as a struct {x1, y1, x2, y2} or '
    "{x, y, w, h}"
)
NUMBER = r"""["']?(?P<{}>-?(?:\d{{1,15}}(?:\.\d{{0,15}})?|\.\d{{1,15}})(?:[eE][-+]?\d{{1,2}})?)["']?"""
FOUR = r"^\s*" + r"(?:\s*[,;]\s*|\s+)".join(NUMBER.format(name) for name in "abcd") + r"\s*$"
USUAL = r"^\[-?\d{1,9}, -?\d{1,9}, -?\d{1,9}, -?\d{1,9}\]$"  # as the published table has it
BOX = pa.large_list(pa.float64())


def takes_box(kind: pa.DataType) -> bool:
    """Whether `boxes` reads a type."""
    kind = values_of(kind)
    if pa.types.is_struct(kind):
        return _fields([field.name for field in kind]) is not None
    if is_list(kind):
        inner = values_of(kind.value_type)
        return is_number(inner) or takes_box(inner)
    return is_text(kind) or pa.types.is_null(kind)


def boxes(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """large_list<double>: x1, y1, x2, y2 in a sound row; null, or another count, where it is no box."""
    array = plain(column)
    if pa.types.is_struct(array.type):
        return _of_struct(array)
    if not is_list(array.type):
        return _of_text(texts(array)[0])
    inner = values_of(array.type.value_type)
    if is_number(inner):
        return array.cast(BOX, safe=False)
    if is_text(inner):
        # one text of four numbers, or four texts of one
        values = texts(array.values)[0].cast(pa.string())
        readable = pa.ListArray.from_arrays(array.offsets.cast(pa.int32()), values, mask=array.is_null())
        return _of_text(pc.binary_join(readable, ", "))
    # a list of one box
    single = pc.equal(pc.list_value_length(array), 1)
    return boxes(pc.list_element(pc.if_else(pc.fill_null(single, False), array, _one_null(array)), 0))


def _one_null(array: pa.Array) -> pa.Scalar:
    return pa.scalar([None], array.type)


def _of_text(text: pa.Array) -> pa.Array:
    usual = pc.fill_null(pc.match_substring_regex(text, USUAL), False)
    if not pc.any(usual).as_py():
        return _of_any_text(text)
    # by itself, since it is ten times as fast
    numbers = pc.split_pattern(pc.ascii_trim(text.filter(usual), "[]"), ", ")
    four = pa.LargeListArray.from_arrays(numbers.offsets.cast(pa.int64()), numbers.flatten().cast(pa.float64()))
    if len(four) == len(text):
        return four
    # a row's place among those of its kind
    usual = usual.to_numpy(zero_copy_only=False)
    place = np.where(usual, np.cumsum(usual) - 1, len(four) + np.cumsum(~usual) - 1)
    return pa.concat_arrays([four, _of_any_text(text.filter(pa.array(~usual)))]).take(pa.array(place))


def _of_any_text(text: pa.Array) -> pa.Array:
    # numpy 2 writes a list of its numbers as [np.int64(1), ...]
    bare = pc.replace_substring_regex(text, r"\bnp\.\w+\(([^()]*)\)", r"\1")
    for brackets in (r"\[(.*)\]", r"\((.*)\)", r"\[(.*)\]"):
        bare = pc.replace_substring_regex(bare, rf"(?s)^\s*{brackets}\s*$", r"\1")
    fields = pc.extract_regex(bare, FOUR)
    four = _listed([pc.struct_field(fields, name).cast(pa.float64()) for name in "abcd"])
    objects = pc.fill_null(pc.match_substring_regex(text, r"^\s*\{"), False)
    if pc.any(objects).as_py():
        named = [_of_object(value) if here else None for value, here in zip(text.to_pylist(), objects.to_pylist())]  # noqa: B905
        four = pc.if_else(objects, pa.array(named, BOX), four)
    return four


def _of_object(text: str) -> list[float] | None:
    try:
        value = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return None
    named = {str(key).lower(): number for key, number in value.items()}
    fields = _fields(list(named))
    if fields is None or not all(isinstance(named[name], int | float) for name in fields):
        return None
    try:
        first, second, third, fourth = (float(named[name]) for name in fields)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return [first, second, first + third, second + fourth] if fields in SIZES else [first, second, third, fourth]


def _of_struct(array: pa.Array) -> pa.Array:
    names = [field.name for field in array.type]
    fields = _fields(names)
    assert fields is not None  # checked before any work
    by_name = {name.lower(): name for name in names}
    columns = [plain(pc.struct_field(array, by_name[name])).cast(pa.float64(), safe=False) for name in fields]
    if fields in SIZES:
        columns[2:] = [pc.add(columns[0], columns[2]), pc.add(columns[1], columns[3])]
    return _listed(columns)


def _fields(names: list[str]) -> tuple[str, ...] | None:
    lowered = {name.lower() for name in names}
    return next((fields for fields in (*CORNERS, *SIZES) if lowered.issuperset(fields)), None)


def _listed(columns: list[pa.Array]) -> pa.Array:
    """Lists of four out of four columns; null where one of them is."""
    whole = pc.and_(
        pc.and_(*(column.is_valid() for column in columns[:2])), pc.and_(*(c.is_valid() for c in columns[2:]))
    )
    rows = pa.RecordBatch.from_arrays(columns, list("abcd"))
    flat = pa.array(rows.to_tensor(null_to_nan=True, row_major=True).to_numpy().reshape(-1), pa.float64())
    lists = pa.FixedSizeListArray.from_arrays(flat, 4).cast(BOX)
    return pc.if_else(whole, lists, pa.scalar(None, BOX))
