"""What a benchmark found: typed records that turn to JSON, to CSV and back."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vidprune.benchmarking.rates import Rates
from vidprune.intervals import Interval
from vidprune.metrics import Nearness


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one row is about: a model on clips of a shape, a reducer, and how it is run.

    `checkpoint` is as the user named it. `matched` names the reducer whose arithmetic a rival's
    setting, or a cheaper dense model, was chosen to equal; None for what was asked for as it is.
    `views` counts the views of a video where they are fewer than the protocol's, None elsewhere:
    a view is then what it is for the dense model, and costs as much.
    """

    checkpoint: str
    frames: int
    size: int
    reducer: str
    matched: str | None
    dtype: str
    batch_size: int
    mode: str
    views: int | None = None


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Times of a forward in ms and what follows from them.

    `latency_p50_ms`, `latency_p95_ms`: quantiles over the repeats of `latencies_ms`, a whole batch
    each; `clips_per_second` is at the median. `spread`: the interquartile range over the median.
    `peak_memory_mib`: the most that a forward holds beyond weights and input, None where that
    cannot be seen. `speed_up`: over the best dense run of the same model, dtype and batch, repeat
    by repeat, the median; `speed_up_low` and `speed_up_high` are its quartiles; None without one.
    `efficiency`: the speed-up over the ratio of multiply-accumulates. `account_ms`: where an eager
    forward's time goes, by kind, and `selection_share` the part of it that selection takes; None
    for compiled ones. `bound_ms`: the dense time with linear layers shrunk by their arithmetic and
    attention by its own.
    """

    clips_per_second: float
    latency_p50_ms: float
    latency_p95_ms: float
    latencies_ms: tuple[float, ...]
    spread: float
    peak_memory_mib: float | None
    speed_up: float | None
    speed_up_low: float | None
    speed_up_high: float | None
    efficiency: float | None
    account_ms: Mapping[str, float] | None
    selection_share: float | None
    bound_ms: float | None

    @property
    def swallowed(self) -> bool:
        """Whether the spread swallows the difference from dense: the quartiles lie around 1."""
        if self.speed_up_low is None or self.speed_up_high is None:
            return False
        return self.speed_up_low <= 1 <= self.speed_up_high

    @property
    def over_bound(self) -> float | None:
        """The median time over the bound."""
        return None if self.bound_ms is None else self.latency_p50_ms / self.bound_ms


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """From files to logits: videos per second as a whole, of decoding alone, of the model alone.

    Decoding runs alone with as many workers as beside the model, which alone is given the same
    views out of memory. The slower of both is what bounds the whole. `seconds`: of each pass over
    all videos, from files to logits; speeds are those of the median pass.
    """

    videos_per_second: float
    decoding_videos_per_second: float
    model_videos_per_second: float
    views_per_video: int
    seconds: tuple[float, ...]

    @property
    def bound_by(self) -> str:
        """`decoding` or `model`."""
        slower = self.decoding_videos_per_second < self.model_videos_per_second
        return "decoding" if slower else "model"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One setting: arithmetic (10^9 multiply-accumulates a view), speed, nearness to dense.

    `tokens` after each stage. `speed` is None where it could not be run, for the `reason` given,
    and for fewer views, whose forward is the dense one. `end_to_end` is taken in one batch size
    and mode; `nearness` was found there too, and stands in all rows of the same model. Only rows
    with the same number of a `contest` were timed in turn: their speeds compare.
    """

    setting: Setting
    gmacs_per_view: float
    gmacs_dense: float
    tokens: tuple[int, ...]
    speed: Speed | None = None
    reason: str | None = None
    end_to_end: EndToEnd | None = None
    nearness: Nearness | None = None
    contest: int = 0

    @property
    def gmacs_per_video(self) -> float | None:
        """The arithmetic of all views that it is given; None where it was given no video."""
        views = self.end_to_end.views_per_video if self.end_to_end else None
        return None if views is None else views * self.gmacs_per_view


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A benchmark's rows and what they were taken on; `videos` says how many nearness is over,
    `rates` what the machine did at best, by dtype."""

    rows: tuple[BenchmarkRow, ...]
    repeats: int
    videos: int
    unreadable: tuple[dict[str, str], ...]
    environment: dict[str, Any]
    command: str
    date: str
    rates: dict[str, Rates] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> "Benchmark":
        """The record that `to_json` wrote."""
        record = json.loads(text)
        rows = tuple(_row(row) for row in record.pop("rows"))
        record["unreadable"] = tuple(record["unreadable"])
        # Older records have none.
        rates = record.pop("rates", {})
        record["rates"] = {dtype: Rates(**found) for dtype, found in rates.items()}
        return cls(rows=rows, **record)

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def to_csv(self) -> str:
        """One line per row; what is nested stands under `speed.latency_p50_ms` and the like."""
        flat = [_flat(asdict(row)) for row in self.rows]
        known = list(dict.fromkeys(name for row in flat for name in row))
        # What is nested in one row and missing in another has no column for the missing itself.
        names = [name for name in known if not any(n.startswith(f"{name}.") for n in known)]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        return text.getvalue()


def _row(record: dict[str, Any]) -> BenchmarkRow:
    for name, kind in (("setting", Setting), ("speed", Speed), ("end_to_end", EndToEnd)):
        if record[name] is not None:
            record[name] = kind(**_tupled(record[name]))
    if record["nearness"] is not None:
        near: dict[str, Any] = record["nearness"]
        read: dict[str, Any] = {
            name: Interval(**value) if isinstance(value, dict) else value
            for name, value in near.items()
        }
        record["nearness"] = Nearness(**read)
    return BenchmarkRow(**_tupled(record))


def _tupled(record: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists alone."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots; sequences as text."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = (
                " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            )
    return flat
