"""The videos in a WebDataset shard, by where they lie in it.

Python's tarfile takes a header that it cannot read for the end of the archive, reads names of any
length into memory, and believes every size: here that is refused.
"""

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from vidprune.video.datasets import VIDEO_SUFFIXES

__all__ = ["Damaged", "videos_in"]

_LONGEST_NAME = 2**20
_AT_ONCE = 2**20
_NAMES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class Damaged(ValueError):
    """An archive whose content says that it is no whole one."""


class _Member(tarfile.TarInfo):
    """One whose name is read only if it is no longer than a name can be."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _NAMES and not 0 <= self.size <= _LONGEST_NAME:
            raise tarfile.ReadError(f"a name of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def videos_in(file: Any, shard: str) -> Iterator[tuple[str, int, int]]:
    """Name, first byte and size of every video in an open archive, of hard links those of what they
    link to.

    Raises Damaged, with the name of the `shard`, for what is no whole archive, and for members that
    are videos by name and no plain files; ValueError where the file cannot be read for now.
    """
    end = file.seek(0, 2)
    file.seek(0)
    places: dict[str, tuple[int, int]] = {}
    videos: set[str] = set()
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as archive:
            for member in archive:
                place = _place(member, places, shard, end)
                if place is not None:
                    places[member.name] = place
                    if PurePosixPath(member.name).suffix.lower() in VIDEO_SUFFIXES:
                        _check_new(member.name, videos, shard)
                        yield member.name, *place
            mark, behind = _end(file, archive.offset)
    except Damaged:
        raise
    except OSError as error:
        raise ValueError(
            f"{shard} cannot be read now ({error}); give the same command again once it can"
        ) from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise Damaged(f"{shard} is no tar file that can be read ({error})") from error
    if mark != bytes(tarfile.BLOCKSIZE):
        raise Damaged(
            f"{shard} is damaged at byte {archive.offset}: there is neither a member nor the end "
            "of an archive; make it anew"
        )
    if behind is not None:
        raise Damaged(
            f"{shard} goes on at byte {behind}, behind the end of the archive, such as where one "
            "was appended to another: what is there would be lost; make it anew (tar --concatenate)"
        )


def _end(file: Any, offset: int) -> tuple[bytes, int | None]:
    """The block at which an archive ends, and where behind it there is anything but zeros."""
    file.seek(offset)
    mark = file.read(tarfile.BLOCKSIZE)
    place = offset + len(mark)
    while part := file.read(_AT_ONCE):
        if rest := part.lstrip(b"\0"):
            return mark, place + len(part) - len(rest)
        place += len(part)
    return mark, None


def _check_new(name: str, videos: set[str], shard: str) -> None:
    if name in videos:
        raise Damaged(
            f"{shard} holds {name!r} twice, and a row is known by its name; make the shard anew "
            "with one of them"
        )
    videos.add(name)


def _place(
    member: tarfile.TarInfo, places: dict[str, tuple[int, int]], shard: str, end: int
) -> tuple[int, int] | None:
    """Where a member's bytes lie; None for folders and the like."""
    if member.islnk() and member.linkname in places:
        return places[member.linkname]
    is_video = PurePosixPath(member.name).suffix.lower() in VIDEO_SUFFIXES
    if is_video and (member.issym() or member.islnk() or member.issparse()):
        raise Damaged(
            f"{shard} holds {member.name!r} as a link or with holes, which is no plain file; make "
            "the shard anew with its content"
        )
    if not member.isreg():
        return None
    if not 0 <= member.size <= end - member.offset_data:
        raise Damaged(f"{shard} is cut short: it ends before {member.name!r} does")
    return member.offset_data, member.size
