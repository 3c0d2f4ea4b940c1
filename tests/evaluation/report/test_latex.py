"""The table as LaTeX: what it says, and that any name can stand in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from evaluation.head import Head
from evaluation.metrics.base import Figure, NotMeasured
from evaluation.report.latex import escaped, latex
from evaluation.sets import Method
from evaluation.statistics import Estimate
from evaluation.table import Cell, Column, not_measured

METHODS = [Method("our_method & co", (), (), Path("x")), Method("100%", (), ())]
HEAD = Head("2 references; set abc", ("leakage: not checked",), (("steps", ("50", "not said")),))


def column(*closes, alone=False):
    cells = {
        method.name: Cell(Estimate(0.4124 + place, *((float("nan"),) * 2 if alone and place else (0.38, 0.444)), 50), place, 50, (0.9, 0.1)[place],
                          close, people=48)
        for place, (method, close) in enumerate(zip(METHODS, closes, strict=True))
    }  # fmt: skip
    return Column(Figure("FaceSim, dlib", "x", says="the largest face"), cells)


def test_both_protocols_with_intervals_n_people_and_notes():
    columns = [column(False, False), not_measured(NotMeasured("FaceSim_2", "reconstructed", "no code {here}"), METHODS)]
    text = latex(columns, METHODS, HEAD)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows) and len(rows) == 4
    assert rows[0] == r"figure & protocol & our\_method \& co & 100\% \\"
    assert rows[1] == r"steps &  & 50 & not said \\"
    assert r"FaceSim, dlib & sound & \textbf{0.412} {\scriptsize [0.380, 0.444] N=50 of 48 people}" in rows[2]
    assert r"1 left out" in rows[2] and rows[3] == r"FaceSim\_2 & reconstructed & n/a & n/a \\"
    assert r"n/a: no code \{here\}.\par" in text and "leakage: not checked." in text
    for word in ("toprule", "midrule", "bottomrule"):
        assert rf"\{word}" in text
    assert text.count(r"\begin{") == text.count(r"\end{")
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_what_is_within_noise_is_marked_and_nothing_is_bold():
    text = latex([column(False, True)], METHODS, HEAD)
    assert r"1.412$\sim$" in text and r"\textbf" not in text


def test_one_reference_makes_nothing_bold():
    text = latex([column(False, False, alone=True)], METHODS, HEAD)
    assert r"\textbf" not in text, "there is no interval that could hold 0"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a_b", r"a\_b"), (r"\input{x}", r"\textbackslash{}input\{x\}"), ("~^", r"\textasciitilde{}\textasciicircum{}")],
)
def test_a_name_is_no_command(text, shown):
    assert escaped(text) == shown
