"""A corpus's videos as files on this machine."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from threading import Event, Thread
from typing import Any

from vidprune.corpus.items import Item
from vidprune.corpus.stores import is_address, opened
from vidprune.disk import FULL
from vidprune.video.guarded import Limits

__all__ = ["local_file"]

# Seconds before a fetch that failed is tried again.
_PATIENCE = (0.5, 2.0)
_AT_ONCE = 2**20
# How long, in seconds, until a fetch that nobody wants any more is let go of.
_LOOKS_UP_SECONDS = 0.2


@contextmanager
def local_file(
    item: Item, limits: Limits | None = None, unwanted: Event | None = None
) -> Iterator[Path]:
    """A file on this machine with the video in it, which is gone afterwards if it was fetched.

    What is fetched or taken out of a shard may take so many seconds and be of so many GiB, and is
    let go of once it is `unwanted`.

    Raises OSError where it cannot be had within the `limits`.
    """
    if item.size is None and not is_address(item.address):
        yield Path(item.address)
        return
    with _own_file() as (target, path):
        _fetch_in_time(item, target, limits or Limits(), unwanted or Event())
        target.flush()
        yield path


@contextmanager
def _own_file() -> Iterator[tuple[Any, Path]]:
    """A new file and a path to it; on Linux one without a name of its own, which is gone with
    this process, however that ends."""
    if sys.platform == "linux":
        with TemporaryFile() as file:
            yield file, Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        return
    with NamedTemporaryFile(prefix="vidprune-") as named:
        yield named.file, Path(named.name)


class _TooMuch(OSError):
    """A limit is reached; to try again would not help."""


def _fetch_in_time(item: Item, target: Any, limits: Limits, unwanted: Event) -> None:
    """Copy a video in a thread of its own, since a store may keep whoever reads waiting for ever.
    One that is given up finds `target` closed, should it ever go on."""
    most = None if limits.gib is None else int(limits.gib * 2**30)
    failures: list[Exception] = []

    def work() -> None:
        try:
            _fetch(item, target, most)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            failures.append(error)

    thread = Thread(target=work, name="vidprune-fetch", daemon=True)
    thread.start()
    if not _ended(thread, limits.seconds, unwanted):
        if unwanted.is_set():
            raise _TooMuch("nobody waits for it any more")
        raise _TooMuch(f"that takes longer than {limits.seconds:g} seconds")
    if failures:
        raise failures[0]


def _ended(thread: Thread, seconds: float | None, unwanted: Event) -> bool:
    """Whether a thread came to its end in time, and while that was wanted."""
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not unwanted.is_set():
        thread.join(min(left, _LOOKS_UP_SECONDS))
        if not thread.is_alive():
            return True
    return not thread.is_alive()


def _fetch(item: Item, target: Any, most: int | None) -> None:
    """Copy a video; what fails for the moment is tried again. Raises OSError."""
    for wait in (*_PATIENCE, None):
        try:
            target.seek(0)
            target.truncate()
            with opened(item.address) as source:
                source.seek(item.start)
                return _copy(source, target, item, most)
        except (FileNotFoundError, _TooMuch):
            raise
        except Exception as error:  # Each store raises its own.
            if wait is None or target.closed or getattr(error, "errno", None) in FULL:
                if isinstance(error, OSError):
                    raise
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(wait)


def _copy(source: Any, target: Any, item: Item, most: int | None) -> None:
    """The whole file, or so many bytes of it. Raises OSError for more than `most` bytes."""
    left = item.size
    copied = 0
    while (left is None or left > 0) and (part := source.read(_part(left))):
        copied += len(part)
        if most is not None and copied > most:
            raise _TooMuch(f"it is of more than {most / 2**30:.3g} GiB")
        target.write(part)
        left = None if left is None else left - len(part)
    if left:
        raise OSError(f"{item.address} ends before {item.name} does")


def _part(left: int | None) -> int:
    return _AT_ONCE if left is None else min(left, _AT_ONCE)
