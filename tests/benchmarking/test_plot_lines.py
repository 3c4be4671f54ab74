"""Which rows make a line, and in which order and colour."""

from dataclasses import replace

import pytest

from benchmark_record import SUBJECTS, record
from vidprune.benchmarking.plot_lines import (
    Line,
    asked,
    contests,
    is_dense,
    lines_of,
    share,
    without_r,
)
from vidprune.benchmarking.report import BenchmarkRow

ROWS = contests(record().rows)[1]


def lines(rows: tuple[BenchmarkRow, ...] = ROWS) -> dict[str, Line]:
    found = lines_of(rows)
    assert len({line.name for line in found}) == len(found)
    return {line.name: line for line in found}


def test_a_reducer_over_its_r_is_a_line_and_dense_models_are_points() -> None:
    assert {name: line.joined for name, line in lines().items()} == {
        "sta": True,
        "random": True,
        "random:fold=true": True,
        "dense, fewer frames": False,
        "dense, smaller frames": False,
        "dense, smaller model": False,
        "dense, fewer views": False,
    }


def test_dense_models_come_last() -> None:
    assert [name.startswith("dense") for name in lines()] == [False] * 3 + [True] * 4


def test_r_is_in_the_order_of_numbers_and_arithmetic_falls() -> None:
    """Rows come as they were asked for: 16, 128, 8."""
    assert [row.setting.reducer for row in lines()["sta"].rows] == [
        "sta:r=8",
        "sta:r=16",
        "sta:r=128",
    ]
    for line in lines().values():
        shares = [share(row, ROWS[0]) for row in line.rows]
        assert shares == sorted(shares, reverse=True)


def test_every_row_but_the_dense_one_is_in_one_line() -> None:
    rows = [row for line in lines().values() for row in line.rows]
    assert len(rows) == len(ROWS) - 1 == len(SUBJECTS)
    assert {row.setting for row in rows} == {row.setting for row in ROWS[1:]}


def test_the_dense_model_in_another_mode_is_no_alternative() -> None:
    rows = contests(record(modes=("eager", "graph")).rows)[0]
    assert [is_dense(row, rows[0]) for row in rows[:4]] == [True, True, False, False]
    assert sum(is_dense(row, rows[0]) for row in rows) == 2
    assert set(lines(rows)) == set(lines()) - {"dense, fewer views"}


def test_chance_is_grey_and_folding_is_told_apart_by_its_dashes() -> None:
    found = lines()
    plain, folded = found["random"], found["random:fold=true"]
    grey = plain.colour.removeprefix("#")
    assert len({grey[:2], grey[2:4], grey[4:]}) == 1
    assert plain.colour == folded.colour != found["sta"].colour
    assert plain.dashes != folded.dashes
    assert plain.filled != folded.filled


def test_every_reducer_there_is_has_a_colour_and_a_marker_of_its_own() -> None:
    rows = ROWS[:1] + tuple(
        replace(row, setting=replace(row.setting, reducer=f"{name}:r=8"))
        for row in ROWS[1:2]
        for name in ("sta", "random", "grid", "tome", "run-length", "vid-tldr")
    )
    found = lines(rows).values()
    assert len({line.colour for line in found}) == len({line.marker for line in found}) == 6


def test_a_reducer_of_somebody_else_is_drawn_as_well() -> None:
    row = replace(ROWS[1], setting=replace(ROWS[1].setting, reducer="Mine(r=3, depth=2)"))
    assert lines((ROWS[0], row))["Mine(r=3, depth=2)"].rows == (row,)


@pytest.mark.parametrize(
    ("reducer", "bare"),
    [
        ("sta:r=64", "sta"),
        ("sta:r=64,order=FBF", "sta:order=FBF"),
        ("random:fold=true,r=8", "random:fold=true"),
        ("tome:r=8,schedule=decreasing,mode=drop", "tome:schedule=decreasing,mode=drop"),
        ("run-length:threshold=0.1", "run-length:threshold=0.1"),
        ("vid-tldr:r=8/4", "vid-tldr"),
        ("Mine(r=3):r=3", "Mine(r=3):r=3"),
        ("none", "none"),
    ],
)
def test_a_text_without_its_r(reducer: str, bare: str) -> None:
    assert without_r(reducer) == bare


def test_shares_are_of_all_that_a_video_costs() -> None:
    assert [share(row, ROWS[0]) for row in ROWS[:3]] == pytest.approx([100, 80, 75])
    assert share(ROWS[-1], ROWS[0]) == pytest.approx(100 * 5 / 15)


def test_what_rivals_are_matched_to_is_what_was_asked_for() -> None:
    assert [(r, row.setting.reducer) for r, row in asked(ROWS)] == [
        ("16", "sta:r=16"),
        ("128", "sta:r=128"),
        ("8", "sta:r=8"),
    ]


def test_of_several_that_were_asked_for_the_first_names_the_axis() -> None:
    other = replace(ROWS[1], setting=replace(ROWS[1].setting, reducer="sta:r=8,order=FBF"))
    bare = replace(ROWS[1], setting=replace(ROWS[1].setting, reducer="run-length:threshold=0.1"))
    assert [r for r, _ in asked((ROWS[0], ROWS[1], other, bare))] == ["16"]
    assert list(asked((ROWS[0], bare))) == []
    rival = replace(
        ROWS[1], setting=replace(ROWS[1].setting, reducer="sta:r=9", matched="tome:r=8")
    )
    assert [r for r, _ in asked((ROWS[0], ROWS[1], rival))] == ["16"]
    assert list(asked(ROWS[:1])) == []


def test_contests_are_told_apart_by_their_number() -> None:
    """Two models of one architecture cost the same in the same dtype and batch."""
    first = contests(record(batches=(8,)).rows)[0]
    second = tuple(replace(row, contest=1) for row in first)
    assert contests((*first, *second)) == [first, second]
