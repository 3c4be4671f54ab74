"""From an upload and what was chosen to what the page shows; nothing here knows of a browser."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt
from vidprune.drawing.page import page
from vidprune.drawing.sheet import sheet
from vidprune.inference import best_device, clip_key
from vidprune.insight.look import ClipLook, ReducerLook, StageLook, look
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.pruned import prune
from vidprune.reducers.spec import with_r
from vidprune.video import UnreadableVideo, read_views

_ON_PICTURE = 168


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken: uploads of so many mebibytes, videos of so many seconds."""

    upload_mib: int = 256
    video_seconds: int = 600

    def __post_init__(self) -> None:
        for name in ("upload_mib", "video_seconds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, eq=False)
class Clip:
    """The view of an upload that a model is given: `pixels` (T, 3, S, S) uint8."""

    name: str
    view: int
    model: str
    pixels: Tensor


@dataclass(frozen=True, eq=False)
class Answer:
    """What the page shows: the picture, each model's classes with their probabilities, and
    `figures`, a line of text for each of what was measured; `html`: all of it to take away."""

    picture: Image.Image
    dense: dict[str, float]
    pruned: dict[str, float]
    figures: tuple[tuple[str, str, str], ...]
    html: str


@cache
def model_named(source: str) -> PreTrainedModel:
    """The dense model of that name, loaded once, on the best device there is."""
    return load_model(source, options=ViewOptions()).to(best_device())


def read(upload: Path, source: str, limits: Limits) -> Clip:
    """The middle view of a video, as a model takes it.

    Raises ValueError where it is too long, or cannot be read; the text is for whoever uploaded it.
    """
    seconds = _seconds(upload)
    if seconds is not None and seconds > limits.video_seconds:
        raise ValueError(
            f"This video runs for {seconds:.0f} seconds; at most {limits.video_seconds} are taken. "
            "Cut a part out of it and drop that."
        )
    protocol = protocol_for(model_named(source), ViewOptions())
    try:
        views = read_views(upload, protocol).pixels
    except UnreadableVideo as error:
        raise ValueError(
            f"This file cannot be read as a video: {error.reason}. Drop another one."
        ) from error
    middle = len(views) // 2
    return Clip(upload.name, middle, source, views[middle])


def _seconds(path: Path) -> float | None:
    """How long the file says that its video runs; None where it does not say."""
    try:
        with av.open(str(path)) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (av.FFmpegError, OSError):
        # What it is will be said when it is read.
        return None


def answer(clip: Clip, spec: str, r: int) -> Answer:
    """Look at a clip, dense and with a reducer of that text and r.

    Raises ValueError where the reducer does not fit the model.
    """
    model = model_named(clip.model)
    models = [prune(model, None), prune(model, with_r(spec, r))]
    key = clip_key(clip.name, clip.view)
    found = look(models, clip.pixels, video=clip.name, clip_key=key)
    dense, pruned = found.looks
    return Answer(
        picture=sheet(found, frame_height=_ON_PICTURE),
        dense=_classes(dense),
        pruned=_classes(pruned),
        figures=_figures(model, found),
        html=page([found], title=f"{clip.name}: which tokens go"),
    )


def _classes(look: ReducerLook) -> dict[str, float]:
    return {guess.name: guess.probability for guess in look.guesses}


def _figures(model: PreTrainedModel, found: ClipLook) -> tuple[tuple[str, str, str], ...]:
    """What, dense, pruned."""
    dense, pruned = found.looks
    tokens, most = adapt(model).grid.tokens, "at most " if pruned.at_most else ""
    last = pruned.stages[-1] if pruned.stages else None
    left = f"{tokens}" if last is None else f"{last.kept} of {last.grid.tokens}"
    return (
        ("tokens left", f"{tokens}", left),
        (
            "GMACs per view",
            f"{dense.gmacs:.2f}",
            f"{most}{pruned.gmacs:.2f} ({100 * pruned.gmacs / dense.gmacs:.0f} %)",
        ),
        (
            "measured time, ms",
            f"{dense.milliseconds:.1f}",
            f"{pruned.milliseconds:.1f} ({dense.milliseconds / pruned.milliseconds:.2f}x as fast)",
        ),
        *([] if found.gradnorm is None else [("GradNorm held", "100 %", _held(last))]),
        ("trajectory sum", _sum(dense), _sum(pruned)),
    )


def _held(last: StageLook | None) -> str:
    if last is None:
        return "100 %"
    if last.gradnorm is None:
        return "-"
    return f"{100 * last.gradnorm:.0f} % (at random {100 * last.expected:.0f} %)"


def _sum(look: ReducerLook) -> str:
    last = look.trajectory[-1]
    return "-" if last is None else f"{last:.2f}"
