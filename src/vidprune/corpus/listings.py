"""The names of videos in lists and tables."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from vidprune.corpus.stores import is_address, opened

__all__ = ["LISTS", "TABLES", "names_in"]

LISTS = (".txt", ".lst", ".list")
TABLES = (".csv", ".tsv", ".parquet")
_COLUMNS = ("video", "path", "file", "url")


def names_in(
    listing: str,
    suffix: str,
    column: str | None,
    tell: Callable[[str], object] = lambda text: None,
) -> list[str]:
    """What a list, or a `column` of a table, by its ending `suffix`, names; `tell` hears how many
    rows name nothing.

    Raises FileNotFoundError where it is not there, ValueError where it cannot be read as what it is
    called or names nothing.
    """
    with opened(listing) as file:
        if suffix not in TABLES:
            names: Sequence[str] = list(_lines(listing, file))
        else:
            names = _table(listing, file, suffix, column)
    found = [name for name in names if name]
    _check_text(listing, found)
    if not found:
        raise ValueError(f"{listing} names no video; write one path a line, or a column of paths")
    if missing := len(names) - len(found):
        tell(f"{listing}: {missing} {'row' if missing == 1 else 'rows'} without a path passed over")
    return found


def _check_text(listing: str, names: Iterable[str]) -> None:
    """Raise ValueError for what no path holds: it comes of another encoding."""
    if any("\0" in name for name in names):
        raise ValueError(
            f"{listing} holds zero bytes, as text in UTF-16 does and no path; save it in UTF-8"
        )


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

        damage = (pyarrow.ArrowException, OSError, UnicodeDecodeError)
        try:
            content = pyarrow.parquet.ParquetFile(
                pyarrow.BufferReader(file.read()), page_checksum_verification=True
            )
        except damage as error:
            raise ValueError(f"{listing} is no Parquet file that can be read ({error})") from error
        chosen = _chosen(listing, content.schema_arrow.names, column)
        try:
            found: list[object] = content.read([chosen])[chosen].to_pylist()
        except damage as error:
            raise ValueError(
                f"{listing} is a damaged Parquet file: column {chosen!r} cannot be read ({error}); "
                "make it anew"
            ) from error
        if strangers := [name for name in found if not isinstance(name, str | None)]:
            raise ValueError(
                f"{listing}: column {chosen!r} holds {strangers[0]!r}, which is no path; name the "
                "column of paths (--column)"
            )
        return [name if isinstance(name, str) else "" for name in found]
    return _rows(listing, file, "\t" if suffix == ".tsv" else ",", column)


def _rows(listing: str, file: BinaryIO, delimiter: str, column: str | None) -> list[str]:
    """What a table in text has in the column of paths."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    # Strict, or a quote that is never closed takes in all that follows, without a word.
    rows = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        _check_text(listing, rows.fieldnames or ())
        chosen = _chosen(listing, rows.fieldnames or (), column)
        found = [row[chosen] or "" for row in rows]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{listing} is no table in UTF-8 that can be read ({error}); save it in UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(
            f"{listing} is no table in UTF-8 that can be read (after line {rows.line_num}: {error}"
            "); close the quotes there"
        ) from error
    for name in found:
        if "\n" in name or "\r" in name:
            raise ValueError(
                f"{listing} names {name[:80]!r}, over a line's end: close the quote that is left "
                "open there"
            )
    return found


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
