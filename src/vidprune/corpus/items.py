"""The videos of a corpus: files, folders, lists, tables and WebDataset shards, near or far."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import fsspec

from vidprune.corpus.archives import Damaged, videos_in
from vidprune.corpus.listings import LISTS, TABLES, names_in
from vidprune.corpus.stores import is_address, is_odd, opened, placed
from vidprune.video.datasets import VIDEO_SUFFIXES, expand_inputs

__all__ = ["Item", "digest_lines", "read_corpus"]

_ARCHIVES = (".tar",)
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_HOLDERS = (*LISTS, *TABLES, *_ARCHIVES)

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Item:
    """One video: its `name`, unique in its corpus, and the file that it is in, or a part of which
    it is, `size` bytes from `start`. `name` goes into tables: what of a file's name is no text is
    written in hexadecimal there. `error`: why it is known beforehand that there is no answer;
    `member`: what it is called in a shard."""

    name: str
    address: str
    start: int = 0
    size: int | None = None
    error: str | None = field(default=None, compare=False)
    member: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        text = self.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        object.__setattr__(self, "name", text)


def read_corpus(
    inputs: Sequence[str],
    *,
    column: str | None = None,
    remote: bool = False,
    tell: Tell = lambda text: None,
) -> tuple[Item, ...]:
    """The videos that the inputs mean, each once, in order, by the name by which it comes first.

    An input is a video, a folder or a pattern; a list (.txt: one path a line); a table (.csv with
    a header, .tsv, .parquet) whose `column` holds paths; or a WebDataset shard (.tar), of which
    every member that is a video is one. A shard in a folder of which not all can be found is one
    item with an `error`. Inputs may be addresses that fsspec knows (s3://...);
    what a list or table names is on the same side, relative to it, and no other address unless
    `remote`. `tell` hears what is passed over.

    Raises FileNotFoundError where a list, table or shard is not there, ValueError where one holds
    no video, is damaged, or names what it must not.
    """
    if column is not None:
        _check_tables(inputs, column)
    found: dict[str, Item] = {}
    there: set[object] = set()
    for given in inputs:
        for item in _meant(given, column, remote, tell):
            if (place := _place(item)) in there:
                continue
            there.add(place)
            known = found.setdefault(item.name, item)
            if known != item:
                raise ValueError(
                    f"two videos are called {item.name!r}, in {known.address} and in "
                    f"{item.address}, and a row is known by its name; list whole paths, give each "
                    "an output of its own, or rename one"
                )
    if not found:
        raise ValueError("no video is given; name files, folders, lists, tables or shards")
    return tuple(found.values())


def _place(item: Item) -> object:
    """What a video is known by, however it is spelled: its file, and in a shard its member."""
    return item.address if item.member is None else (item.address, item.member)


def _check_tables(inputs: Iterable[str], column: str) -> None:
    """Raise ValueError where no input has columns."""
    if not any(_suffix(each) in TABLES for given in inputs for each in _matches(given)):
        raise ValueError(
            f"column={column!r} is of tables ({', '.join(TABLES)}), and none is given; leave "
            "--column out"
        )


def _suffix(given: str) -> str:
    """By which an input is told for what it is; folders have none."""
    return "" if os.path.isdir(given) else PurePosixPath(given).suffix.lower()


def _meant(given: str, column: str | None, remote: bool, tell: Tell) -> Iterator[Item]:
    for each in _matches(given):
        suffix = _suffix(each)
        if suffix and each.lower().endswith(_PACKED):
            raise ValueError(
                f"{each} is a compressed archive, in which nothing is found without unpacking all "
                "before it; unpack it once, to a .tar or a folder"
            )
        if is_odd(each) and suffix in _HOLDERS:
            raise ValueError(
                f"{each} is no regular file, which may keep its reader waiting for ever; name a "
                "copy of what it says"
            )
        if suffix in _ARCHIVES:
            members = list(_members(each))
            if not members:
                raise ValueError(f"{each} holds no video (by the endings of its members)")
            yield from members
        elif suffix in LISTS or suffix in TABLES:
            for name in names_in(each, suffix, column, tell):
                yield Item(name, _beside(each, name, remote))
        elif is_address(each):
            yield from _far(each, tell)
        else:
            shards = list(_without_odd(_shards_under(each, tell), tell))
            for path in expand_inputs([each]):
                # A folder in which there is no video stands for itself.
                if not shards or path != Path(each):
                    yield Item(str(path), os.path.abspath(path))
            for shard in shards:
                yield from _members_or_error(shard)


def _shards_under(folder: str, tell: Tell) -> list[str]:
    """Those in a folder at any depth; none in what is no folder."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith((*_ARCHIVES, *_PACKED)) and not name.startswith(".")
    ]
    packed = [path for path in found if path.name.lower().endswith(_PACKED)]
    if packed:
        tell(
            f"{folder}: compressed archives are passed over, such as {packed[0]}; unpack them to "
            ".tar, or to folders"
        )
    return list(map(str, sorted(set(found) - set(packed))))


