"""Videos that are asked for -> their views, decoded beside a model that computes meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidprune.environment import usable_cores
from vidprune.video import Decoder, Protocol, UnreadableVideo, read_views
from vidprune.video.ahead import in_order
from vidprune.video.readers import on_gpu, reader_for

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
# What decodes on a GPU holds surfaces and frames there, beside the model.
_MOST_ON_GPU = 8


def default_workers(device: torch.device, cores: int, decoder: Decoder) -> int:
    """How many processes decode beside a model on `device`, where nobody says: one per core, 64 at
    most, since each has memory of its own; none where the model itself computes on so few cores
    that decoding beside it takes longer than decoding in between (`docs/speed.md`). Of threads that
    have the GPU decode there are 8 at most."""
    if device.type == "cpu" and cores <= _FEW_CORES:
        return 0
    return min(cores, _most(device, decoder))


def _most(device: torch.device | None, decoder: Decoder) -> int:
    return _MOST_ON_GPU if on_gpu(decoder, device) else _MOST_DECODERS


def check_workers(workers: int | None) -> None:
    """Raise ValueError for fewer than none."""
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} must be 0 (decode in this process) or more")


def read_requests(
    requests: Sequence[Request],
    protocol: Protocol,
    workers: int | None,
    *,
    decoder: Decoder = "pyav",
    device: torch.device | None = None,
) -> Iterator[tuple[Request, Tensor | str]]:
    """Each video with all views of the protocol (V, T, 3, S, S) uint8, or why it has none.

    In the order of `requests`, decoded in `workers` processes that a video may bring down or keep
    from answering without harm (0: in this one, which it may; None: one per core, 64 at most).
    With the `decoder` "torchcodec" and a `device` of CUDA these are threads of this process, 8 at
    most where nobody says, and the views are there.
    """
    check_workers(workers)
    workers = min(usable_cores(), _most(device, decoder)) if workers is None else workers
    workers = min(workers, len(requests))
    if workers == 0 and not on_gpu(decoder, device):
        views = partial(_views_of, protocol=protocol, decoder=decoder)
        return (_read(request, views) for request in requests)
    start = partial(reader_for, protocol, decoder=decoder, device=device)
    return in_order(requests, lambda asked, own: _read(asked, own.read), start, workers=workers)


def _read(request: Request, read: Callable[[Path], Tensor]) -> tuple[Request, Tensor | str]:
    try:
        return request, read(request.path)
    except UnreadableVideo as error:
        return request, error.reason


def _views_of(path: Path, protocol: Protocol, decoder: Decoder) -> Tensor:
    return read_views(path, protocol, decoder=decoder).pixels
