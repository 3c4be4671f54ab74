"""Videos that are asked for -> their views, decoded beside a model that computes meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidprune.environment import usable_cores
from vidprune.video import Protocol, UnreadableVideo, read_views
from vidprune.video.ahead import in_order

__all__ = ["Request", "check_workers", "default_workers", "read_requests"]


@dataclass(frozen=True)
class Request:
    """Views of one video: its `name` in the job, where it lies, which views are wanted.

    `views` are positions in `protocol.views`.
    """

    name: str
    path: Path
    views: tuple[int, ...]


# The models' threads wait for each other, and each for whoever takes its core.
_FEW_CORES, _MOST_DECODERS = 4, 64


def default_workers(device: torch.device, cores: int) -> int:
    """How many processes decode beside a model on `device`, where nobody says: one per core, 64 at
    most, since each has memory of its own; none where the model itself computes on so few cores
    that decoding beside it takes longer than decoding in between (`docs/speed.md`)."""
    return 0 if device.type == "cpu" and cores <= _FEW_CORES else min(cores, _MOST_DECODERS)


def check_workers(workers: int | None) -> None:
    """Raise ValueError for fewer than none."""
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} must be 0 (decode in this process) or more")


def read_requests(
    requests: Sequence[Request], protocol: Protocol, workers: int | None
) -> Iterator[tuple[Request, Tensor | str]]:
    """Each video with all views of the protocol (V, T, 3, S, S) uint8, or why it has none.

    In the order of `requests`, decoded in `workers` processes that a video may bring down or keep
    from answering without harm (0: in this one, which it may; None: one per core, 64 at most).
    """
    check_workers(workers)
    workers = min(usable_cores(), _MOST_DECODERS) if workers is None else workers
    workers = min(workers, len(requests))
    if workers == 0:
        return (_read(request, partial(_views_of, protocol)) for request in requests)
    return in_order(
        requests, lambda asked, reader: _read(asked, reader.read), protocol, workers=workers
    )


def _read(request: Request, read: Callable[[Path], Tensor]) -> tuple[Request, Tensor | str]:
    try:
        return request, read(request.path)
    except UnreadableVideo as error:
        return request, error.reason


def _views_of(protocol: Protocol, path: Path) -> Tensor:
    return read_views(path, protocol).pixels
