"""How much of the actors stays at each point of a record of `vidprune curves`.

    python benchmarks/actors.py benchmarks/results/curves/jhmdb
    python benchmarks/actors.py benchmarks/results/curves/generated --generated 800000000

adds `actors.json` to the folder of a record: of J-HMDB, whose masks lie beside it, or of generated
clips, whose masks are drawn again from the seed that they were written with.

Of each video that has an actor's mask one centre view, in float32. The mask goes the way of the
pixels: it is resized, cut, and averaged over the patches of a tubelet. What counts is the share of
it at the places of the tokens that are left after the last stage; of methods that fold or merge, at
the survivors' own places.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import vidprune
from vidprune.demo.clips import render
from vidprune.environment import environment
from vidprune.inference import normalisation_of
from vidprune.insight.watching import watch
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES, mean_interval
from vidprune.layout import TokenGrid
from vidprune.sources import sources_of
from vidprune.tradeoff import TradeOff
from vidprune.video import Protocol, Sample, cut_views, normalise, read_dataset, read_views
from vidprune.video.decode import Frames
from vidprune.video.resize import resize_short_side

# Pixels of J-HMDB's clips that a value of its masks covers, along each side.
CELL = 8

# The mask (F, height, width) uint8, in per cent, of a video and its place in its list; None: none.
Masks = Callable[[int, Sample], np.ndarray | None]


def masks_of(path: Path) -> Masks:
    """Those of J-HMDB, which name their videos."""
    with np.load(path) as found:
        masks = dict(found)

    def mask(_: int, sample: Sample) -> np.ndarray | None:
        name = "/".join(sample.path.parts[-2:]).removesuffix(sample.path.suffix)
        cells = masks.get(name)
        return None if cells is None else cells.repeat(CELL, 1).repeat(CELL, 2)

    return mask


def masks_drawn(seed: int) -> Masks:
    """Those of clips that `write_clips` wrote with this seed."""

    def mask(place: int, sample: Sample) -> np.ndarray:
        return np.round(100 * render(sample.label, seed + place).actors).astype(np.uint8)

    return mask


def cover_of(mask: np.ndarray, protocol: Protocol, grid: TokenGrid) -> Tensor:
    """Of one view the actor's share of each token, (N,) float32, from a mask (F, height, width) in
    per cent."""
    images = {
        number: resize_short_side(np.repeat(frame[..., None], 3, 2), protocol.size)
        for number, frame in enumerate(mask)
    }
    (view,) = cut_views(Frames(len(mask), images), protocol)
    shape = (grid.frames, -1), (grid.rows, -1), (grid.columns, -1)
    cells = view[:, 0].float() / 100
    for dimension in (2, 1, 0):
        cells = cells.unflatten(dimension, shape[dimension])
    return cells.mean((1, 3, 5)).flatten()


def videos(record: TradeOff, masks: Masks, every: int) -> Iterator[tuple[str, Sample, np.ndarray]]:
    """Each `every`-th video of the record's data that has an actor, with the checkpoint that it
    goes with."""
    for checkpoint, data in zip(record.checkpoints, record.data, strict=True):
        samples = enumerate(read_dataset(Path(data)))
        for place, sample in islice(samples, 0, None, every):
            mask = masks(place, sample)
            if mask is not None and mask.any():
                yield checkpoint, sample, mask


def kept_share(origin: Tensor, cover: Tensor) -> float:
    """How much of the actor stands at the places (K,), in per cent; padding is -1."""
    places = origin[origin >= 0]
    return (100 * cover[places].sum() / cover.sum()).item()


def measure(record: TradeOff, masks: Masks, every: int, source: str | None) -> list[dict[str, Any]]:
    """A row for every pruned point: what is left of the tokens and of the actors, in per cent;
    intervals over the sources that `source` finds."""
    protocol = replace(Protocol(**record.protocol), segments=1, crops=1)
    points = [point for point in record.points if ":" in point.setting]
    models = {name: vidprune.load(name, size=protocol.size) for name in record.checkpoints}
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in points]
    names = []
    for number, (checkpoint, sample, mask) in enumerate(videos(record, masks, every)):
        model = models[checkpoint]
        patch, tubelet = model.config.patch_size, model.config.tubelet_size
        side = protocol.size // patch
        grid = TokenGrid(frames=protocol.frames // tubelet, rows=side, columns=side)
        cover = cover_of(mask, protocol, grid)
        pixels = normalise(read_views(sample.path, protocol).pixels, normalisation_of(model))
        if not cover.sum():
            continue
        names.append(sample.name)
        for point, (tokens, actors) in zip(points, found, strict=True):
            origin = watch(vidprune.prune(model, point.setting), pixels).choices[-1].origin[0]
            tokens.append(100 * (origin >= 0).sum().item() / grid.tokens)
            actors.append(kept_share(origin, cover))
        if number % 20 == 0:
            print(number, sample.name, file=sys.stderr, flush=True)
    sources = None if source is None else sources_of(names, source)
    return [
        {
            "method": point.method,
            "setting": point.setting,
            "share": point.share,
            "videos": len(actors),
            "tokens": interval(tokens, sources),
            "actors": interval(actors, sources),
        }
        for point, (tokens, actors) in zip(points, found, strict=True)
    ]


def interval(values: list[float], sources: Tensor | None) -> dict[str, Any]:
    found = mean_interval(torch.tensor(values), sources)
    assert found is not None, "there are videos"
    return asdict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of curves.json")
    parser.add_argument("--masks", type=Path, default=Path("../shared/jhmdb/actor_coverage.npz"))
    parser.add_argument("--generated", type=int, metavar="SEED", help="of generated clips")
    parser.add_argument("--every", type=int, default=1, help="take every N-th video of each list")
    parser.add_argument("--source", metavar="PATTERN", help="as of vidprune curves")
    options = parser.parse_args()
    record = TradeOff.from_json((options.folder / "curves.json").read_text(encoding="utf-8"))
    drawn = options.generated is not None
    masks = masks_drawn(options.generated) if drawn else masks_of(options.masks)
    rows = measure(record, masks, options.every, options.source)
    told = {
        "rows": rows,
        "intervals": METHOD if options.source is None else METHOD_OVER_SOURCES,
        "environment": environment(torch.device("cpu")),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(told, indent=2) + "\n"
    (options.folder / "actors.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
