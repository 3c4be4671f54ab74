"""Videos decoded one after the other, or several at once, never far ahead of who asks for them."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import local

from torch import Tensor

from vidprune.corpus.items import FULL, Item, local_file
from vidprune.video import Protocol, UnreadableVideo
from vidprune.video.guarded import GuardedReader, Limits

__all__ = ["Decoded", "decode", "decoded"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """A video's views (V, T, 3, S, S) uint8, or the `error` why there are none."""

    item: Item
    pixels: Tensor | None
    error: str | None = None


def decode(item: Item, reader: GuardedReader) -> Decoded:
    """One video, by a reader's process. Raises OSError where this machine has no room for it."""
    try:
        with local_file(item) as path:
            return Decoded(item, reader.read(path))
    except UnreadableVideo as error:
        return Decoded(item, None, error.reason)
    except OSError as error:
        if error.errno in FULL:
            raise
        return Decoded(item, None, f"it cannot be fetched ({error.strerror or error})")


def decoded(
    items: Iterable[Item], protocol: Protocol, *, limits: Limits | None = None, workers: int = 1
) -> Iterator[Decoded]:
    """The videos in order, decoded by so many processes; 0: only once each is asked for."""
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (decode when asked) or more")
    if workers == 0:
        with GuardedReader(protocol, limits) as reader:
            for item in items:
                yield decode(item, reader)
        return
    yield from _ahead(items, protocol, limits, workers)


def _ahead(
    items: Iterable[Item], protocol: Protocol, limits: Limits | None, workers: int
) -> Iterator[Decoded]:
    """Each thread waits for a process of its own; twice as many videos as threads are under way."""
    own = local()
    readers: list[GuardedReader] = []

    def start() -> None:
        own.reader = GuardedReader(protocol, limits)
        readers.append(own.reader)

    remaining = iter(items)
    pool = ThreadPoolExecutor(workers, initializer=start)

    def sent(count: int) -> Iterator[Future[Decoded]]:
        for item in islice(remaining, count):
            yield pool.submit(lambda item: decode(item, own.reader), item)

    try:
        waiting = deque(sent(2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(sent(1))
    finally:
        # Nothing more is begun, and what is being decoded is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)
        for reader in readers:
            reader.close()
        pool.shutdown()
