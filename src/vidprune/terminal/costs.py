"""Tables of what pruning costs and saves."""

from collections.abc import Iterator, Mapping, Sequence

from rich.box import SIMPLE
from rich.table import Column, Table
from rich.text import Text

from vidprune.benchmarking.report import Benchmark
from vidprune.benchmarking.table import NEAR, NOTES, tables
from vidprune.insight.summary import Summary
from vidprune.macs import Costs
from vidprune.report import Demo, hardware
from vidprune.terminal.words import INTERVALS, interval, right

_WIDE = 120
_IMPLIED = ("efficiency", "p50, ms", "memory, MiB", "over bound")


_DEMO_COLUMNS = ("top-1", "change", "same", "KL to dense", "GMACs", "clips/s")


def demo_table(found: Demo) -> Table:
    """What pruning cost and saved, against the dense model in the first row."""
    dense = found.rows[0]
    table = Table(
        Column("reducer", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in _DEMO_COLUMNS),
        box=SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{found.num_clips} generated clips that the model has not seen",
        caption=f"{hardware(found.environment)}, {found.dtype}, batch {found.batch_size}; forward "
        "passes timed in turn. Same: the class that dense gives. KL: with its standard error.",
    )
    for row in found.rows:
        table.add_row(
            row.name(dense),
            f"{row.top1:.1f} %",
            f"{row.top1 - dense.top1:+.1f}" if row is not dense else "",
            f"{row.agreement:.1f} %" if row is not dense else "",
            f"{row.kl_to_dense:.3f}±{row.kl_standard_error:.3f}" if row is not dense else "",
            f"{row.gmacs_per_view:.2f}",
            f"{row.clips_per_second:.3g} ({row.clips_per_second / dense.clips_per_second:.2f}x)",
        )
    return table


def costs_table(found: Mapping[str, Costs]) -> Table:
    """What a view costs with each reducer, in 10^9 multiply-accumulates; of a model that attends
    in windows also whether gaps are closed or filled, since closed ones may not be possible."""
    figures = ("GMACs", "of dense", "linear", "attention", "selection")
    windowed = any(cost.gaps for cost in found.values())
    table = Table(
        Column("reducer", overflow="fold"),
        *(Column(name, justify="right", no_wrap=True) for name in figures),
        Column("tokens left", overflow="fold"),
        # As wide as its words, which no narrow terminal is to cut.
        *([Column("gaps", min_width=len("filled,"))] if windowed else []),
        box=SIMPLE,
    )
    for reducer, cost in found.items():
        parts = (cost.linear, cost.attention, cost.selection)
        table.add_row(
            reducer,
            f"{cost.gmacs_per_view:.2f}",
            f"{100 * cost.gmacs_per_view / cost.gmacs_dense:.1f} %",
            *(f"{part:.2f}" for part in parts),
            _few(cost.tokens),
            *([_alike(cost.gaps)] if windowed else []),
        )
    return table


def _few(tokens: Sequence[int]) -> str:
    """All of a few numbers, the ends of many."""
    shown = [str(count) for count in tokens]
    return ", ".join(shown if len(shown) <= 4 else (shown[0], "...", shown[-1]))


def _alike(gaps: Sequence[str]) -> str:
    """What all stages have in common, or else that of each."""
    return ", ".join(gaps if len(set(gaps)) > 1 else gaps[:1])


def summary_table(found: Summary) -> Table:
    """What each reducer leaves, and what that holds, after its last stage."""
    figures = ("GMACs", "ms", "same\nclass", "tokens\nleft", "GradNorm\nheld", "at\nrandom")
    table = Table(
        Column("reducer", overflow="fold"),
        *right(*figures, "trajec-\ntory sum"),
        box=SIMPLE,
        title=f"{found.num_clips} clip{'s' if found.num_clips > 1 else ''}",
        caption="Of each clip one view; ms: of a forward of one clip here. GradNorm held: its "
        "share at the places that are left, beside what as many places at random hold; "
        "trajectory sum: after the last block. " + (INTERVALS if found.num_clips > 1 else ""),
    )
    for row in found.rows:
        last = row.stages[-1] if row.stages else None
        table.add_row(
            Text(row.reducer),
            f"{row.gmacs_per_view:.2f}",
            f"{row.milliseconds:.0f}",
            "" if row is found.rows[0] else interval(row.same_class, ".1f", " %"),
            "" if last is None else f"{last.tokens:.0f}",
            "" if last is None else interval(last.gradnorm, ".1f", " %"),
            "" if last is None else f"{last.at_random:.1f} %",
            interval(row.trajectory[-1], ".2f"),
        )
    return table


def benchmark_tables(found: Benchmark, *, width: int) -> Iterator[Table | Text]:
    """One table per group of runs that took turns, and at the end how to read them.

    Where `width` letters are too few for all columns, those that others imply are left out.
    """
    for text in tables(found):
        table = Table(title=Text(text.title, style="bold"), title_justify="left", box=SIMPLE)
        table.pad_edge = False
        shown = [n for n, h in enumerate(text.headings) if width >= _WIDE or h not in _IMPLIED]
        table.add_column(text.headings[0], min_width=16, overflow="fold")
        for number in shown[1:]:
            table.add_column(text.headings[number], justify="right", no_wrap=True)
        for line in text.lines:
            # Intervals go where they do not fit; how near speed-ups are needs theirs.
            short = [
                cell.partition(" (")[0] if width < _WIDE and heading in NEAR else cell
                for cell, heading in zip(line, text.headings, strict=True)
            ]
            table.add_row(*(Text(short[number]) for number in shown))
        yield table
    yield Text(NOTES, style="dim")
