"""A corpus's videos, fetched and decoded."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import Item
from vidprune.disk import FULL
from vidprune.video import Decoder, Protocol, UnreadableVideo
from vidprune.video.ahead import in_order
from vidprune.video.guarded import Limits
from vidprune.video.readers import Reader, reader_for

__all__ = ["Decoded", "decode", "decoded"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """A video's views (V, T, 3, S, S) uint8, or the `error` why there are none."""

    item: Item
    pixels: Tensor | None
    error: str | None = None


def decode(item: Item, reader: Reader, fetch: Limits | None = None) -> Decoded:
    """One video, by a reader, fetched within the limits `fetch` if it is far. Raises
    OSError where this machine has no room for it, NotStarted where it has no process for it."""
    if item.error is not None:
        return Decoded(item, None, item.error)
    try:
        with local_file(item, fetch, reader.closed) as path:
            return Decoded(item, reader.read(path))
    except UnreadableVideo as error:
        return Decoded(item, None, error.reason)
    except OSError as error:
        if error.errno in FULL:
            raise
        return Decoded(item, None, f"it cannot be fetched ({error.strerror or error})")


def decoded(
    items: Iterable[Item],
    protocol: Protocol,
    *,
    limits: Limits | None = None,
    fetch: Limits | None = None,
    workers: int = 1,
    decoder: Decoder = "pyav",
    device: torch.device | None = None,
) -> Iterator[Decoded]:
    """The videos in order, decoded by so many readers (see `reader_for`) for a model on `device`;
    0: by one, and only once each is asked for."""
    start = partial(reader_for, protocol, limits=limits, decoder=decoder, device=device)
    return in_order(items, lambda item, own: decode(item, own, fetch), start, workers=workers)
