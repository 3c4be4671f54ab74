"""Ward merging written out pair by pair, in float64: what the reducer is tested against."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def survivors(rows: Rows, sizes: Rows, counts: tuple[int, ...]) -> list[int]:
    """Positions of rows (N, C) that are left after rounds that leave so many each."""
    alive = [(place, rows[place], sizes[place]) for place in range(len(rows))]
    for count in counts:
        sources, destinations = alive[0::2], alive[1::2]
        offers = []
        for rank, (_, mean, size) in enumerate(sources):
            prices = [
                size * other / (size + other) * float(((mean - theirs) ** 2).sum())
                for _, theirs, other in destinations
            ]
            best = min(range(len(prices)), key=prices.__getitem__)
            offers.append((prices[best], rank, best))
        accepted = sorted(offers)[: len(alive) - count]
        gone = {rank for _, rank, _ in accepted}
        joined = []
        for number, (place, mean, size) in enumerate(destinations):
            members = [sources[rank] for _, rank, to in accepted if to == number]
            total = size + sum(weight for *_, weight in members)
            weighed = mean * size + sum((row * weight for _, row, weight in members), 0 * mean)
            joined.append((place, weighed / total, total))
        stay = [each for rank, each in enumerate(sources) if rank not in gone]
        alive = sorted(stay + joined, key=lambda each: each[0])
    return [place for place, *_ in alive]


def owners(rows: Rows, kept: list[int]) -> list[int]:
    """For each row the place in `kept` of the survivor that it lies nearest to."""
    found = []
    for place, row in enumerate(rows):
        apart = [float(((row - rows[each]) ** 2).sum()) for each in kept]
        found.append(kept.index(place) if place in kept else int(np.argmin(apart)))
    return found
