"""What a search found, and how it holds on unseen videos."""

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from vidprune.intervals import Interval
from vidprune.terminal.words import intervals_by, right
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.record import Tuning
from vidprune.tuning.search import Tried, nearest_of


def tried_line(tried: Tried, best: Tried | None) -> str:
    """One line about a setting, and the best so far."""
    kl = tried.losses.kl_nats.value
    ahead = "" if best is None else f"; best {best.reducer}"
    return f"{tried.costs.share:.0%} of dense, KL {kl:.3g}: {tried.reducer}{ahead}"


def tuning_table(found: Tuning) -> Group:
    """The setting beside the paper's at its cost, and whether it reaches what was asked for."""
    table = Table(
        Column("", overflow="fold", ratio=1),
        *right("GMACs", "speed-up", "same class", "KL", "top-1"),
        box=SIMPLE,
        pad_edge=False,
        expand=True,
        title=f"{found.target}: {_verdict(found)}",
        caption=f"{intervals_by(found.intervals)} On videos that the search did not see, but for "
        "its own row. Top-1: points against dense.",
    )
    if found.found is not None and found.check is not None and found.costs is not None:
        seen, check = found.found.losses, found.check
        table.add_row(Text(f"{found.reducer}\n{check.videos} unseen"), *_row(found.costs, check))
        table.add_row(
            Text(f"the same\n{seen.videos} of the search"), *_row(found.found.costs, seen)
        )
    for own in (found.fixed, found.published):
        if own is not None:
            table.add_row(
                Text(f"{own.reducer}\n{own.losses.videos} unseen"), *_row(own.costs, own.losses)
            )
    near = nearest_of(found.target, found.tried) if found.found is None else None
    if near is not None:
        table.add_row(
            Text(f"{near.reducer}, the nearest\n{near.losses.videos} of the search"),
            *_row(near.costs, near.losses),
        )
    tries = f"{len(found.tried)} settings tried in {found.seconds:.0f} s"
    return Group(table, Text(tries))


def _verdict(found: Tuning) -> str:
    if found.found is None:
        if not found.tried:
            return "no setting comes near that cost"
        return "nothing that was tried reaches it with one standard error to spare"
    return "reached" if found.reached else "not reached on unseen videos"


def _row(spent: Spent, lost: Losses) -> tuple[str, ...]:
    return (
        f"{spent.gmacs:.2f}\n{spent.share:.0%}",
        "" if spent.speedup is None else f"{spent.speedup:.2f}",
        _value(lost.agreement, ".1f"),
        _value(lost.kl_nats, ".3f"),
        _value(lost.change_points, "+.1f"),
    )


def _value(found: Interval | None, form: str) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.value:{form}}"
    return f"{found.value:{form}}\n{found.low:{form}}, {found.high:{form}}"
