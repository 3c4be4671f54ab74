"""Whether a shard is what its job wrote there."""

from collections.abc import Iterable, Mapping
from itertools import groupby, zip_longest
from typing import Any

__all__ = ["Unsound", "errors_in"]

_ROWS_AT_ONCE = 1024


class Unsound(ValueError):
    """Why a shard is none of its job, or no longer what was written."""


def errors_in(file: Any, schema: Any, told: Mapping[str, str], names: Iterable[str]) -> int:
    """How many rows of an open shard have an error. All of it is read, so many rows at a time,
    and with the checksums of its pages: a damaged page says nothing until then.

    Raises Unsound where it cannot be read, has other columns than `schema`, is of other videos than
    `names`, in this order, or says something else in its rows than `told`.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        shard = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        if not shard.schema_arrow.equals(schema):
            raise Unsound("its columns are other ones")
        errors, videos = 0, _Videos()
        for batch in shard.iter_batches(_ROWS_AT_ONCE):
            batch.validate()
            errors += len(batch) - batch["error"].null_count
            videos.add(batch["video"].to_pylist())
            if any(set(batch[key].unique().to_pylist()) - {value} for key, value in told.items()):
                raise Unsound("it is of another job")
    except Unsound:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Unsound(f"it cannot be read: {' '.join(str(error).split())}") from error
    if any(here != wanted for here, wanted in zip_longest(videos.names, names)):
        raise Unsound("it holds other videos")
    return errors


class _Videos:
    """The names in a column, each once where it stands in rows that follow each other."""

    def __init__(self) -> None:
        self.names: list[str | None] = []

    def add(self, column: Iterable[str | None]) -> None:
        """What the next rows have in it."""
        for name, _ in groupby(column):
            if not self.names or self.names[-1] != name:
                self.names.append(name)
