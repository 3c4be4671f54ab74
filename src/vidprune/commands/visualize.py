"""Which tokens go, and why: pictures, films and a page of clips, and the figures behind them."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from torch import Tensor
from transformers import PreTrainedModel

from vidprune.drawing.film import film, write_gif, write_mp4
from vidprune.drawing.page import page
from vidprune.drawing.sheet import sheet
from vidprune.environment import environment
from vidprune.inference import clip_key
from vidprune.insight.look import ClipLook, look
from vidprune.insight.summary import Summary, summarise
from vidprune.reading import Request, read_requests
from vidprune.runs import make_folder, whole_or_nothing, write_atomically
from vidprune.video import Protocol

FORMATS = ("png", "mp4", "gif", "html")
PAGE, RECORD, CURVES = "index.html", "looks.json", "trajectory"
# A page of more is slow to open.
ON_PAGE = 50

_NAME = re.compile(r"[^\w.-]+", re.ASCII)
_LONGEST = 80


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be made of each clip.

    `formats` of FORMATS; `scores`: with what reducers judged by; `view`: which of the protocol's
    views, the middle one for None; `label`: the number of the class whose loss GradNorm takes, the
    dense model's guess for None; `repeats`: turns timed, at most.
    """

    formats: tuple[str, ...] = FORMATS
    scores: bool = False
    view: int | None = None
    label: int | None = None
    repeats: int = 3

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(f"formats={name!r} is not known; choose of {', '.join(FORMATS)}")
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} must be at least 1")


def visualize(
    models: Sequence[PreTrainedModel],
    protocol: Protocol,
    videos: Sequence[Path],
    *,
    output: Path,
    wish: Wish,
    checkpoint: str,
    command: str = "",
    workers: int | None = None,
    observe: Callable[[int], object] = lambda done: None,
) -> Summary:
    """Look at a view of each video with each of `models`, which share weights; the first is dense.

    `output` gets a file of each format for every clip, `index.html` with the first 50 of them, and
    `looks.json`, what is returned, without rows where no video could be read. One that cannot be
    read is named in it, and the rest goes on. `observe` hears how many videos are done.
    """
    view, names = _view(protocol, wish.view), _names(videos)
    _check_overwrites_nothing(videos, [output / f"{n}.{f}" for n in names for f in wish.formats])
    make_folder(output)
    found: list[ClipLook] = []
    seconds: list[float] = []
    unreadable: list[dict[str, str]] = []
    requests = [Request(str(path), path, (view,)) for path in videos]
    for done, (request, pixels) in enumerate(read_requests(requests, protocol, workers), start=1):
        if isinstance(pixels, str):
            unreadable.append({"path": request.name, "reason": pixels})
        else:
            started = time.perf_counter()
            clip = _look(models, request.name, view, pixels[view], wish)
            _draw(clip, output / names[done - 1], wish)
            seconds.append(time.perf_counter() - started)
            # The page shows the first ones; of the others the figures are enough.
            found.append(clip if len(found) < ON_PAGE else replace(clip, frames=clip.frames[:0]))
        observe(done)
    if found and "html" in wish.formats:
        title = f"{checkpoint}: which tokens go"
        write_atomically(output / PAGE, page(found[:ON_PAGE], title=title))
    record = Summary(
        rows=summarise(found),
        num_clips=len(found),
        seconds_per_clip=median(seconds) if seconds else None,
        unreadable=tuple(unreadable),
        checkpoint=checkpoint,
        command=command,
        dtype=str(models[0].dtype).removeprefix("torch."),
        environment=environment(models[0].device),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(output / RECORD, record.to_json())
    return record


def _look(
    models: Sequence[PreTrainedModel], name: str, view: int, pixels: Tensor, wish: Wish
) -> ClipLook:
    key, label, repeats = clip_key(name, view), wish.label, wish.repeats
    return look(models, pixels, video=name, clip_key=key, label=label, repeats=repeats)


def _view(protocol: Protocol, asked: int | None) -> int:
    views = len(protocol.views)
    if asked is None:
        return views // 2
    if not 0 <= asked < views:
        raise ValueError(f"view={asked} must be one of the protocol's views, 0 to {views - 1}")
    return asked


def _check_overwrites_nothing(videos: Sequence[Path], files: Sequence[Path]) -> None:
    given = {path.resolve() for path in videos}
    for file in files:
        if file.resolve() in given:
            raise ValueError(
                f"output={str(file.parent)!r} holds {file.name}, which is looked at and would "
                "be overwritten; name another folder"
            )


def _draw(clip: ClipLook, stem: Path, wish: Wish) -> None:
    if "png" in wish.formats:
        with whole_or_nothing(Path(f"{stem}.png")) as path:
            sheet(clip, scores=wish.scores).save(path)
    writers = {"mp4": write_mp4, "gif": write_gif}
    wanted = [name for name in writers if name in wish.formats]
    frames = film(clip, scores=wish.scores) if wanted else None
    for name in wanted:
        assert frames is not None, "drawn for them"
        with whole_or_nothing(Path(f"{stem}.{name}")) as path:
            writers[name](frames, path)


def _names(videos: Sequence[Path]) -> list[str]:
    """A name of its own for each video's files, in the order given, of harmless letters."""
    stems = [path.stem for path in videos]
    taken = {Path(name).stem for name in (PAGE, RECORD, CURVES)}
    names = []
    for path in videos:
        # Of clips that are called alike in folders of classes, the folder tells which it is.
        alike = stems.count(path.stem) > 1
        plain = _harmless(f"{path.parent.name}-{path.stem}" if alike else path.stem)
        names.append(next(name for name in _numbered(plain) if name.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names


def _harmless(name: str) -> str:
    return _NAME.sub("_", name).strip("._-")[:_LONGEST] or "clip"


def _numbered(plain: str) -> Iterator[str]:
    yield plain
    number = 2
    while True:
        yield f"{plain}-{number}"
        number += 1
