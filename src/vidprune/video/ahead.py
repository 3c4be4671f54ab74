"""Videos read one after the other or several at once, never far ahead of who asks for them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from threading import local
from typing import TypeVar

from vidprune.video.readers import Reader

__all__ = ["in_order"]

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def in_order(
    asked: Iterable[Asked],
    read: Callable[[Asked, Reader], Answer],
    start: Callable[[], Reader],
    *,
    workers: int = 1,
) -> Iterator[Answer]:
    """What `read` makes of each, in order, with so many readers at work that `start` makes; 0: with
    one, and only once each is asked for."""
    if workers < 0:
        raise ValueError(f"workers={workers} must be 0 (decode when asked) or more")
    if workers == 0:
        with closing(start()) as reader:
            for each in asked:
                yield read(each, reader)
        return
    yield from _ahead(asked, read, start, workers)


def _ahead(
    asked: Iterable[Asked],
    read: Callable[[Asked, Reader], Answer],
    start: Callable[[], Reader],
    workers: int,
) -> Iterator[Answer]:
    """Each thread waits for a reader of its own; twice as many videos as threads are under way."""
    own = local()
    readers: list[Reader] = []

    def begin() -> None:
        own.reader = start()
        readers.append(own.reader)

    remaining = iter(asked)
    pool = ThreadPoolExecutor(workers, initializer=begin)

    def sent(count: int) -> Iterator[Future[Answer]]:
        for each in islice(remaining, count):
            yield pool.submit(lambda each: read(each, own.reader), each)

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
