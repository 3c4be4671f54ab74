"""The folder of a run: what it was asked, and the logits it has so far, kept from any crash."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from vidprune.belongings import check_not_of
from vidprune.holding import held
from vidprune.inference import ViewLogits
from vidprune.parallel import Process

_SETTINGS = "run.json"
_VIEWS = "views.jsonl"
_OWN = (_SETTINGS, "report.json", "views.parquet")
_JOURNAL = re.compile(r"views(\.\d+)?\.jsonl")

Key = tuple[str, int]
Line = tuple[Path, int]


@dataclass(frozen=True)
class RunFolder:
    """A folder that belongs to one job, which can be stopped and taken up again.

    Every process appends to a journal of its own, one line per view; `gather` makes one file of
    them, sorted, so that it does not show how often the job was cut off or over how many
    processes it was spread.
    """

    path: Path
    process: Process

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands out of it while the block lasts; the process that reports does so.

        Raises FileExistsError, in all processes, where another is at work in it.
        """
        with ExitStack() as stack:

            def take() -> None:
                self._make()
                stack.enter_context(held(self.path))

            self._by_the_first(take)
            yield

    def claim(self, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Make the folder this job's, or find it again.

        Raises FileExistsError, in all processes, where it belongs to another run or holds answers
        of a corpus; `restart` forgets what is there of a run.
        """

        def take() -> None:
            self._make()
            check_not_of("answers", self.path)
            if restart:
                self._forget()
            self._compare(settings)
            # Before any process reads, so that none sees a line change under its eyes.
            for journal in self._journals():
                _drop_partial_line(journal)
            write_atomically(self.path / _SETTINGS, json.dumps(settings, indent=2) + "\n")

        self._by_the_first(take)

    def _by_the_first(self, work: Callable[[], None]) -> None:
        """Let the process that reports do it, while the others wait; what is refused there is
        refused in all, or they would only hear that one is gone."""
        refused: FileExistsError | None = None
        if self.process.reports:
            try:
                work()
            except FileExistsError as error:
                refused = error
        for refusal in self.process.gather(refused):
            if refusal is not None:
                raise refusal

    def settings(self) -> dict[str, Any] | None:
        """What its run was claimed with; None where it holds none of ours."""
        file = self.path / _SETTINGS
        return _settings_in(file) if file.exists() else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """The line of every view that is done, each view once."""
        return (json.loads(line) for line in self._read(self._index().values()))

    def journal(self) -> TextIO:
        """Where this process appends; `claim` has cut off what a crash left of a line."""
        name = f"views.{self.process.rank}.jsonl" if self.process.rank else _VIEWS
        return (self.path / name).open("a", encoding="utf-8")

    def gather(self, order: Iterable[Key]) -> None:
        """Make one `views.jsonl` in the given order out of all journals."""
        index = self._index()
        partial = self.path / f"{_VIEWS}.partial"
        with partial.open("wb") as merged:
            merged.writelines(self._read(index[key] for key in order if key in index))
        os.replace(partial, self.path / _VIEWS)
        for journal in self._journals():
            if journal.name != _VIEWS:
                journal.unlink()

    def _index(self) -> dict[Key, Line]:
        """Where the line of each view stands; logits stay on disk, for jobs larger than memory."""
        found: dict[Key, Line] = {}
        for journal in self._journals():
            start = 0
            with journal.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n"):
                        found[_key(journal, line)] = (journal, start)
                    start += len(line)
        return found

    def _read(self, places: Iterable[Line]) -> Iterator[bytes]:
        with ExitStack() as stack:
            files: dict[Path, BinaryIO] = {}
            for journal, start in places:
                if journal not in files:
                    files[journal] = stack.enter_context(journal.open("rb"))
                files[journal].seek(start)
                yield files[journal].readline()

    def _journals(self) -> list[Path]:
        files = self.path.glob("views*.jsonl")
        return sorted(file for file in files if _JOURNAL.fullmatch(file.name))

    def _make(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"output {self.path} is a file; name a folder")
        self.path.mkdir(parents=True, exist_ok=True)

    def _forget(self) -> None:
        for file in (*self._journals(), *(self.path / name for name in _OWN)):
            file.unlink(missing_ok=True)

    def _compare(self, settings: Mapping[str, Any]) -> None:
        file = self.path / _SETTINGS
        if not file.exists():
            if self._journals():
                raise FileExistsError(self._taken("it holds views but no run.json"))
            return
        theirs = _settings_in(file)
        if theirs is None:
            raise FileExistsError(self._taken("its run.json is not ours"))
        differing = told_apart(theirs, settings)
        # However its path is written now, a checkpoint is known by what is in it.
        if differing and [*differing] != ["checkpoint"]:
            raise FileExistsError(self._taken(f"it was made with {', '.join(differing.values())}"))

    def _taken(self, reason: str) -> str:
        return (
            f"output {self.path} belongs to another run: {reason}; choose another folder, or "
            "restart (--restart) to discard what is there"
        )


def told_apart(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, str]:
    """The settings that differ, and how; one that is not named is as usual."""
    return {
        name: f"{name} {_named(theirs, name)}, not {_named(ours, name)}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    }


def _named(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "as usual"


def _settings_in(file: Path) -> dict[str, Any] | None:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return settings if isinstance(settings, dict) else None


def _key(journal: Path, line: bytes) -> Key:
    try:
        row = json.loads(line)
        return row["video"], row["view"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"output {journal.parent}: {journal.name} holds a line that is no view of a run "
            f"({line[:40]!r}); mend it, or restart to discard what is there"
        ) from error


def view_row(logits: ViewLogits, *, label: int, place: tuple[int, int]) -> dict[str, Any]:
    """The line that is kept of one view; `place` is its (segment, crop). With a budget by content
    it also says which setting answered."""
    setting = {} if logits.setting is None else {"setting": logits.setting}
    return {
        "video": logits.name,
        "view": logits.view,
        "segment": place[0],
        "crop": place[1],
        "label": label,
        **setting,
        # The shortest digits that give the same float32 back.
        "logits": [float(str(value)) for value in logits.logits.numpy()],
    }


def append(journal: TextIO, row: Mapping[str, Any]) -> None:
    """Add one line and hand it to the system, so that a killed process loses nothing."""
    journal.write(json.dumps(row) + "\n")
    journal.flush()


def make_folder(output: Path) -> None:
    """Make a folder for what is to be written; ValueError where a file is in the way."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(
            f"output={str(output)!r} leads through a file; name a folder, new or not"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    with whole_or_nothing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def whole_or_nothing(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes the place of `path` once it is whole."""
    # The suffix stays last: by it others know what to write.
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    yield partial
    os.replace(partial, path)


def _drop_partial_line(path: Path) -> None:
    """Cut a journal back to its last whole line."""
    whole = 0
    with path.open("r+b") as lines:
        for line in lines:
            whole += len(line) if line.endswith(b"\n") else 0
        lines.truncate(whole)


def write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows of views as one Parquet table, a thousand in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    rows = iter(rows)
    first = next(rows, {})
    rows = chain([first] if first else [], rows)
    numbers = ["view", "segment", "crop", "label", *(["setting"] if "setting" in first else [])]
    schema = pyarrow.schema(
        {"video": pyarrow.string()}
        | {name: pyarrow.int64() for name in numbers}
        | {"logits": pyarrow.list_(pyarrow.float32())}
    )
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, 1000)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))
