"""The output of a corpus job: Parquet shards that are there whole or not at all, near or far."""

import importlib
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import fsspec

from vidprune.belongings import check_not_of
from vidprune.corpus.answers import Kind, Row
from vidprune.corpus.soundness import Unsound, errors_in
from vidprune.corpus.stores import is_address, without_scheme
from vidprune.holding import held
from vidprune.runs import make_folder, told_apart

__all__ = ["Shards"]

# Readers of tables pass over what begins so.
SETTINGS = "_job.json"
# Stands there from the beginning of a restart to the end of its job.
_RESTARTED = "restarted"
_SHARD = re.compile(r"part-(\d{8})\.parquet")
# Stores where a file is there once it is whole.
_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})
# Seconds before a write that failed is tried again.
_PATIENCE = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class NotWritten(OSError):
    """A store goes on failing."""


class Shards:
    """The folder of a job, a path or an address that fsspec knows.

    A shard is named by its number, and its content is decided by its videos alone: whoever writes
    it again writes the same.
    """

    def __init__(self, output: str, *, tell: Callable[[str], object] = lambda text: None) -> None:
        try:
            importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise RuntimeError(
                "pyarrow is not installed, which writes tables: pip install 'vidprune[parquet]'"
            ) from error
        self.output, self._tell = output, tell
        output = without_scheme(output)
        self._near = not is_address(output)
        if self._near:
            make_folder(Path(output))
            self._files, self._root = fsspec.filesystem("file"), str(Path(output).absolute())
        else:
            try:
                self._files, self._root = fsspec.core.url_to_fs(output)
            except (ImportError, ValueError) as error:
                raise ValueError(
                    f"output={output!r} is in a store that cannot be reached ({error}); install "
                    "what is missing, or name a folder"
                ) from error
            self._files.makedirs(self._root, exist_ok=True)
        kinds = self._files.protocol
        self._whole = not _WHOLE.isdisjoint((kinds,) if isinstance(kinds, str) else kinds)

    def held(self) -> AbstractContextManager[None]:
        """Keeps other commands out of a folder while a block lasts; stores have no such thing.

        Raises FileExistsError where another is at work in it.
        """
        return held(Path(self._root)) if self._near else nullcontext()

    def claim(self, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Make the folder this job's, or find it again.

        `restart` forgets what is there, but for what a restart of the same job has done that was
        cut off before `finish`.

        Raises FileExistsError where it belongs to another job, or holds a run.
        """
        if self._near:
            check_not_of("run", Path(self._root))
        restarts = restart
        if restart:
            self._restart(settings)
        elif (theirs := self._settings()) is not None:
            restarts = theirs.pop(_RESTARTED, False)
            self._compare(theirs, settings)
        elif self.done():
            raise FileExistsError(self._taken("it holds shards but no _job.json"))
        if self._near:
            # What was being written when a job was killed.
            for left in Path(self._root).glob(".*.partial"):
                left.unlink(missing_ok=True)
        self._put_settings(settings, {_RESTARTED: True} if restarts else {})

    def finish(self, settings: Mapping[str, Any]) -> None:
        """Note that the job is done, so that a restart begins anew from now on."""
        if _RESTARTED in (self._settings() or {}):
            self._put_settings(settings)

    def _restart(self, settings: Mapping[str, Any]) -> None:
        """Discard all shards, unless they are of a restart of this very job."""
        try:
            theirs = self._settings()
        except FileExistsError:
            theirs = None
        there = self.done()
        if theirs == json.loads(json.dumps({**settings, _RESTARTED: True})):
            if there:
                self._tell(
                    f"{self.output}: the restart that was cut off goes on; shards that it has "
                    f"done: {len(there)}"
                )
            return
        # They go before the new settings are there, by which those that are left would be ours.
        for number in there:
            self._files.rm_file(self._place(_name(number)))

    def _compare(self, theirs: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Raise FileExistsError where the folder was claimed with other settings."""
        # Of a job that ended before its first shard nothing would be lost, such as one whose
        # batches were too large.
        begun = bool(self.done()) or "shard_size" not in theirs
        if begun and (named := told_apart(theirs, settings).values()):
            raise FileExistsError(self._taken(f"it was made with {', '.join(named)}"))

    def check_no_more_than(self, shards: int) -> None:
        """Raise FileExistsError where there are others beyond so many."""
        if beyond := [number for number in self.done() if number >= shards]:
            raise FileExistsError(
                self._taken(f"it holds {_name(min(beyond))}, and this one ends before that")
            )

    def done(self) -> set[int]:
        """The numbers of the shards that are there."""
        self._files.invalidate_cache()
        names = (path.rpartition("/")[2] for path in self._files.ls(self._root, detail=False))
        return {int(found[1]) for name in names if (found := _SHARD.fullmatch(name))}

    def write(self, number: int, rows: Sequence[Row], kind: Kind, told: Mapping[str, str]) -> None:
        """One shard. What `told` says of them all stands in every row."""
        import pyarrow.parquet

        buffer = io.BytesIO()
        told = dict(told)
        table = pyarrow.Table.from_pylist([row | told for row in rows], _schema(kind, told))
        pyarrow.parquet.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        self._put(_name(number), buffer.getvalue())

    def errors(
        self, number: int, names: Iterable[str], kind: Kind, told: Mapping[str, str]
    ) -> int | None:
        """How many rows of a shard have an error; None where it has to be done again: a store or a
        disk has damaged it, or it is not of the videos with these `names`."""
        try:
            with self._files.open(self._place(_name(number)), "rb") as file:
                return errors_in(file, _schema(kind, told), told, names)
        except (Unsound, OSError) as error:
            self._tell(f"{self.output}: {_name(number)} is done again ({error})")
            return None

    def _put(self, name: str, content: bytes) -> None:
        """Write a file; where the store fails now and then, try again.

        Raises NotWritten, with what to do, where it goes on failing.
        """
        for wait in (*_PATIENCE, None):
            try:
                return self._put_once(name, content)
            except Exception as error:  # Each store raises its own.
                reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
                if wait is None:
                    raise NotWritten(
                        f"{self.output}: {name} cannot be written ({reason}); nothing that is "
                        "there is lost: mend that, and run the same command again"
                    ) from error
                self._tell(f"{name} could not be written ({reason}); trying again")
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _put_once(self, name: str, content: bytes) -> None:
        if self._whole:
            self._files.pipe_file(self._place(name), content)
            return
        # A name of its own: two commands may be at work in one store, and write the same.
        partial = self._place(f".{name}.{uuid4().hex}.partial")
        if not self._near:
            self._files.pipe_file(partial, content)
            self._files.mv(partial, self._place(name))
            return
        try:
            with open(partial, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self._place(name))
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise

    def _put_settings(
        self, settings: Mapping[str, Any], more: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._put(SETTINGS, (json.dumps({**settings, **more}, indent=2) + "\n").encode())

    def _settings(self) -> dict[str, Any] | None:
        try:
            found = json.loads(self._files.cat_file(self._place(SETTINGS)))
        except FileNotFoundError:
            return None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise FileExistsError(self._taken("its _job.json is not ours"))
        return found

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _taken(self, reason: str) -> str:
        return (
            f"output {self.output} belongs to another job: {reason}; choose another folder, or "
            "--restart to discard what is there"
        )


def _name(number: int) -> str:
    return f"part-{number:08d}.parquet"


def _schema(kind: Kind, told: Mapping[str, str]) -> Any:
    """The columns of a shard."""
    import pyarrow

    said = {
        "classes": {
            "labels": pyarrow.list_(pyarrow.int32()),
            "probabilities": pyarrow.list_(pyarrow.float32()),
        },
        "embedding": {"embedding": pyarrow.list_(pyarrow.float32())},
    }[kind]
    return pyarrow.schema(
        {"video": pyarrow.string(), "view": pyarrow.int32()}
        | said
        | {"error": pyarrow.string()}
        | {name: pyarrow.string() for name in told}
    )
