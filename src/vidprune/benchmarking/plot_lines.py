"""Which lines a benchmark's plots have and how they look: nothing here draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from vidprune.benchmarking.report import BenchmarkRow
from vidprune.reducers.spec import NONE, REDUCERS

# Okabe & Ito (2008), which people see apart whatever they see of colour; chance is grey.
_COLOURS = {
    "sta": "#0072B2",
    "random": "#8C8C8C",
    "grid": "#009E73",
    "tome": "#D55E00",
    "run-length": "#E69F00",
    "vid-tldr": "#CC79A7",
    "ward": "#000000",
}
_OTHERS = "#56B4E9"
_MARKERS = {
    "sta": "o",
    "random": "d",
    "grid": "P",
    "tome": "X",
    "run-length": "p",
    "vid-tldr": "h",
    "ward": "*",
}
_DASHES = ("-", "--", ":", "-.")
_DENSE = {"fewer frames": "^", "smaller frames": "s", "smaller model": "D", "fewer views": "v"}


def dense_marker(name: str) -> str | None:
    """The marker of a kind of cheaper dense model; None where it is none."""
    return _DENSE.get(name)


@dataclass(frozen=True, kw_only=True)
class Line:
    """Rows that belong together, from dear to cheap: a reducer over its r, a kind of dense model.

    `joined`: whether a line runs through them; dense models are points alone. `colour`, `marker`
    and `dashes` are as matplotlib names them, `filled` is the marker's inside.
    """

    name: str
    rows: tuple[BenchmarkRow, ...]
    colour: str
    marker: str
    dashes: str
    filled: bool
    joined: bool


def contests(rows: Sequence[BenchmarkRow]) -> list[tuple[BenchmarkRow, ...]]:
    """Rows that were timed in turn, the dense model's first."""
    return [tuple(group) for _, group in groupby(rows, lambda row: row.contest)]


def lines_of(rows: Sequence[BenchmarkRow]) -> list[Line]:
    """The lines of one contest in one mode, of which `rows[0]` is the dense model.

    Reducers come in the order of the rows, dense models last. Reducers of one name have one
    colour; those that differ in more than their r have their own dashes.
    """
    dense, *others = rows
    named: dict[str, list[BenchmarkRow]] = {}
    for row in (row for row in others if not is_dense(row, dense)):
        named.setdefault(_name(row, dense), []).append(row)
    ordered = sorted(named, key=lambda name: name in _DENSE)
    sorted_rows = {
        name: tuple(sorted(named[name], key=lambda row: share(row, dense), reverse=True))
        for name in ordered
    }
    return [_line(name, sorted_rows[name], ordered) for name in ordered]


def _line(name: str, rows: tuple[BenchmarkRow, ...], names: Sequence[str]) -> Line:
    if name in _DENSE:
        return Line(
            name=f"dense, {name}",
            rows=rows,
            colour="black",
            marker=_DENSE[name],
            dashes="",
            filled=False,
            joined=False,
        )
    variant = [other for other in names if _kind(other) == _kind(name)].index(name)
    colour, marker, dashes = look_of(name, variant)
    return Line(
        name=name,
        rows=rows,
        colour=colour,
        marker=marker,
        dashes=dashes,
        filled=variant == 0,
        joined=True,
    )


def look_of(reducer: str, variant: int) -> tuple[str, str, str]:
    """Colour and marker of a reducer's text, and the dashes of its variants, counted from 0."""
    kind = _kind(reducer)
    dashes = _DASHES[variant % len(_DASHES)]
    return _COLOURS.get(kind, _OTHERS), _MARKERS.get(kind, "o"), dashes


def _kind(reducer: str) -> str:
    return reducer.partition(":")[0]


def _name(row: BenchmarkRow, dense: BenchmarkRow) -> str:
    """A reducer's text without its r, or in what a dense model is less than the first, or ""."""
    own, whole = row.setting, dense.setting
    if own.reducer != NONE:
        return without_r(own.reducer)
    if own.views is not None:
        return "fewer views"
    if own.checkpoint != whole.checkpoint:
        return "smaller model"
    if own.frames != whole.frames:
        return "fewer frames"
    return "smaller frames" if own.size != whole.size else ""


def without_r(reducer: str) -> str:
    """A reducer's text without its r; what is no such text stays as it is."""
    name, _, options = reducer.partition(":")
    if name not in REDUCERS:
        return reducer
    kept = ",".join(option for option in options.split(",") if not option.startswith("r="))
    return f"{name}:{kept}" if kept else name


def share(row: BenchmarkRow, dense: BenchmarkRow) -> float:
    """A row's arithmetic for a video in per cent of the dense model's."""
    views = 1.0
    if row.setting.views is not None:
        views = row.setting.views / views_of([dense])
    return 100 * views * row.gmacs_per_view / row.gmacs_dense


def is_dense(row: BenchmarkRow, dense: BenchmarkRow) -> bool:
    """Whether it is the dense model itself, in whatever mode."""
    return row.setting.reducer == NONE and _name(row, dense) == ""


def views_of(rows: Sequence[BenchmarkRow]) -> int:
    """How many views of a video the dense model was given; 1 without videos."""
    whole = rows[0].end_to_end
    return 1 if whole is None else whole.views_per_video


def asked(rows: Sequence[BenchmarkRow]) -> Iterator[tuple[str, BenchmarkRow]]:
    """Each r, as text, of the first reducer that was asked for: rivals are matched to these."""
    mine = [row for row in rows if row.setting.matched is None and row.setting.reducer != NONE]
    for row in mine:
        reducer = row.setting.reducer
        if without_r(reducer) == without_r(mine[0].setting.reducer) != reducer:
            yield _r(reducer), row


def _r(reducer: str) -> str:
    options = reducer.partition(":")[2].split(",")
    return next(option for option in options if option.startswith("r=")).removeprefix("r=")
