"""What stands beside an exported model: how to feed it, what it says, and what was checked."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vidprune.report import read_fields

Format = Literal["onnx", "torch", "aoti"]
FORMATS: tuple[Format, ...] = ("onnx", "torch", "aoti")
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
class ExportRecord:
    """An exported model. `obstacles`: of ONNX, what TensorRT's parser would not take (see
    `exporting.tensorrt`). `inputs`, `outputs`: as of `program.Program`. `batch`: how many clips it
    takes at once; None for any number. `classes`: their names, or numbers as text where they have
    none; none without a head. `image_mean`, `image_std`: of pixels in [0, 1]."""

    format: Format
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
        """The record that `to_json` wrote."""
        found = read_fields(text)
        check = {name: _tuple(value) for name, value in found["check"].items()}
        return cls(**found | {"check": Check(**check)})


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def record_path(path: Path) -> Path:
    """Where the record of an exported model stands."""
    return path.with_name(f"{path.name}.json")


def is_exported(source: str | Path) -> bool:
    """Whether this names an exported model: by its ending, or by the record beside it."""
    path = Path(source)
    return path.suffix in (".onnx", ".pt2") or (path.is_file() and record_path(path).is_file())


def read_record(path: Path) -> ExportRecord:
    """The record of an exported model.

    Raises FileNotFoundError where the model or its record is missing, ValueError where the record
    is none of ours.
    """
    for file in (path, record_path(path)):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} does not exist; vidprune export writes a model and, beside it, "
                f"{record_path(path).name}, which belong together"
            )
    try:
        record = ExportRecord.from_json(record_path(path).read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{record_path(path)} is no record of vidprune export, or of a newer one; export the "
            "model again"
        ) from error
    if record.version != VERSION:
        raise ValueError(
            f"{record_path(path)} is of version {record.version}, and this vidprune knows "
            f"{VERSION}; export the model again, or take the vidprune that wrote it"
        )
    return record
