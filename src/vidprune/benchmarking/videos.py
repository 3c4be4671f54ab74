"""Benchmark rows over videos: end to end, near to dense or not, and beside dense on fewer views."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vidprune.benchmarking.budget import matched_views
from vidprune.benchmarking.contest import Candidate
from vidprune.benchmarking.end_to_end import Entrant, Finish, race
from vidprune.benchmarking.report import BenchmarkRow
from vidprune.inference import Unreadable
from vidprune.metrics import Nearness, nearness
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.reducers.spec import NONE
from vidprune.video import Decoder, Protocol


def over_videos(
    rows: Sequence[BenchmarkRow],
    candidates: Sequence[Candidate],
    videos: Sequence[Path],
    *,
    protocol: str | None = None,
    decoder: Decoder = "pyav",
    workers: int | None = None,
    fewer_views: bool = True,
    tell: Callable[[str], object] = lambda text: None,
) -> tuple[list[BenchmarkRow], list[Unreadable]]:
    """The rows with their speed from files to logits and their nearness to the first, the dense.

    `candidates` are what the rows were timed with, of one batch size and mode. Each is given the
    views of the preset `protocol`, or of what its checkpoint records, at its own frames and size,
    as `decoder` reads them.
    `fewer_views` adds a row for each reducer that was asked for: the dense model on as many views
    as make its arithmetic equal. Videos that cannot be read are handed back and left out.
    """
    able = [
        (row, Entrant.of(candidate, _protocol(row, rows[0], candidate, protocol), decoder))
        for row, candidate in zip(rows, candidates, strict=True)
        if candidate.reason is None
    ]
    if not able:
        return list(rows), []
    dense = able[0][1] if candidates[0].reason is None else None
    fewer = _on_fewer_views(rows, dense) if dense and fewer_views else []
    known = [*able, *fewer]
    finishes, unreadable = race([entrant for _, entrant in known], videos, workers, tell=tell)
    if not finishes:
        return list(rows), unreadable
    found = {
        row.setting: replace(row, end_to_end=finish.end_to_end, nearness=near)
        for (row, _), finish, near in zip(known, finishes, _near(dense, finishes), strict=True)
    }
    return [found.get(row.setting, row) for row in (*rows, *(row for row, _ in fewer))], unreadable


def _protocol(
    row: BenchmarkRow, dense: BenchmarkRow, candidate: Candidate, name: str | None
) -> Protocol:
    """The views that a candidate takes.

    Where a model is given fewer frames than it was made for, its table of positions is stretched
    over them; so is a dense clip's stride, so that both go on to speak of the same time.
    """
    own = protocol_for(candidate.model, ViewOptions(protocol=name))
    same = row.setting.checkpoint == dense.setting.checkpoint
    if not same or own.sampling == "segment":
        return own
    return replace(own, stride=max(1, round(own.stride * dense.setting.frames / own.frames)))


def _on_fewer_views(
    rows: Sequence[BenchmarkRow], dense: Entrant
) -> list[tuple[BenchmarkRow, Entrant]]:
    """The dense model on the views whose cost equals a reducer's, each number of views once."""
    found: dict[int, tuple[BenchmarkRow, Entrant]] = {}
    for row in rows:
        if row.setting.reducer == NONE or row.setting.matched is not None:
            continue
        views = matched_views(len(dense.views), row.gmacs_per_view / row.gmacs_dense)
        if views is not None and len(views) not in found:
            setting = replace(rows[0].setting, matched=row.setting.reducer, views=len(views))
            bare = replace(rows[0], setting=setting, speed=None)
            found[len(views)] = bare, replace(dense, views=views)
    return list(found.values())


def _near(dense: Entrant | None, finishes: Sequence[Finish]) -> list[Nearness | None]:
    """How near all are to the first, which itself has none, where it is the dense model."""
    first = finishes[0].probabilities
    if dense is None:
        return [None] * len(finishes)
    return [None] + [
        # A smaller model may know other classes.
        nearness(first, finish.probabilities) if finish.probabilities.shape == first.shape else None
        for finish in finishes[1:]
    ]
