"""Files by address, in whatever store fsspec knows, or here."""

import os
import stat
from contextlib import AbstractContextManager
from typing import Any

import fsspec

__all__ = ["is_address", "is_odd", "opened", "placed", "without_scheme"]

_HERE = ("file://", "local://")


def is_address(given: str) -> bool:
    """Whether it names a place in a store, and no path here."""
    return "://" in given


def without_scheme(address: str) -> str:
    """Of a place on this machine its path, of others the address."""
    for here in _HERE:
        address = address.removeprefix(here)
    return address


def placed(address: str) -> str:
    """Of a place on this machine its whole path, however it is written, of others the address."""
    path = without_scheme(address)
    return path if is_address(path) else os.path.abspath(path)


def is_odd(address: str) -> bool:
    """Whether it is on this machine and there, but no file or folder: a pipe, a socket, a device,
    which may keep whoever reads waiting for ever."""
    path = without_scheme(address)
    if is_address(path):
        return False
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


# Note [what fsspec is given]
# To fsspec "::" chains file systems, and a part without an address may name one: a list could reach
# anything by the name of a file. Only what is an address already is handed to it.
def opened(address: str) -> AbstractContextManager[Any]:
    """A file opened for reading its bytes.

    Raises ValueError for a store of which this machine knows nothing.
    """
    if not is_address(address):
        return open(address, "rb")
    try:
        found: AbstractContextManager[Any] = fsspec.open(address, "rb")
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{address} is in a store that cannot be reached ({error}); install what is missing, "
            "or mend the address"
        ) from error
    return found
