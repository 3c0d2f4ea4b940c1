"""Tables as people have them: every Arrow encoding of a text, a number, a box, letter for letter."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from curation.sources.boxes import boxes, takes_box
from curation.sources.columns import find_column, is_blank, takes_number, takes_text, texts, whole_numbers

WORDS = ["one man", None, 'says "open"', "A man's hat", "['a', \\ b]", "naïve 人 👋", " spaces "]
TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]  # fmt: skip
BYTES_TYPES = [pa.binary(), pa.large_binary(), pa.binary_view()]
LISTS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view, lambda kind: pa.list_(kind, 1)]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_is_read_letter_for_letter(kind):
    column = pa.chunked_array([pa.array(WORDS, pa.string()).cast(kind), pa.array(WORDS[:1], pa.string()).cast(kind)])
    assert takes_text(kind)
    assert texts(column)[0].to_pylist() == [*WORDS, WORDS[0]]


@pytest.mark.parametrize("kind", BYTES_TYPES, ids=str)
def test_bytes_are_utf8(kind):
    column = pa.array([text and text.encode() for text in WORDS], kind)
    assert takes_text(kind)
    assert texts(column)[0].to_pylist() == WORDS


@pytest.mark.parametrize("list_of", LISTS)
@pytest.mark.parametrize("kind", [*TEXT_TYPES[:4], pa.binary()], ids=str)
def test_a_list_of_texts_is_its_first(list_of, kind):
    inner = pa.string() if pa.types.is_dictionary(kind) else kind
    column = pa.array([None if text is None else [text] for text in WORDS], list_of(inner))
    assert takes_text(list_of(kind))
    assert texts(column)[0].to_pylist() == WORDS


def test_of_several_texts_the_first_that_says_something():
    column = pa.array([["a", "b"], [None, "b"], ["", " ", "c"], [], None, [None], [""], ["\u200b", "d"]])
    assert texts(column)[0].to_pylist() == ["a", "b", "c", None, None, None, "", "d"]
    assert texts(column.slice(1, 3))[0].to_pylist() == ["b", "c", None]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()], ids=str)
def test_bytes_that_are_no_utf8_cost_their_row_only(kind):
    raw = pa.array([b"good", b"caf\xe9 \xff!", None, "é".encode()], pa.binary())
    column = raw if kind == pa.binary() else raw.view(pa.string()).cast(kind)
    text, unreadable = texts(column)
    assert text.to_pylist() == ["good", None, None, "é"]
    assert unreadable.tolist() == [False, True, False, False]
    text, unreadable = texts(pa.array([[b"good"], [b"\xff"], [b"\xc3"], [], None], pa.list_(pa.binary())))
    assert text.to_pylist() == ["good", None, None, None, None]
    assert unreadable.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    "text",
    ["", " ", "\t\n", "\u200b", "\u200b\ufeff\u2060", "\u3000", "\xa0", "\u2800", "\u3164", "\u115f\u1160", "\u180e",
     "\u200e\u200f", "\u00ad", "\ufe0f", "\u2028", "\u034f", "\uffa0", None],
)  # fmt: skip
def test_what_cannot_be_seen_is_blank(text):
    assert is_blank(pa.array([text], pa.large_string())).tolist() == [True]


@pytest.mark.parametrize("text", ["a", "\u200ba", ".", "人", "👋", "\u0301e", "ㅎ", "0"])
def test_what_can_be_seen_is_not_blank(text):
    assert is_blank(pa.array([text], pa.large_string())).tolist() == [False]


LARGE = 2**60 + 1


@pytest.mark.parametrize(
    "column",
    [
        *(pa.array([7, None, -1 if size < 8 else 9], kind) for size, kind in enumerate(
            [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.string()][:7])),
        pa.array(["7", None, "-1"]), pa.array(["7.0", "x", " -1 "]), pa.array([b"7", b"\xff", b"-1"]),
        pa.array([7.0, float("nan"), -1.0]), pa.array([7.0, 0.5, -1.0]), pa.array([7.0, float("inf"), -1.0]),
        pa.array([Decimal(7), None, Decimal(-1)]), pa.array([7, None, -1]).dictionary_encode(),
        pa.array([7.0, 1e300, -1.0]),
    ],
)  # fmt: skip
def test_whole_numbers_come_in_any_width(column):
    assert takes_number(column.type)
    assert whole_numbers(column).to_pylist() == [7, None, -1]


def test_a_null_does_not_round_its_neighbours():
    assert whole_numbers(pa.array([LARGE, None])).to_pylist() == [LARGE, None]
    assert whole_numbers(pa.array([LARGE, 2**63, 2**64 - 1], pa.uint64())).to_pylist() == [LARGE, None, None]
    assert whole_numbers(pa.array([str(LARGE)[:18]])).to_pylist() == [int(str(LARGE)[:18])]


BOX = [1.0, 2.0, 30.0, 40.0]
CORNERS = {"x1": 1, "y1": 2, "x2": 30, "y2": 40}


@pytest.mark.parametrize(
    "column",
    [
        *(pa.array([[1, 2, 30, 40], None], pa.list_(kind)) for kind in (pa.int8(), pa.uint16(), pa.int64(), pa.float32())),
        pa.array([[1, 2, 30, 40], None], pa.large_list(pa.int64())),
        pa.array([[1, 2, 30, 40], None], pa.list_view(pa.int64())),
        pa.array([[1, 2, 30, 40], None], pa.list_(pa.int64(), 4)),
        pa.array([[Decimal(1), Decimal(2), Decimal(30), Decimal(40)], None]),
        pa.array([["1", "2", "30", "40"], None]),
        pa.array([["[1, 2, 30, 40]"], None]),
        pa.array([[[1, 2, 30, 40]], None]),
        pa.array([[CORNERS], None]),
        pa.array([CORNERS, None]),
        pa.array([{"X1": 1.0, "Y1": 2.0, "X2": 30.0, "Y2": 40.0, "score": 0.5}, None]),
        pa.array([{"x": 1, "y": 2, "w": 29, "h": 38}, None]),
        pa.array([{"x": 1, "y": 2, "width": 29, "height": 38}, None]),
        pa.array([{"left": 1, "top": 2, "right": 30, "bottom": 40}, None]),
        pa.array([{"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}, None]),
        pa.array(["[1, 2, 30, 40]", None], pa.string_view()),
        pa.array(["(1,2,30,40)", "(1, 2, 3"]).dictionary_encode(),
        pa.array([b" [1.0, 2, 3e1, 40.] ", b"\xff"]),
        pa.array(["[np.int64(1), np.float32(2.0), np.int64(30), np.int64(40)]", "[np.int64(1), np.int64(2)]"]),
        pa.array(['{"x1": 1, "y1": 2, "x2": 30, "y2": 40}', '{"a":' * 9999 + "1" + "}" * 9999]),
        pa.array(['{"x1": 1, "y1": 2, "x2": 30, "y2": 40}', f'{{"x1": {"1" * 999}, "y1": 2, "x2": 30, "y2": 40}}']),
        pa.array(["1 2 30 40", "one"]), pa.array(["[ 1  2 30 40]", "[1, 2, 30, 40"]), pa.array(["[[1, 2, 30, 40]]", "[]"]),
        pa.array(['["1", "2", "30", "40"]', "[1, null, 30, 40]"]), pa.array(["[1, 2, 30, 40]", "[1, 2, 30, 40, 5]"]),
        pa.array(['{"x1": 1, "y1": 2, "x2": 30, "y2": 40}', '{"x1": 1, "y1": 2}']),
        pa.array(["{'x': 1, 'y': 2, 'w': 29, 'h': 38}", "{'x1"]),
    ],
)  # fmt: skip
def test_a_box_is_four_numbers_however_they_are_stored(column):
    assert takes_box(column.type)
    assert boxes(column).to_pylist() == [BOX, None]
    assert boxes(pa.chunked_array([column.slice(1), column])).to_pylist() == [None, BOX, None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.bool_()), pa.struct({"a": pa.int8()}), pa.timestamp("s")])
def test_other_types_are_no_box(kind):
    assert not takes_box(kind)


def test_a_name_may_be_in_capitals():
    assert find_column(["URL", "url"], "url") == "url"
    assert find_column(["Url"], "URL") == "Url"
    assert find_column(["uri"], "url") is None
