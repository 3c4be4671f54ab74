"""What a training run took, and what came out."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidprune.report import Report, read_fields


@dataclass(frozen=True, kw_only=True)
class Training:
    """A finished run: what it took, and what came out; `train.json` holds it.

    `epoch_seconds` are of whole epochs, evaluation left out; of one that was taken up in its middle
    only what was left. `peak_memory_gib`: of the accelerator, or of the process on a CPU, up to the
    end of training, evaluations between epochs included. `evaluations` are reports
    by reducer.
    """

    checkpoint: str
    model: str
    recipe: dict[str, Any]
    protocol: dict[str, Any]
    data: str
    num_videos: int
    videos: tuple[str, ...]
    unreadable: tuple[dict[str, str], ...]
    epoch_seconds: tuple[float, ...]
    peak_memory_gib: float
    evaluations: tuple[Report, ...]
    processes: int
    environment: dict[str, Any]
    command: str
    date: str

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Training":
        """The record that `to_json` wrote."""
        found = read_fields(text)
        reports = tuple(Report(**report) for report in found["evaluations"])
        return cls(**found | {"evaluations": reports})


def read_training(file: Path) -> Training:
    """The record in a `train.json`. Raises ValueError where it is none."""
    try:
        return Training.from_json(file.read_text(encoding="utf-8"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file} is no record of a training run; take it away, and the same command goes on "
            "from the last checkpoint, or restart (--restart) to train again"
        ) from error
