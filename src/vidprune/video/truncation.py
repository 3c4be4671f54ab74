"""Does a file end before its container says it does?

FFmpeg reads a Matroska, WebM or AVI file that was cut short to the last byte and reports a
normal end, so half a video would pass for a short one. These containers (and MP4) write their
own length near the start; comparing it with the file's is exact and costs a few reads.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["missing_bytes"]

# Boxes that occur at the top level of an MP4 or QuickTime file. Anything else there is data
# that somebody appended, and says nothing about the video.
# fmt: off
_TOP_LEVEL_BOXES = frozenset({
    b"emsg", b"free", b"ftyp", b"mdat", b"meta", b"mfra", b"moof", b"moov", b"pdin", b"pnot",
    b"sidx", b"skip", b"styp", b"udta", b"uuid", b"wide",
})
# fmt: on
_EBML_HEADER, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"


def missing_bytes(file: BinaryIO) -> int:
    """Return by how many bytes an open file is shorter than its container announces.

    0 also where the container announces nothing: live recordings, MPEG programme and transport
    streams, GIF. The file is left at its start.
    """
    actual = file.seek(0, os.SEEK_END)
    missing = max(0, _announced_end(file, actual) - actual)
    file.seek(0)
    return missing


def _announced_end(file: BinaryIO, actual: int) -> int:
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF":
        return _walk(file, actual, _riff_end)
    if start[:4] == _EBML_HEADER:
        return _matroska_end(file)
    if start[4:8] in _TOP_LEVEL_BOXES:
        return _walk(file, actual, _box_end)
    return 0


def _walk(file: BinaryIO, actual: int, end_of: Callable[[BinaryIO, int], int | None]) -> int:
    position = 0
    while position + 8 <= actual:
        file.seek(position)
        end = end_of(file, position)
        if end is None:
            return position
        position = end
    return position


def _riff_end(file: BinaryIO, position: int) -> int | None:
    header = file.read(8)
    size = int.from_bytes(header[4:], "little")
    # A recorder that was never closed leaves 0 or all ones: length unknown.
    if header[:4] != b"RIFF" or size in (0, 0xFFFFFFFF):
        return None
    return position + 8 + size


def _box_end(file: BinaryIO, position: int) -> int | None:
    header = file.read(16)
    size = int.from_bytes(header[:4], "big")
    if size == 1:
        size = int.from_bytes(header[8:], "big")
    if header[4:8] not in _TOP_LEVEL_BOXES or size < 8:
        return None
    return position + size


def _matroska_end(file: BinaryIO) -> int:
    file.seek(len(_EBML_HEADER))
    header_size = _variable_length_integer(file)
    if header_size is None:
        return 0
    file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    size = _variable_length_integer(file)
    return 0 if size is None else file.tell() + size


def _variable_length_integer(file: BinaryIO) -> int | None:
    """Read an EBML size: leading zero bits give its length; all ones mean unknown (None)."""
    first = file.read(1)
    if not first or first == b"\x00":
        return None
    length = 9 - first[0].bit_length()
    payload = 7 * length
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << payload) - 1)
    return None if value == (1 << payload) - 1 else value
