"""What an evaluation found, as a record."""

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation. `top1` and `top5` are per cent of `num_videos`, which leaves out `unreadable`.

    `gmacs_per_view` counts multiply-accumulates in 10^9. `videos_per_second` is over the videos
    that this run did itself, None where all were there already.
    """

    top1: float | None
    top5: float | None
    num_videos: int
    unreadable: tuple[dict[str, str], ...]
    gmacs_per_view: float
    views_per_video: int
    videos_per_second: float | None
    reducer: str
    checkpoint: str
    protocol: dict[str, Any]
    data: str
    dtype: str
    batch_size: int
    processes: int
    environment: dict[str, Any]
    date: str

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"
