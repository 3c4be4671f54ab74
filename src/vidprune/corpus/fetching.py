"""A corpus's videos as files on this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any

from vidprune.corpus.items import Item
from vidprune.corpus.stores import is_address, opened
from vidprune.disk import FULL

__all__ = ["local_file"]

# Seconds before a fetch that failed is tried again.
_PATIENCE = (0.5, 2.0)


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """A file on this machine with the video in it, which is gone afterwards if it was fetched.

    Raises OSError where it cannot be had.
    """
    if item.size is None and not is_address(item.address):
        yield Path(item.address)
        return
    with NamedTemporaryFile(prefix="vidprune-", suffix=PurePosixPath(item.name).suffix) as there:
        _fetch(item, there.file)
        there.flush()
        yield Path(there.name)


def _fetch(item: Item, target: Any) -> None:
    """Copy a video; what fails for the moment is tried again. Raises OSError."""
    for wait in (*_PATIENCE, None):
        try:
            target.seek(0)
            target.truncate()
            with opened(item.address) as source:
                source.seek(item.start)
                return _copy(source, target, item)
        except FileNotFoundError:
            raise
        except Exception as error:  # Each store raises its own.
            if wait is None or getattr(error, "errno", None) in FULL:
                if isinstance(error, OSError):
                    raise
                raise OSError(f"{type(error).__name__}: {error}") from error
            time.sleep(wait)


def _copy(source: Any, target: Any, item: Item) -> None:
    if item.size is None:
        copyfileobj(source, target)
        return
    left = item.size
    while left > 0 and (part := source.read(min(left, 2**20))):
        target.write(part)
        left -= len(part)
    if left:
        raise OSError(f"{item.address} ends before {item.name} does")
