"""What stands beside an exported model: how to feed it, what it says, and what was checked."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vidprune.reducers.spec import parse
from vidprune.report import read_fields
from vidprune.video import Protocol

Format = Literal["onnx", "torch", "aoti"]
FORMATS: tuple[Format, ...] = ("onnx", "torch", "aoti")
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2", "aoti": ".pt2"}
DTYPES = ("float32", "float16", "bfloat16")
# So many record their own version, that older code refuses what it cannot know.
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Check:
    """An exported model against the model itself, on a clip of each of `videos` (names).

    `same_kept`: of how many clips exactly the same tokens stayed, in the same order, at every
    stage; `near_ties`: of how many others the choice is the specification's all the same, within
    rounding, and `unjudged` of how many it is not known, and their answers are compared with the
    model's where it keeps just these tokens. `largest_difference`: of logits or vectors, over the
    largest of them.
    `same_class`: of how many clips the class is the same, and `kl_nats` the largest divergence
    of any; both None without a head. `same_kept_together`: of how many clips the same tokens stay
    in a batch with others as alone, and `difference_together` by how much their answers differ
    then; both None where one clip is taken at once.
    """

    videos: tuple[str, ...]
    same_kept: int
    near_ties: int
    unjudged: int
    largest_difference: float
    same_class: int | None
    kl_nats: float | None
    same_kept_together: int | None
    difference_together: float | None


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """By which a file is known again."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """An exported model. `obstacles`: of ONNX, what TensorRT's parser would not take (see
    `exporting.tensorrt`). `inputs`, `outputs`: as of `program.Program`. `batch`: how many clips it
    takes at once; None for any number. `classes`: their names, or numbers as text where they have
    none; none without a head. `model_file`, `weights_file`: of the file itself and of the one of
    weights beside it, if there is any. `image_mean`, `image_std`: of pixels in [0, 1]."""

    format: Format
    model_file: Stamp
    weights_file: Stamp | None
    checkpoint: str
    model: str
    reducer: str
    dtype: str
    quantized: str | None
    device: str
    opset: int | None
    obstacles: tuple[str, ...] | None
    batch: int | None
    clip_shape: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    protocol: dict[str, Any]
    classes: tuple[str, ...]
    gmacs_per_view: float
    gmacs_dense: float
    config: dict[str, Any]
    check: Check
    environment: dict[str, Any]
    command: str
    date: str
    unreadable: tuple[dict[str, str], ...] = ()
    version: int = VERSION

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ExportRecord":
        """The record that `to_json` wrote. Raises ValueError for any other."""
        found = read_fields(text)
        for name, kind in (("check", Check), ("model_file", Stamp), ("weights_file", Stamp)):
            if found.get(name) is not None:
                found[name] = _part(name, kind, found[name])
        record: ExportRecord = _part("record", cls, found)
        _check_values(record)
        return record

    @property
    def digest(self) -> str:
        """A short name for all that decides its answers: the files and how they are fed and read,
        not where they lie or what was checked."""
        decisive = {name: value for name, value in asdict(self).items() if name in _DECISIVE}
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


_DECISIVE = frozenset(
    (
        *("format", "model_file", "weights_file", "reducer", "dtype", "batch", "clip_shape"),
        *("inputs", "outputs", "image_mean", "image_std", "protocol", "classes", "config"),
    )
)


def _part(name: str, kind: type, found: Any) -> Any:
    """A dataclass of what stands in a record."""
    known = {field.name for field in fields(kind)}
    if not isinstance(found, dict) or (unknown := found.keys() - known):
        what = "is no object" if not isinstance(found, dict) else f"has {sorted(unknown)[0]!r}"
        raise ValueError(f"{name} {what}, which none of ours does")
    try:
        return kind(**{key: _tuple(value) for key, value in found.items()})
    except TypeError as error:
        raise ValueError(f"{name} lacks what ours has ({error})") from error


def _check_values(record: ExportRecord) -> None:
    """Refuse what a hand may have written: by name, with its value."""
    wanted = {
        "format": record.format in FORMATS,
        "model_file": isinstance(record.model_file, Stamp),
        "check": isinstance(record.check, Check),
        "dtype": record.dtype in DTYPES,
        "device": isinstance(record.device, str),
        "reducer": isinstance(record.reducer, str),
        "batch": record.batch is None or (type(record.batch) is int and record.batch > 0),
        "clip_shape": _all(int, record.clip_shape) and len(record.clip_shape) == 4,
        "inputs": record.inputs in (("pixel_values",), ("pixel_values", "clip_keys")),
        "outputs": _are_outputs(record.outputs),
        "image_mean": _all(float | int, record.image_mean) and len(record.image_mean) == 3,
        "image_std": _all(float | int, record.image_std) and len(record.image_std) == 3,
        "classes": _all(str, record.classes),
        "config": isinstance(record.config, dict),
        "protocol": isinstance(record.protocol, dict),
    }
    for name, holds in wanted.items():
        if not holds:
            raise ValueError(f"{name} is {getattr(record, name)!r}")
    parse(record.reducer)
    try:
        Protocol(**record.protocol)
    except TypeError as error:
        raise ValueError(f"protocol is {record.protocol!r}") from error


def _all(kind: Any, values: Any) -> bool:
    return isinstance(values, tuple) and all(isinstance(each, kind) for each in values)


def _are_outputs(names: Any) -> bool:
    if not _all(str, names) or not names or names[0] not in ("logits", "pooler_output"):
        return False
    return tuple(names[1:]) == tuple(f"origin_{number}" for number in range(1, len(names)))


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def stamp(path: Path) -> Stamp:
    """What a file is known by."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return Stamp(sha256=found, size_bytes=path.stat().st_size)


