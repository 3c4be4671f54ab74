"""The videos of a corpus: files, folders, lists, tables and WebDataset shards, near or far."""

import csv
import glob
import io
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import fsspec

from vidprune.corpus.archives import videos_in
from vidprune.disk import FULL
from vidprune.video.datasets import VIDEO_SUFFIXES, expand_inputs

__all__ = ["Item", "local_file", "read_corpus"]

_LISTS = (".txt", ".lst", ".list")
_TABLES = (".csv", ".tsv", ".parquet")
_ARCHIVES = (".tar",)
_HOLDERS = (*_LISTS, *_TABLES, *_ARCHIVES)
# Seconds before a fetch that failed is tried again.
_PATIENCE = (0.5, 2.0)
_COLUMNS = ("video", "path", "file", "url")


@dataclass(frozen=True)
class Item:
    """One video: its `name`, unique in its corpus, and the file that it is in, or a part of which
    it is, `size` bytes from `start`. `name` goes into tables: what of a file's name is no text is
    written in hexadecimal there."""

    name: str
    address: str
    start: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        text = self.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        object.__setattr__(self, "name", text)


def read_corpus(
    inputs: Iterable[str], *, column: str | None = None, remote: bool = False
) -> tuple[Item, ...]:
    """The videos that the inputs mean, each once, in order.

    An input is a video, a folder or a pattern; a list (.txt: one path a line); a table (.csv with
    a header, .tsv, .parquet) whose `column` holds paths; or a WebDataset shard (.tar), of which
    every member that is a video is one. Inputs may be addresses that fsspec knows (s3://...);
    what a list or table names is on the same side, relative to it, and no other address unless
    `remote`.

    Raises FileNotFoundError where a list, table or shard is not there, ValueError where one holds
    no video or names what it must not.
    """
    found: dict[str, Item] = {}
    for given in inputs:
        for item in _meant(given, column, remote):
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


def _meant(given: str, column: str | None, remote: bool) -> Iterator[Item]:
    for each in _matches(given):
        suffix = "" if os.path.isdir(each) else PurePosixPath(each).suffix.lower()
        if suffix in _ARCHIVES:
            yield from _members(each)
        elif suffix in _LISTS or suffix in _TABLES:
            for name in _names_in(each, suffix, column):
                yield Item(name, _beside(each, name, remote))
        elif _is_address(each):
            yield from _far(each)
        else:
            for path in expand_inputs([each]):
                yield Item(str(path), os.path.abspath(path))
            if os.path.isdir(each):
                for shard in sorted(Path(each).rglob("*.tar")):
                    yield from _members(str(shard), may_be_empty=True)


def _matches(given: str) -> list[str]:
    """What a pattern stands for; what matches nothing stands for itself, and is reported."""
    if not any(mark in given for mark in "*?["):
        return [given]
    if _is_address(given):
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


def _is_address(given: str) -> bool:
    return "://" in given


def _far(given: str) -> Iterator[Item]:
    """A video, or the videos under a folder, at an address."""
    files, path = fsspec.core.url_to_fs(given)
    if not files.isdir(path):
        yield Item(given, given)
        return
    for each in sorted(files.find(path)):
        suffix = PurePosixPath(each).suffix.lower()
        address = _readdressed(given.rstrip("/"), path.rstrip("/"), each)
        if suffix in VIDEO_SUFFIXES:
            yield Item(address, address)
        elif suffix in _ARCHIVES:
            yield from _members(address, may_be_empty=True)


def _beside(listing: str, name: str, remote: bool) -> str:
    """Where a list means that a name lies."""
    if _is_address(name) or "::" in name:
        if not remote:
            raise ValueError(
                f"{listing} names {name!r}, an address elsewhere; allow that (--remote), or name "
                "files beside the list"
            )
        if _is_address(name):
            _check_store(listing, name)
        return name
    if _is_address(listing):
        protocol, _, path = listing.partition("://")
        return f"{protocol}://{PurePosixPath(path).parent / name}"
    return os.path.abspath(Path(listing).parent / name)


def _check_store(listing: str, address: str) -> None:
    protocol = address.partition("://")[0].rpartition("::")[2]
    if protocol not in fsspec.available_protocols():
        raise ValueError(
            f"{listing} names {address!r}, and no store is known by {protocol!r}; mend the list"
        )


