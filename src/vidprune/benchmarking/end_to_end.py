"""Models over videos in turn: from files to logits, what bounds that, and what comes out."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor

from vidprune.benchmarking.contest import Candidate
from vidprune.benchmarking.report import EndToEnd
from vidprune.environment import usable_cores
from vidprune.inference import Classifier, Unreadable, ViewLogits, classify_with_each
from vidprune.metrics import mean_probabilities
from vidprune.outputs import PrunedOutput
from vidprune.reading import Request, default_workers, read_requests
from vidprune.video import Decoder, Protocol

PASSES = 3

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Entrant:
    """Who takes part: a classifier, and which of its protocol's views it is given of a video."""

    classifier: Classifier
    views: tuple[int, ...]

    @classmethod
    def of(cls, candidate: Candidate, protocol: Protocol, decoder: Decoder = "pyav") -> "Entrant":
        """A candidate, by the very forward that it was timed with, on all views."""
        model: Any = _Timed(candidate)
        classifier = Classifier(
            model,
            protocol,
            batch_size=candidate.run.shape[0],
            device=candidate.device,
            decoder=decoder,
        )
        return cls(classifier, tuple(range(len(protocol.views))))

    def requests(self, videos: Sequence[Path]) -> list[Request]:
        """What it is given of these videos."""
        return [Request(str(path), path, self.views) for path in videos]


class _Timed:
    """A candidate as what a classifier takes for its model.

    It stays on its device, and a compiled one need not be compiled again.
    """

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self.config, self.dtype = candidate.model.config, candidate.model.dtype

    def to(self, device: torch.device) -> "_Timed":
        assert device == self._candidate.device, "the classifier was made for it"
        return self

    def __call__(self, pixels: Tensor, *, clip_keys: Tensor) -> PrunedOutput:
        # The forward reads them where they lie.
        self._candidate.clip_keys.copy_(clip_keys)
        return PrunedOutput(logits=self._candidate.run.forward(pixels))


@dataclass(frozen=True, eq=False)
class Finish:
    """What an entrant did: its speed, and its answers (V, classes) to the V readable videos."""

    end_to_end: EndToEnd
    probabilities: Tensor


def race(
    entrants: Sequence[Entrant],
    videos: Sequence[Path],
    workers: int | None = None,
    *,
    passes: int = PASSES,
    tell: Tell = lambda text: None,
) -> tuple[list[Finish], list[Unreadable]]:
    """Each entrant over all videos, `passes` times in turn; none where no video can be read.

    First the models alone answer, batch by batch side by side, on views that this process has
    decoded already: that warms up, gives the answers and `model_videos_per_second`, and finds
    what cannot be read. Then, in an order that moves on by one from pass to pass, everyone goes
    from files to logits with `workers` decoding beside the model, and each protocol's decoding
    runs alone with as many workers. A video is decoded for all of a protocol's views, also where
    an entrant is given fewer. Speeds are those of the median pass.
    """
    paths = list(dict.fromkeys(videos))
    tell("views in memory")
    alone, unreadable = _alone(entrants, paths)
    readable = [path for path in paths if str(path) not in unreadable]
    named = [Unreadable(name, reason) for name, reason in unreadable.items()]
    if not readable:
        return [], named
    if workers is None:
        first = entrants[0].classifier
        workers = default_workers(first.device, usable_cores(), first.decoder)
    readers = {entrant.classifier.protocol: entrant.classifier for entrant in entrants}
    protocols = list(readers)
    jobs = [
        *(partial(_classify, entrant, readable, workers) for entrant in entrants),
        *(partial(_decode, each, readable, workers) for each in readers.values()),
    ]
    seconds = _passes(jobs, passes, tell)
    decoding = dict(zip(protocols, map(median, seconds[len(entrants) :]), strict=True))
    return [
        _finish(entrant, own, decoding, alone[id(entrant.classifier)], [*map(str, readable)])
        for entrant, own in zip(entrants, seconds, strict=False)
    ], named


