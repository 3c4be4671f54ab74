"""Memory that does not suffice, said so that something can be done about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["OutOfMemory", "batch_in_memory"]

# What torch raises says it in words only: of the CPU's memory, of what is pinned for a GPU, and of
# tensors of more bytes than can be counted.
_SIGNS = ("allocate memory", "out of memory", "storage size calculation overflowed")


class OutOfMemory(RuntimeError):
    """A batch is too large for the memory that there is."""


@contextmanager
def batch_in_memory(batch_size: int, device: torch.device) -> Iterator[None]:
    """Run a batch of so many views on a device. Raises OutOfMemory where they do not fit."""
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError) as error:
        if not _is_shortage(error):
            raise
        raise OutOfMemory(
            f"batch_size={batch_size}: so many views at once take more memory than {device} has "
            "left; give a smaller --batch-size"
        ) from error


def _is_shortage(error: Exception) -> bool:
    if not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return any(sign in said for sign in _SIGNS)