def _without_odd(shards: Iterable[str], tell: Tell) -> Iterator[str]:
    for shard in shards:
        if is_odd(shard):
            tell(f"{shard} is no regular file, and passed over")
        else:
            yield shard


def _matches(given: str) -> list[str]:
    """What a pattern stands for; what matches nothing stands for itself, and is reported."""
    if not any(mark in given for mark in "*?["):
        return [given]
    if is_address(given):
        files, path = fsspec.core.url_to_fs(given)
        before = re.split(r"[*?\[]", path, maxsplit=1)[0]
        return [_readdressed(given, before, each) for each in sorted(files.glob(path))] or [given]
    if os.path.lexists(given) or PurePosixPath(given).suffix.lower() not in _HOLDERS:
        # Of videos and folders `expand_inputs` makes what a shell would.
        return [given]
    return sorted(glob.glob(given, recursive=True)) or [given]


def _readdressed(given: str, before: str, path: str) -> str:
    """The address of a path that a store found: as `given` up to where its path goes on after
    `before`. (Stores leave hosts out of their paths, and what they are chained to.)"""
    head, chained, rest = given.partition("::")
    plain = re.split(r"[*?\[]", head, maxsplit=1)[0]
    return f"{plain}{path.removeprefix(before)}{chained}{rest}"


def _far(given: str, tell: Tell) -> Iterator[Item]:
    """A video, or the videos under a folder, at an address."""
    files, path = fsspec.core.url_to_fs(given)
    if not files.isdir(path):
        yield Item(given, placed(given))
        return
    for each in sorted(files.find(path)):
        suffix, hidden = PurePosixPath(each).suffix.lower(), PurePosixPath(each).name[0] == "."
        address = _readdressed(given.rstrip("/"), path.rstrip("/"), each)
        if suffix in VIDEO_SUFFIXES and not hidden:
            yield Item(address, placed(address))
        elif suffix in _ARCHIVES and not hidden:
            for shard in _without_odd([address], tell):
                yield from _members_or_error(shard)


def _beside(listing: str, name: str, remote: bool) -> str:
    """Where a list means that a name lies."""
    if is_address(name) or "::" in name:
        if not remote:
            raise ValueError(
                f"{listing} names {name!r}, an address elsewhere; allow that (--remote), or name "
                "files beside the list"
            )
        if is_address(name):
            _check_store(listing, name)
        return placed(name) if is_address(name) else name
    if is_address(listing):
        protocol, _, path = listing.partition("://")
        return placed(f"{protocol}://{PurePosixPath(path).parent / name}")
    return os.path.abspath(Path(listing).parent / name)


def _check_store(listing: str, address: str) -> None:
    protocol = address.partition("://")[0].rpartition("::")[2]
    if protocol not in fsspec.available_protocols():
        raise ValueError(
            f"{listing} names {address!r}, and no store is known by {protocol!r}; mend the list"
        )


# Note [a damaged shard among others]
# It is one row with an error, and the members before the damage are none: what is behind it cannot
# be known, and a job must have the same rows whenever it is taken up. A shard that is made anew has
# other rows, and so is another job's. What may be read in a minute stops the command instead: a
# store that was away for a moment must not take a shard's videos out of a job.
def _members_or_error(shard: str) -> list[Item]:
    """The videos in a shard that lies in a folder, where it may be of something else."""
    try:
        return list(_members(shard))
    except Damaged as error:
        return [Item(shard, placed(shard), error=str(error))]
    except (FileNotFoundError, PermissionError) as error:
        if is_address(shard):
            raise
        return [Item(shard, placed(shard), error=f"it cannot be opened ({error.strerror})")]


def _members(shard: str) -> Iterator[Item]:
    """The videos in a shard, where they lie in it."""
    place = placed(shard)
    with opened(shard) as file:
        for name, start, size in videos_in(file, shard):
            yield Item(f"{shard}/{name}", place, start, size, member=name)


def digest_lines(items: Iterable[Item]) -> Iterator[bytes]:
    """What tells one corpus from another."""
    for item in items:
        told = [item.name, item.address, item.start, item.size]
        yield json.dumps(told).encode() + b"\n"
