"""A benchmark as text: every figure in its cell, and nothing that was not measured."""

from dataclasses import replace

import pytest
from rich.console import Console

import benchmark_record
from vidprune.benchmarking import table as module
from vidprune.benchmarking.table import NEAR, SPEED, markdown, name_of, speed_table, tables
from vidprune.terminal import benchmark_tables


@pytest.fixture
def found():
    return benchmark_record.record()


def test_every_line_has_a_cell_for_every_heading(found):
    for table in tables(found):
        assert table.lines
        assert {len(line) for line in table.lines} == {len(table.headings)}


def test_a_row_shows_its_own_figures(found):
    dense, row = found.rows[0], next(row for row in found.rows if row.setting.reducer != "none")
    table = speed_table([dense, row])
    cells = dict(zip(table.headings, table.lines[1], strict=True))
    speed = row.speed
    assert cells["reducer"] == name_of(row, dense)
    assert cells["GMACs"] == f"{row.gmacs_per_view:.2f}"
    assert cells["clips/s"] == f"{speed.clips_per_second:.2f}"
    quartiles = f"({speed.speed_up_low:.2f}-{speed.speed_up_high:.2f})"
    assert cells["speed-up"].startswith(f"{speed.speed_up:.2f} {quartiles}")
    assert cells["p50, ms"] == f"{speed.latency_p50_ms:.1f}"
    assert "p95, ms" not in cells, "of few repeats"
    often = replace(row, speed=replace(speed, latencies_ms=(400.0,) * 20))
    lines = speed_table([dense, often]).lines
    assert lines[1][SPEED.index("p95, ms")] == f"{speed.latency_p95_ms:.1f}"


def test_a_spread_that_swallows_the_difference_is_marked(found):
    row = next(row for row in found.rows if row.setting.reducer != "none")
    swallowed = replace(row.speed, speed_up=1.1, speed_up_low=0.9, speed_up_high=1.2)
    clear = replace(row.speed, speed_up=1.1, speed_up_low=1.05, speed_up_high=1.2)
    marks = [
        speed_table([found.rows[0], replace(row, speed=speed)]).lines[1][SPEED.index("speed-up")]
        for speed in (swallowed, clear)
    ]
    assert marks == ["1.10 (0.90-1.20) ~", "1.10 (1.05-1.20)"]


def test_what_could_not_be_run_says_why(found):
    row = replace(found.rows[1], speed=None, reason="OutOfMemoryError: no")
    line = speed_table([found.rows[0], row]).lines[1]
    assert line[2] == "OutOfMemoryError: no"
    assert set(line[3:]) == {""}


def test_a_dense_row_is_named_after_what_differs(found):
    dense = found.rows[0]
    own = replace(dense.setting, frames=6, size=dense.setting.size, mode="blocks")
    assert name_of(replace(dense, setting=own), dense) == "none (6 frames, blocks)"
    other = replace(dense.setting, checkpoint="small", size=40)
    assert name_of(replace(dense, setting=other), dense) == "none (small, 40 pixels)"


def test_markdown_holds_every_line_and_what_it_was_taken_on(found):
    text = markdown(found)
    for table in tables(found):
        assert f"### {table.title}" in text
        for name, *figures in table.lines:
            assert f"| {' | '.join((f'`{name}`', *figures))} |" in text
    assert found.command in text
    assert module.NOTES in text


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_whole_numbers(found, width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in benchmark_tables(found, width=width):
        console.print(table)
    shown = console.export_text()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    for table in tables(found):
        for line in table.lines:
            cells = dict(zip(table.headings, line, strict=True))
            wanted = [cells[h].partition(" (")[0] for h in NEAR if h in cells]
            wanted += [cells[h] for h in ("clips/s", "speed-up", "videos/s") if h in cells]
            assert all(cell in shown for cell in wanted)
