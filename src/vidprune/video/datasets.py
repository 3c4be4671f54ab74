"""Lists of labelled videos, and the videos meant by a command line.

Nothing here opens a video: that a file is missing or broken is found, named and counted where it
is read, and the rest goes on.
"""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "VIDEO_SUFFIXES",
    "Sample",
    "class_names",
    "expand_inputs",
    "plain_names",
    "read_class_folders",
    "read_dataset",
    "read_list",
]

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
})
# fmt: on


@dataclass(frozen=True)
class Sample:
    """One labelled video: where it is, its label (from 0), and its `name`, unique in its set.

    The name is the path as the list writes it, or relative to the folder of class folders.
    """

    path: Path
    label: int
    name: str


def read_list(list_path: str | os.PathLike[str]) -> tuple[Sample, ...]:
    """Read a list in VideoMAE's format: one `path label` per line, in the order of the file.

    Path and label are separated by the last run of blanks, so paths may hold spaces; a relative
    path starts at the list's folder. Blank lines, lines that begin with `#`, Windows line ends
    and a byte order mark are passed over. A video listed twice with the same label is one video,
    at its first place, as in the release's merging of results.

    Raises FileNotFoundError where there is no such list, and ValueError, naming file and line,
    where a line has no label or none that is a whole number of 0 or more, where a video has two
    labels, where nothing is listed, or where the file is not UTF-8.
    """
    list_path = Path(list_path)
    if list_path.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(
            f"{list_path} is a video, and labelled videos are asked for; give a list of `path "
            "label` lines or a folder of class folders"
        )
    samples: dict[str, tuple[int, Sample]] = {}
    for number, line in enumerate(_lines(list_path), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        sample = _parse_line(line, list_path, number)
        first, known = samples.setdefault(sample.name, (number, sample))
        if known.label != sample.label:
            raise ValueError(
                f"{list_path}, line {number}: {sample.name!r} has label {sample.label}, but "
                f"line {first} gives it {known.label}; keep one of the two lines"
            )
    if not samples:
        raise ValueError(f"{list_path}: no video is listed; write one `path label` per line")
    return tuple(sample for _, sample in samples.values())


def _lines(list_path: Path) -> list[str]:
    try:
        # Not splitlines(), which also splits at characters that file names may hold.
        lines = list_path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{list_path}: byte {error.start} is not UTF-8; save the list with that encoding"
        ) from error
    if any("\0" in line for line in lines):
        raise ValueError(
            f"{list_path} holds zero bytes, as text in UTF-16 does and no path; save it in UTF-8"
        )
    return lines


def _parse_line(line: str, list_path: Path, number: int) -> Sample:
    where = f"{list_path}, line {number}"
    name, _, label = line.replace("\t", " ").rpartition(" ")
    name = name.rstrip()
    if not name:
        raise ValueError(f"{where}: {line!r} has no label; write `path label`, with a space")
    if not re.fullmatch("[0-9]+", label):
        raise ValueError(
            f"{where}: the label is {label!r}, but must be a whole number of 0 or more; write "
            f"`path label`, with a space"
        )
    return Sample(list_path.parent / name, int(label), name)


