"""Tables of curves: a row for every method, a column for every cost."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import compress
from operator import attrgetter

from records import RESULTS

from vidprune.intervals import Interval
from vidprune.report import hardware
from vidprune.tradeoff import Point, TradeOff

# A point belongs to the column that it is nearest to.
COLUMNS = (0.9, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15)
_NEAR = 0.02


def curve_record(name: str) -> TradeOff:
    return TradeOff.from_json((RESULTS / "curves" / name / "curves.json").read_text("utf-8"))


def curves(record: str, measure: Callable[[Point], Interval | None], form: str) -> str:
    """Of one record, what every method has of a measure at every cost, with its interval."""
    found = curve_record(record)
    return "\n".join([*_grid(found.points[1:], measure, form), "", _said(found), ""])


def _grid(
    points: Sequence[Point], measure: Callable[[Point], Interval | None], form: str
) -> list[str]:
    """Methods down, costs across, as far as there is anything."""
    methods = dict.fromkeys(point.method for point in points)
    rows = {method: _cells(points, method, measure, form) for method in methods}
    rows = {method: cells for method, cells in rows.items() if any(cells)}
    filled = [any(column) for column in zip(*rows.values(), strict=True)]
    return [
        _line("", compress([f"{share:.0%}" for share in COLUMNS], filled)),
        f"|---|{'--:|' * sum(filled)}",
        *(_line(_shown(method), compress(cells, filled)) for method, cells in rows.items()),
    ]


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {name}{' ' if name else ''}| {' | '.join(cells)} |"


def _cells(
    points: Sequence[Point], method: str, measure: Callable[[Point], Interval | None], form: str
) -> list[str]:
    cells = []
    for share in COLUMNS:
        owned = [p for p in points if p.method == method and measure(p) is not None]
        nearest = min(owned, key=lambda p: abs(p.share - share), default=None)
        near = nearest is not None and abs(nearest.share - share) <= _NEAR
        best = near and min(COLUMNS, key=lambda column: abs(column - nearest.share)) == share
        cells.append(_cell(measure(nearest), form) if best else "")
    return cells


def _cell(value: Interval | None, form: str) -> str:
    assert value is not None, "points without one were left out"
    if value.low is None or value.high is None:
        return f"{value.value:{form}}"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _shown(method: str) -> str:
    dense = method.startswith(("fewer", "smaller"))
    return f"dense, {method}" if dense else f"`{method}`"


def _said(found: TradeOff) -> str:
    dense = found.points[0]
    return (
        f"{found.num_videos} videos, {found.num_classes} classes, dense top-1 "
        f"{dense.top1.value:.1f} % [{dense.top1.low:.1f}, {dense.top1.high:.1f}], "
        f"{found.views_per_video} view{'s' if found.views_per_video > 1 else ''} of a video, "
        f"{dense.gmacs_per_video:.2f} GMACs; {found.dtype}, batch {found.batch_size}, "
        f"{hardware(found.environment)}, {found.date[:10]}: `{found.command}`. In brackets: "
        f"{found.intervals}."
    )


_MEASURES = {
    "change": ("change_points", "+.1f"),
    "over-random": ("over_random_points", "+.1f"),
    "agreement": ("agreement", ".1f"),
    "kl": ("kl_nats", ".3f"),
}
# What is shown of each record; those with every measure are drawn, too.
_SHOWN = {"generated": tuple(_MEASURES), "generated-low": ("change", "over-random", "kl")}
CURVES = tuple(name for name, shown in _SHOWN.items() if len(shown) == len(_MEASURES))
TABLES = {
    f"curves-{name}-{measure}": partial(
        curves, name, attrgetter(_MEASURES[measure][0]), _MEASURES[measure][1]
    )
    for name, shown in _SHOWN.items()
    for measure in shown
}
