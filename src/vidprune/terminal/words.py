"""Words and columns that several tables share."""

from rich.table import Column

from vidprune.intervals import METHOD_OVER_SOURCES, Interval
from vidprune.metrics import Nearness

INTERVALS = "Second lines: 95 % intervals over videos."


def intervals_by(method: str) -> str:
    """What second lines are, of a record that says how it took its intervals."""
    over_sources = method == METHOD_OVER_SOURCES
    return INTERVALS.replace("videos", "sources") if over_sources else INTERVALS


def right(*names: str) -> list[Column]:
    """Columns of figures."""
    # Wrapped between numbers where a terminal is narrow: one that is cut says something else.
    return [Column(name, justify="right", overflow="fold") for name in names]


def near(found: Nearness | None) -> tuple[str, str, str]:
    """Agreement, divergence and rank correlation; nothing where there is nothing to be near to."""
    if found is None:
        return "", "", ""
    return (
        interval(found.agreement, ".1f", " %"),
        interval(found.kl_nats, ".3f"),
        interval(found.rank_correlation, ".3f"),
    )


def interval(found: Interval | None, form: str, unit: str = "") -> str:
    """The value, and on a second line its bounds, where it has any."""
    if found is None:
        return "-"
    value = f"{found.value:{form}}{unit}"
    if found.low is None or found.high is None:
        return value
    return f"{value}\n{found.low:{form}}, {found.high:{form}}"


def per_cent(value: float | None) -> str:
    """Two decimals; a dash for what nobody counted."""
    return "-" if value is None else f"{value:.2f} %"