def class_names(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of a folder's class folders, sorted; a name's position is its label.

    Hidden folders (whose names begin with a dot) are no classes.
    """
    entries = sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir())
    return tuple(name for name in entries if not name.startswith("."))


def read_class_folders(
    folder: str | os.PathLike[str], *, classes: Sequence[str | None] | None = None
) -> tuple[Sample, ...]:
    """Read a folder that holds one folder of videos for each class.

    `classes` are the names of a model's classes in order, each None where it has none. Folders
    are found among them by name, whatever the case and with underscores for spaces, so that a
    part of the classes can be evaluated too. Where classes have no names, or none are given,
    labels are positions in `class_names`. Files count by their ending (VIDEO_SUFFIXES), at any
    depth; order is natural (clip2 before clip10).

    Raises ValueError where a folder is none of the classes, where classes without names are not
    as many as the folders, and where no class folder holds a video.
    """
    folder = Path(folder)
    samples = tuple(
        Sample(path, label, path.relative_to(folder).as_posix())
        for name, label in _labels(folder, classes).items()
        for path in _videos_under(folder / name)
    )
    if not samples:
        raise ValueError(
            f"{folder}: no class folder with videos in it; give a list file, a folder with a "
            f"list in it, or a folder with one folder of videos for each class"
        )
    return samples


def _labels(folder: Path, classes: Sequence[str | None] | None) -> dict[str, int]:
    """The label of each class folder."""
    names = class_names(folder)
    if not names:
        return {}
    if classes is None or not any(classes):
        if classes is not None and len(names) != len(classes):
            raise ValueError(
                f"{folder} holds {len(names)} class folders, but the model has {len(classes)} "
                "classes without names, so that their order says nothing; name the classes "
                "(labels), or give a list file"
            )
        return {name: label for label, name in enumerate(names)}
    known = plain_names(classes)
    if strangers := [name for name in names if _plain(name) not in known]:
        raise ValueError(
            f"{folder}: {', '.join(strangers[:4])}{', ...' if len(strangers) > 4 else ''} is none "
            f"of the model's classes (such as {', '.join(filter(None, classes[:3]))}); name "
            "folders after classes, name the classes (labels), or give a list file"
        )
    return {name: known[_plain(name)] for name in names}


def plain_names(names: Sequence[str | None]) -> dict[str, int]:
    """The positions of names by what they are without that which differs between folders and
    lists; those that are None are left out."""
    return {_plain(name): position for position, name in enumerate(names) if name}


def _plain(name: str) -> str:
    """A class name without what differs between folders and lists."""
    return " ".join(name.casefold().replace("_", " ").split())


def read_dataset(
    data: str | os.PathLike[str],
    *,
    split: str = "test",
    classes: Sequence[str | None] | None = None,
) -> tuple[Sample, ...]:
    """Read labelled videos from a list file, a folder with `<split>.csv`, or class folders.

    `classes` gives class folders their labels (see `read_class_folders`); lists have their own.

    Raises FileNotFoundError where `data` does not exist, and ValueError as `read_list` and
    `read_class_folders` do.
    """
    data = Path(data)
    if not data.exists():
        raise FileNotFoundError(f"data is {str(data)!r}, but there is no such file or folder")
    if not data.is_dir():
        return read_list(data)
    in_folder = data / f"{split}.csv"
    if in_folder.exists():
        return read_list(in_folder)
    return read_class_folders(data, classes=classes)


def expand_inputs(inputs: Iterable[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Turn files, folders and glob patterns into files, in order.

    A folder stands for the videos under it at any depth (by VIDEO_SUFFIXES), a pattern (`*`,
    `?`, `[...]`, `**` for any depth) for the files and folders that match, as a shell would
    have it; both in natural order. Nothing is lost: what does not exist, matches nothing or holds
    no video stays in the result as it was written, so that reading it reports it by name. What is
    named twice stands there twice.
    """
    return tuple(path for entry in inputs for path in _expand(os.fspath(entry)) or [Path(entry)])


def _expand(entry: str) -> list[Path]:
    # A name that exists is meant literally, even if it holds brackets or question marks.
    if os.path.isdir(entry):
        return _videos_under(Path(entry))
    if os.path.lexists(entry):
        return [Path(entry)]
    matches = sorted(map(Path, glob.glob(entry, recursive=True)), key=_natural)
    return [path for match in matches for path in _expand(str(match)) or [match]]


def _videos_under(folder: Path) -> list[Path]:
    found = [
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
    ]
    return sorted(found, key=_natural)


def _natural(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Sort key that compares runs of digits as numbers, folder by folder."""
    return tuple(
        tuple(
            (0, int(run), run) if run.isdecimal() else (1, 0, run)
            for run in re.findall(r"\d+|\D+", part)
        )
        for part in path.parts
    )