def record_path(path: Path) -> Path:
    """Where the record of an exported model stands."""
    return path.with_name(f"{path.name}.json")


def is_ours(record: Path) -> bool:
    """Whether a file is a record of some version, to be replaced without asking."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and {"format", "clip_shape", "check"} <= found.keys()


def weights_path(path: Path) -> Path:
    """Where weights are that are too large for an ONNX graph's own file."""
    return path.with_name(f"{path.name}.data")


def located(source: str | Path) -> Path:
    """Where an exported model lies: what a link points to, where no record stands beside that."""
    path = Path(source)
    return path if record_path(path).is_file() or not path.is_symlink() else path.resolve()


def is_exported(source: str | Path) -> bool:
    """Whether this names an exported model: by its ending, or by the record beside it."""
    path = located(source)
    return path.suffix in ENDINGS.values() or (path.is_file() and record_path(path).is_file())


def read_record(path: Path) -> ExportRecord:
    """The record of an exported model.

    Raises FileNotFoundError where the model or its record is missing, ValueError where the record
    is none of ours, or of another file.
    """
    for file in (path, record_path(path)):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; vidprune export writes a model and, beside it, "
                f"{record_path(path).name}, which belong together"
            )
    try:
        text = record_path(path).read_text(encoding="utf-8")
        _check_version(path, text)
        record = ExportRecord.from_json(text)
    except _OtherVersion:
        raise
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{record_path(path)} is no record of vidprune export: {error}; export the model again"
        ) from error
    if path.suffix != ENDINGS[record.format]:
        raise ValueError(
            f"{path} is recorded as {record.format}, whose files end in {ENDINGS[record.format]}; "
            "nothing of it is loaded: take the file and its record as they were exported"
        )
    return record


class _OtherVersion(ValueError):
    """A record of a vidprune that is newer, or much older."""


def _check_version(path: Path, text: str) -> None:
    """Before its fields are looked at, which may be others."""
    found = json.loads(text)
    version = found.get("version", VERSION) if isinstance(found, dict) else VERSION
    if version != VERSION:
        raise _OtherVersion(
            f"{record_path(path)} is of version {version}, and this vidprune knows {VERSION}; "
            "export the model again, or take the vidprune that wrote it"
        )


def check_files(path: Path, record: ExportRecord) -> None:
    """Raise ValueError or FileNotFoundError unless the files are those that were recorded."""
    for file, wanted in ((path, record.model_file), (weights_path(path), record.weights_file)):
        if wanted is None:
            continue
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist, which holds the weights of {path.name}; keep both, under "
                "the names that they were exported with"
            )
        if file.stat().st_size != wanted.size_bytes or stamp(file) != wanted:
            raise ValueError(
                f"{file} is not the file that {record_path(path).name} was written for; take both "
                "from one export"
            )
