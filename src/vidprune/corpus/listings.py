"""The names of videos in lists and tables."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from vidprune.corpus.stores import is_address, opened

__all__ = ["LISTS", "TABLES", "names_in"]

LISTS = (".txt", ".lst", ".list")
TABLES = (".csv", ".tsv", ".parquet")
_COLUMNS = ("video", "path", "file", "url")


def names_in(listing: str, suffix: str, column: str | None) -> list[str]:
    """What a list, or a `column` of a table, by its ending `suffix`, names.

    Raises FileNotFoundError where it is not there, ValueError where it cannot be read as what it is
    called or names nothing.
    """
    with opened(listing) as file:
        if suffix not in TABLES:
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
    if is_address(listing) or "\0" in name:
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