@dataclass(eq=False)
class _Alone:
    """What a classifier did with views in memory: seconds of batches; logits (V, classes)."""

    seconds: list[float]
    logits: defaultdict[str, list[Tensor]]


def _alone(
    entrants: Sequence[Entrant], videos: Sequence[Path]
) -> tuple[dict[int, _Alone], dict[str, str]]:
    """Each classifier's share by its id, and why some videos cannot be read, by name."""
    together: defaultdict[Protocol, dict[int, Classifier]] = defaultdict(dict)
    for entrant in entrants:
        together[entrant.classifier.protocol][id(entrant.classifier)] = entrant.classifier
    found: dict[int, _Alone] = {}
    unreadable: dict[str, str] = {}
    for protocol, classifiers in together.items():
        shares = {key: _Alone([], defaultdict(list)) for key in classifiers}
        stopwatches = [_Stopwatch(classifiers[key], shares[key].seconds) for key in classifiers]
        views = tuple(range(len(protocol.views)))
        requests = [Request(str(path), path, views) for path in videos]
        # Decoded in this process: nothing else runs while a model does.
        for outcomes in classify_with_each(stopwatches, requests, workers=0):
            for share, outcome in zip(shares.values(), outcomes, strict=True):
                if isinstance(outcome, ViewLogits):
                    share.logits[outcome.name].append(outcome.logits)
                else:
                    unreadable[outcome.name] = outcome.reason
        found |= shares
    return found, unreadable


class _Stopwatch(Classifier):
    """A classifier that notes the seconds of each batch, after a first one that does not count."""

    def __init__(self, timed: Classifier, seconds: list[float]) -> None:
        super().__init__(
            timed.model,
            timed.protocol,
            batch_size=timed.batch_size,
            device=timed.device,
            decoder=timed.decoder,
        )
        self._seconds = seconds
        clip = self.protocol.frames, 3, self.protocol.size, self.protocol.size
        super().start([torch.zeros(clip, dtype=torch.uint8)], [0]).cpu()

    def start(self, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        """See Classifier; logits come back on the CPU, so that the device is done by then."""
        started = time.perf_counter()
        logits = super().start(clips, clip_keys).cpu()
        self._seconds.append(time.perf_counter() - started)
        return logits


def _classify(entrant: Entrant, videos: Sequence[Path], workers: int | None) -> None:
    for _ in entrant.classifier.classify(entrant.requests(videos), workers=workers):
        pass


def _decode(classifier: Classifier, videos: Sequence[Path], workers: int | None) -> None:
    requests = [Request(str(path), path, ()) for path in videos]
    for _ in read_requests(
        requests,
        classifier.protocol,
        workers,
        decoder=classifier.decoder,
        device=classifier.device,
    ):
        pass


def _passes(jobs: Sequence[Callable[[], None]], passes: int, tell: Tell) -> list[list[float]]:
    """Seconds of each pass of each job; see `measure.in_turn`, which does so with forwards."""
    seconds: list[list[float]] = [[] for _ in jobs]
    for number in range(passes):
        tell(f"from files to logits, pass {number + 1} of {passes}")
        for place in range(len(jobs)):
            turn = (number + place) % len(jobs)
            started = time.perf_counter()
            jobs[turn]()
            seconds[turn].append(time.perf_counter() - started)
    return seconds


def _finish(
    entrant: Entrant,
    seconds: Sequence[float],
    decoding: dict[Protocol, float],
    alone: _Alone,
    names: Sequence[str],
) -> Finish:
    # The last batch is filled up, and takes as long as a full one.
    batches = ceil(len(names) * len(entrant.views) / entrant.classifier.batch_size)
    speed = EndToEnd(
        videos_per_second=len(names) / median(seconds),
        decoding_videos_per_second=len(names) / decoding[entrant.classifier.protocol],
        model_videos_per_second=len(names) / (batches * fmean(alone.seconds)),
        views_per_video=len(entrant.views),
        seconds=tuple(round(second, 4) for second in seconds),
    )
    views = list(entrant.views)
    answers = [mean_probabilities(torch.stack(alone.logits[name])[views]) for name in names]
    return Finish(speed, torch.stack(answers))
