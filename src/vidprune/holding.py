"""One command at a time in an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["LOCK", "held"]

# Readers of tables pass over what begins so.
LOCK = ".vidprune.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder, which is there, while the block lasts.

    The system has the lock, not the file: it is gone with this process, however that ends.

    Raises FileExistsError where another command is at work in the folder.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise FileExistsError(
            f"output {folder}: another command is at work there, and a folder is for one at a "
            "time; wait until it has ended, and run this one again, or name another folder "
            "(nothing was changed)"
        ) from None
    try:
        yield
    finally:
        # While it is held: whoever opened this very file finds it gone, and does not take it.
        with suppress(OSError):
            (folder / LOCK).unlink()
        lock.release()
