"""What commands found, as typed records; those that are kept turn to JSON and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vidprune.intervals import METHOD, Interval
from vidprune.metrics import Accuracy, Nearness


def hardware(environment: Mapping[str, Any]) -> str:
    """What a record ran on: the accelerator, or else the processor."""
    device = environment["device"]
    return str(environment["cpu"] if device == "cpu" else device)


@dataclass(frozen=True, kw_only=True)
class SettingShare:
    """Of a budget by content: a setting, how many views it answered, and what each of these cost,
    with all that it went through (10^9 multiply-accumulates)."""

    reducer: str
    views: int
    gmacs_per_view: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation. `top1` and `top5` are per cent of `num_videos`, which leaves out `unreadable`.
    Videos that are `not_finite` (overflowed logits, as fp16 can give) count as misses.

    `attention` is named where it is not what the model's family takes of itself; `onednn` says
    whether oneDNN took the products of linear layers, `compiled` whether the model was one graph,
    `replayed` whether its launches were recorded and replayed, `decoder` what was asked to read
    the videos, `quantized` what the linear layers of blocks were in, if not in the dtype.
    `gmacs_per_view` counts multiply-accumulates in 10^9, with a budget by content their mean, of
    which `settings` then say how it comes about. `videos_per_second` is over the videos
    that this run did itself, None where several reducers shared a pass. A run that finds all views
    there already leaves what is said of hardware, command, batch, rate and date as it was.
    """

    top1: float | None
    top5: float | None
    num_videos: int
    unreadable: tuple[dict[str, str], ...]
    not_finite: tuple[str, ...]
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
    command: str
    date: str
    attention: str | None = None
    onednn: bool = False
    compiled: bool = False
    replayed: bool = False
    decoder: str = "pyav"
    quantized: str | None = None
    settings: tuple[SettingShare, ...] = ()

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far this process is with its share: videos `done` of `total`, and what they show."""

    done: int
    total: int
    unreadable: int
    accuracy: Accuracy


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class by its number and its name, with its probability in [0, 1]."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one input: its `top` classes, or the `error` why there are none."""

    video: str
    top: tuple[Guess, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What became of the reference's accuracy: `points` of top-1, paired video by video.

    `lost` videos only the reference gets right, `gained` only the other; `p_value` is the exact
    two-sided p of these two numbers, or, where videos come from known sources, that of flipping
    the signs of whole sources.
    """

    points: Interval
    lost: int
    gained: int
    p_value: float

    @classmethod
    def read(cls, found: Mapping[str, Any] | None) -> "Change | None":
        """What a record has of it, which may be nothing."""
        return None if found is None else cls(**{**found, "points": Interval(**found["points"])})


def read_fields(text: str) -> dict[str, Any]:
    """The fields of a record from its JSON, lists as the tuples that they were."""
    found: dict[str, Any] = json.loads(text)
    lists = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return found | lists


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run on the videos that all runs could read: accuracy, cost, and what moved.

    `top1` is per cent, and `not_finite` videos (overflowed logits) are misses. GMACs are 10^9
    multiply-accumulates, `gmacs_per_video` those of all views of a video. `change` and `nearness`
    are against the first run, which itself has none. `hardware` and `command` are what the run
    was made on and with.
    """

    run: str
    checkpoint: str
    reducer: str
    dtype: str
    protocol: dict[str, Any]
    top1: float
    not_finite: int
    gmacs_per_view: float
    views_per_video: int
    gmacs_per_video: float
    change: Change | None
    nearness: Nearness | None
    hardware: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs on the same labelled videos, the reference first.

    `left_out` names the videos that some run could not read; `num_videos` counts the others.
    """

    runs: tuple[ComparedRun, ...]
    num_videos: int
    num_classes: int
    left_out: tuple[str, ...]
    command: str
    date: str
    intervals: str = METHOD

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """A reducer: what a view costs with it (10^9 multiply-accumulates; with a budget by content the
    mean, and which `settings` it comes of), how near it is to dense."""

    reducer: str
    gmacs_per_view: float
    nearness: Nearness | None
    settings: tuple[SettingShare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How near reducers are to the dense model, which is the first row, on videos without labels.

    `num_videos` leaves out the `unreadable`. The same dtype, batch size and device served all.
    """

    rows: tuple[AgreementRow, ...]
    num_videos: int
    unreadable: tuple[dict[str, str], ...]
    checkpoint: str
    protocol: dict[str, Any]
    views_per_video: int
    dtype: str
    batch_size: int
    environment: dict[str, Any]
    command: str
    date: str
    intervals: str = METHOD

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class DemoRow:
    """One setting: accuracy, nearness to the dense model, cost of a view, speed of the forward.

    `frames` and `size` are those of the clips, which a cheaper dense model takes fewer or smaller.
    `top1` and `agreement` (the same first class as dense) are per cent; `kl_to_dense` is the mean
    divergence in nats, with its standard error over clips.
    """

    reducer: str
    frames: int
    size: int
    top1: float
    agreement: float
    kl_to_dense: float
    kl_standard_error: float
    gmacs_per_view: float
    clips_per_second: float

    def name(self, dense: "DemoRow") -> str:
        """The reducer, and in what the clips differ from those of the dense model."""
        frames = f", {self.frames} frames" if self.frames != dense.frames else ""
        pixels = f", {self.size} pixels" if self.size != dense.size else ""
        return self.reducer + frames + pixels


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo found, the dense model first, and on what it ran.

    Speeds were timed with `batch_size` clips at once.
    """

    rows: tuple[DemoRow, ...]
    num_clips: int
    dtype: str
    batch_size: int
    command: str
    environment: dict[str, Any]
    date: str

    @classmethod
    def from_json(cls, text: str) -> "Demo":
        """The record that `to_json` wrote."""
        record = json.loads(text)
        rows = tuple(DemoRow(**row) for row in record.pop("rows"))
        return cls(rows=rows, **record)

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"
