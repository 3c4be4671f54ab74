"""Tables of curves: a row for every method, a column for every cost."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any

from records import RESULTS

from vidprune.drawing.tradeoff import draw_tradeoff
from vidprune.intervals import METHOD, Interval
from vidprune.report import hardware
from vidprune.tradeoff import Point, TradeOff

Measure = Callable[[Point], Interval | None]

# A point belongs to the column that it is nearest to.
COLUMNS = (0.9, 0.75, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15)
_NEAR = 0.02
_DENSE = ("fewer", "smaller")
# What r costs, of a model with J-HMDB's grid and width.
AMOUNTS = {16: 0.8464, 32: 0.6972, 48: 0.5645, 64: 0.4485, 80: 0.3491, 96: 0.2663}
# Clips of a video that were tried.
SEGMENTS = (1, 2, 4)


def curve_record(name: str) -> TradeOff:
    return TradeOff.from_json((RESULTS / "curves" / name / "curves.json").read_text("utf-8"))


def curves(record: str, measure: Measure, form: str) -> str:
    """Of one record, what every method has of a measure at every cost, with its interval."""
    found = curve_record(record)
    heads = {share: f"{share:.0%}" for share in COLUMNS}
    return "\n".join([*_grid(found.points[1:], measure, form, heads), "", _said(found), ""])


def alternatives(record: str) -> str:
    """Cheaper dense models, each at the cost that it has."""
    found = curve_record(record)
    lines = [
        "| dense | dense cost | change of top-1 | same class, % | KL, nats |",
        "|---|--:|--:|--:|--:|",
    ]
    for point in sorted(found.points[1:], key=lambda point: -point.share):
        if point.method.startswith(_DENSE):
            cells = (
                f"{point.share:.1%}",
                cell(point.change_points, "+.1f"),
                cell(point.agreement, ".1f"),
                cell(point.kl_nats, ".3f"),
            )
            model = point.method == "smaller model"
            lines.append(_line(point.method if model else point.setting, cells))
    return "\n".join([*lines, "", _said(found), ""])


def amounts(measure: Measure, form: str) -> str:
    """The same at the costs of so many r."""
    found = curve_record("amounts")
    heads = {share: f"r = {r}, {share:.0%}" for r, share in AMOUNTS.items()}
    return "\n".join([*_grid(found.points[1:], measure, form, heads), "", _said(found), ""])


def actor_record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / "curves" / name / "actors.json").read_text("utf-8"))


def actors_kept(*names: str) -> Measure:
    """The share of the actors that stays at a point of these records, in per cent."""
    rows = [row for name in names for row in actor_record(name)["rows"]]
    shares = {row["setting"]: Interval(**row["actors"]) for row in rows}
    return lambda point: shares.get(point.setting)


def draw_curves(name: str, folder: Path) -> Path:
    """The plot of a record, with what stays of the actors."""
    told = (RESULTS / "curves" / name / "actors.json").exists()
    more = [("actors' patches that stay, %", actors_kept(name))] if told else []
    _, png = draw_tradeoff(curve_record(name), folder / f"curves-{name}", more)
    return png


def actors(*names: str) -> str:
    """The share of the actors that stays at every cost, in per cent, of these records."""
    found = [actor_record(name) for name in names]
    points = [point for name in names for point in curve_record(name).points[1:]]
    heads = {share: f"{share:.0%}" for share in COLUMNS}
    said = (
        f"{found[0]['rows'][0]['videos']} videos, one view of each; "
        f"{hardware(found[0]['environment'])}, {found[0]['date'][:10]}: `{found[0]['command']}`, "
        f"and the same of the low costs. In brackets: {found[0].get('intervals', METHOD)}."
    )
    return "\n".join([*_grid(points, actors_kept(*names), ".1f", heads), "", said, ""])


def choices(record: str, share: float) -> str:
    """What STA can be made of, at one cost, a row for each."""
    found = curve_record(record)
    lines = [
        "| | dense cost | change of top-1 | over random | over STA | KL, nats | KL over STA's |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for point in found.points[1:]:
        if abs(point.share - share) > _NEAR:
            continue
        cells = (
            f"{point.share:.1%}",
            cell(point.change_points, "+.1f"),
            cell(point.over_random_points, "+.1f"),
            cell(point.against_points, "+.1f"),
            cell(point.kl_nats, ".3f"),
            cell(point.against_kl_nats, "+.3f"),
        )
        lines.append(_line(f"`{point.method}`", cells))
    return "\n".join([*lines, "", _said(found), ""])


def views() -> str:
    """The same on one to four clips of a video, at the cost of r = 64."""
    lines = [
        "| clips | dense GMACs | dense top-1, % | `random` | `sta:r=64` | STA over random |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    records = {segments: curve_record(f"views-{segments}") for segments in SEGMENTS}
    for segments, found in records.items():
        dense, random, sta = found.points
        cells = [f"{dense.gmacs_per_video:.1f}", cell(dense.top1, ".1f")]
        cells += [cell(point.change_points, "+.1f") for point in (random, sta)]
        lines.append(_line(str(segments), [*cells, cell(sta.over_random_points, "+.1f")]))
    return "\n".join([*lines, "", _said(records[SEGMENTS[-1]]), ""])


def _grid(
    points: Sequence[Point], measure: Measure, form: str, heads: Mapping[float, str]
) -> list[str]:
    """Methods down, costs across, as far as there is anything; `heads` name the columns. Dense
    models have costs of their own, and a table."""
    methods = dict.fromkeys(p.method for p in points if not p.method.startswith(_DENSE))
    rows = {method: _cells(points, method, measure, form, tuple(heads)) for method in methods}
    rows = {method: cells for method, cells in rows.items() if any(cells)}
    filled = [any(column) for column in zip(*rows.values(), strict=True)]
    return [
        _line("", compress(heads.values(), filled)),
        f"|---|{'--:|' * sum(filled)}",
        *(_line(f"`{method}`", compress(cells, filled)) for method, cells in rows.items()),
    ]


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {name}{' ' if name else ''}| {' | '.join(cells)} |"


def _cells(
    points: Sequence[Point], method: str, measure: Measure, form: str, columns: Sequence[float]
) -> list[str]:
    cells = []
    for share in columns:
        owned = [p for p in points if p.method == method and measure(p) is not None]
        nearest = min(owned, key=lambda p: abs(p.share - share), default=None)
        near = nearest is not None and abs(nearest.share - share) <= _NEAR
        best = near and min(columns, key=lambda column: abs(column - nearest.share)) == share
        cells.append(cell(measure(nearest), form) if best else "")
    return cells


def cell(value: Interval | None, form: str) -> str:
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return f"{value.value:{form}}"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _said(found: TradeOff) -> str:
    dense = found.points[0]
    return (
        f"{found.num_videos} videos, {found.num_classes} classes, dense top-1 "
        f"{dense.top1.value:.1f} % [{dense.top1.low:.1f}, {dense.top1.high:.1f}], "
        f"{found.views_per_video} view{'s' if found.views_per_video > 1 else ''} of a video, "
        f"{dense.gmacs_per_video:.2f} GMACs; {found.dtype}, batch {found.batch_size}, "
        f"{hardware(found.environment)}, {found.date[:10]}: `{found.command}`. In brackets: "
        f"{found.intervals}.{_elsewhere(found)}"
    )


def _elsewhere(found: TradeOff) -> str:
    """What did not run where the rest did."""
    return "".join(
        f" On {there} instead: {'; '.join(settings)}."
        for there, settings in found.elsewhere.items()
    )


_MEASURES = {
    "change": ("change_points", "+.1f"),
    "over-random": ("over_random_points", "+.1f"),
    "agreement": ("agreement", ".1f"),
    "kl": ("kl_nats", ".3f"),
    "over-sta": ("against_points", "+.1f"),
    "kl-over-sta": ("against_kl_nats", "+.3f"),
    "over-ward": ("against_points", "+.1f"),
    "agreement-over-ward": ("against_agreement", "+.1f"),
    "kl-over-ward": ("against_kl_nats", "+.3f"),
}


def _measure(name: str) -> tuple[Measure, str]:
    attribute, form = _MEASURES[name]
    return attrgetter(attribute), form


_BEYOND = ("change", "over-ward", "agreement", "agreement-over-ward", "kl", "kl-over-ward")
# What is shown of each record, beside a drawing of it, of some with what stays of the actors.
_SHOWN = {
    "generated": ("change", "over-random", "agreement", "kl", "over-sta", "kl-over-sta"),
    "generated-low": ("change", "over-random", "kl"),
    "jhmdb": ("change", "over-random", "kl", "agreement"),
    "jhmdb-low": ("change", "over-random", "kl"),
    **dict.fromkeys(("beyond", "beyond-6-blocks", "beyond-jhmdb"), _BEYOND),
    "beyond-choices": ("agreement", "kl"),
    **dict.fromkeys(("beyond-30", "beyond-30-6-blocks"), ("change",)),
}
# Records of a single cost, or of many ways of one method, are no picture.
CURVES = tuple(name for name in _SHOWN if not name.startswith(("beyond-choices", "beyond-30")))
TABLES = {
    **{
        f"curves-{name}-{measure}": partial(curves, name, *_measure(measure))
        for name, shown in _SHOWN.items()
        for measure in shown
    },
    **{
        f"curves-amounts-{measure}": partial(amounts, *_measure(measure))
        for measure in ("change", "over-random", "kl")
    },
    "curves-jhmdb-actors": partial(actors, "jhmdb", "jhmdb-low"),
    "curves-generated-actors": partial(actors, "generated", "generated-low"),
    "curves-choices": partial(choices, "choices", 0.4485),
    "curves-choices-generated-50": partial(choices, "choices-generated", 0.5),
    "curves-choices-generated-30": partial(choices, "choices-generated", 0.3),
    "curves-generated-dense": partial(alternatives, "generated"),
    "curves-jhmdb-dense": partial(alternatives, "jhmdb"),
    "curves-jhmdb-low-dense": partial(alternatives, "jhmdb-low"),
    "curves-views": views,
}