def _names_in(listing: str, suffix: str, column: str | None) -> list[str]:
    with _opened(listing) as file:
        if suffix not in _TABLES:
            names: Iterable[str] = _lines(listing, file)
        else:
            try:
                names = _table(listing, file, suffix, column)
            except (csv.Error, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{listing} is no table in UTF-8 that can be read ({error})"
                ) from error
        found = [name for name in names if name]
    if not found:
        raise ValueError(f"{listing} names no video; write one path a line, or a column of paths")
    return found


def _lines(listing: str, file: BinaryIO) -> Iterator[str]:
    """Of a list, what is neither blank nor a remark; a label behind the path and blanks around it
    are passed over. But a file that is called just so is meant, whatever its name looks like."""
    for line in io.TextIOWrapper(
        file, encoding="utf-8-sig", errors="surrogateescape", newline="\n"
    ):
        whole, name = line.rstrip("\r\n"), line.strip()
        before, _, last = name.rpartition(" ")
        labelled = bool(before) and last.isascii() and last.isdigit()
        if not name:
            continue
        odd = whole != name or name.startswith("#") or labelled
        if odd and _is_beside(listing, whole):
            yield whole
        elif odd and _is_beside(listing, name):
            yield name
        elif not name.startswith("#"):
            yield before.rstrip() if labelled else name


def _is_beside(listing: str, name: str) -> bool:
    """Whether a list on this machine has a file of that name beside it."""
    if _is_address(listing) or "\0" in name:
        return False
    return os.path.lexists(Path(listing).parent / name)


def _table(listing: str, file: BinaryIO, suffix: str, column: str | None) -> Sequence[str]:
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            content = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.read()))
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{listing} is no Parquet file that can be read ({error})") from error
        chosen = _chosen(listing, content.schema_arrow.names, column)
        found: list[object] = content.read([chosen])[chosen].to_pylist()
        if strangers := [name for name in found if not isinstance(name, str | None)]:
            raise ValueError(
                f"{listing}: column {chosen!r} holds {strangers[0]!r}, which is no path; name the "
                "column of paths (--column)"
            )
        return [name for name in found if isinstance(name, str)]
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    rows = csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ",")
    chosen = _chosen(listing, rows.fieldnames or (), column)
    return [row[chosen] or "" for row in rows]


def _chosen(listing: str, names: Sequence[str], column: str | None) -> str:
    """The column that holds paths."""
    known = [name for name in (_COLUMNS if column is None else (column,)) if name in names]
    if known:
        if names.count(known[0]) > 1:
            raise ValueError(f"{listing} has two columns {known[0]!r}; give one another name")
        return known[0]
    wanted = f"no column {column!r}" if column else f"none of the columns {', '.join(_COLUMNS)}"
    raise ValueError(
        f"{listing} has {wanted}, but {', '.join(map(str, names[:8])) or 'none at all'}; name the "
        "column of paths "
        "(--column). A list without a header is called .txt"
    )


def _members(shard: str, *, may_be_empty: bool = False) -> Iterator[Item]:
    """The videos in a WebDataset shard, where they lie in it; one that is named must hold some, one
    that lies in a folder may be of something else."""
    empty = True
    with _opened(shard) as file:
        for name, start, size in videos_in(file, shard):
            empty = False
            yield Item(f"{shard}/{name}", shard, start, size)
    if empty and not may_be_empty:
        raise ValueError(f"{shard} holds no video (by the endings of its members)")


# Note [what fsspec is given]
# To fsspec "::" chains file systems, and a part without an address may name one: a list could reach
# anything by the name of a file. Only what is an address already is handed to it.
def _opened(address: str) -> AbstractContextManager[Any]:
    """Raises ValueError for a store of which this machine knows nothing."""
    if not _is_address(address):
        return open(address, "rb")
    try:
        found: AbstractContextManager[Any] = fsspec.open(address, "rb")
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"{address} is in a store that cannot be reached ({error}); install what is missing, "
            "or mend the address"
        ) from error
    return found


@contextmanager
def local_file(item: Item) -> Iterator[Path]:
    """A file on this machine with the video in it, which is gone afterwards if it was fetched.

    Raises OSError where it cannot be had.
    """
    if item.size is None and not _is_address(item.address):
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
            with _opened(item.address) as source:
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


def digest_lines(items: Iterable[Item]) -> Iterator[bytes]:
    """What tells one corpus from another."""
    for item in items:
        told = [item.name, item.address, item.start, item.size]
        yield json.dumps(told).encode() + b"\n"
