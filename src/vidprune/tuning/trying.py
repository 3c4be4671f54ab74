"""What a setting does to videos that are held in memory, and how long it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, median

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.benchmarking.measure import Run, in_turn
from vidprune.inference import Classifier, clip_key
from vidprune.macs import costs
from vidprune.pruned import prune
from vidprune.reducers.by_content import ByContent, change
from vidprune.reducers.spec import NONE, describe, parse
from vidprune.tuning.figures import Losses, Spent, losses
from vidprune.video import Protocol


@dataclass(frozen=True, eq=False)
class Video:
    """One that is held: its name, its views (V, T, 3, S, S) uint8, and its class where it has
    one."""

    name: str
    views: Tensor
    label: int | None = None


@dataclass(eq=False)
class Bench:
    """A model, its views and videos, on which settings are tried."""

    model: PreTrainedModel
    protocol: Protocol
    videos: Sequence[Video]
    batch_size: int
    device: torch.device
    # By reducer and video, or repeats.
    _known: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _measured: dict[tuple[str, int], Spent] = field(default_factory=dict)
    _changes: dict[int, list[float]] = field(default_factory=dict)

    def probabilities(self, reducer: str, videos: Sequence[int]) -> Tensor:
        """Of these videos, by number, the mean over their views, (V, classes); what was worked out
        once is kept."""
        chosen = parse(reducer)
        if isinstance(chosen, ByContent):
            logits, _ = self._by_content(chosen, videos)
        else:
            logits = torch.cat(self.logits(reducer, videos))
        return logits.unflatten(0, (len(videos), -1)).double().softmax(-1).mean(1)

    def is_parted(self, reducer: str, videos: Sequence[int]) -> bool:
        """Whether a budget by content has several settings answer views of these videos."""
        chosen = parse(reducer)
        return isinstance(chosen, ByContent) and len({*self._by_content(chosen, videos)[1]}) > 1

    def changes(self, video: int) -> list[float]:
        """How much its views change from frame to frame."""
        if video not in self._changes:
            self._changes[video] = change(self.videos[video].views).tolist()
        return self._changes[video]

    def confidences(self, reducer: str, videos: Sequence[int]) -> list[float]:
        """The largest probability of what a setting says of each view of these videos."""
        found: list[float] = torch.cat(self.logits(reducer, videos)).softmax(-1).amax(-1).tolist()
        return found

    def logits(self, reducer: str, videos: Sequence[int]) -> list[Tensor]:
        """What a setting says of these videos' views, each (views, classes)."""
        missing = [each for each in videos if (reducer, each) not in self._known]
        if missing:
            classifier = self._classifier(reducer)
            clips = [(each, view) for each in missing for view in range(len(self.protocol.views))]
            logits = torch.cat(
                [
                    self._answers(classifier, clips[start : start + self.batch_size])
                    for start in range(0, len(clips), self.batch_size)
                ]
            ).unflatten(0, (len(missing), -1))
            for each, found in zip(missing, logits, strict=True):
                self._known[reducer, each] = found
        return [self._known[reducer, each] for each in videos]

    def _by_content(self, chosen: ByContent, videos: Sequence[int]) -> tuple[Tensor, list[int]]:
        """What is answered of these videos' views, (views, classes), and by which settings."""
        answers = [torch.cat(self.logits(describe(each), videos)) for each in chosen.settings]
        settings = [chosen.begun_with(each) for video in videos for each in self.changes(video)]
        for number, answer in enumerate(answers):
            onward = chosen.next(number, answer)
            settings = [
                then if own == number and then is not None else own
                for own, then in zip(settings, onward, strict=True)
            ]
        return torch.stack(answers)[settings, range(len(settings))], settings

    def labels(self, videos: Sequence[int]) -> Tensor | None:
        """Their classes, (V,) int64; None where any has none."""
        found = [self.videos[each].label for each in videos]
        return None if None in found else torch.tensor(found)

    def spent(self, reducer: str, videos: Sequence[int], *, repeats: int = 0) -> Spent:
        """What a setting costs, by arithmetic, and with `repeats` by the clock as well; of a budget
        by content the mean over the views of these videos."""
        chosen = parse(reducer)
        if isinstance(chosen, ByContent):
            parts = [self._spent(describe(each), repeats) for each in chosen.settings]
            _, settings = self._by_content(chosen, videos)
            return _mean_of(chosen, parts, settings, len(videos))
        return self._spent(reducer, repeats)

    def _spent(self, reducer: str, repeats: int) -> Spent:
        if (reducer, repeats) not in self._measured:
            taken = costs(self.model, reducer)
            gmacs, dense = taken.gmacs_per_view, taken.gmacs_dense
            seconds, speedup = self._seconds(reducer, repeats) if repeats else (None, None)
            self._measured[reducer, repeats] = Spent(
                gmacs=gmacs,
                share=gmacs / dense,
                latency_ms=None if seconds is None else 1000 * seconds,
                speedup=speedup,
            )
        return self._measured[reducer, repeats]

    def losses(self, reducer: str, videos: Sequence[int], sources: Tensor | None) -> Losses:
        """How far a setting is from the dense model on these videos, of these `sources` (V,)."""
        dense, other = (self.probabilities(each, videos) for each in (NONE, reducer))
        return losses(dense, other, self.labels(videos), sources)

    def _seconds(self, reducer: str, repeats: int) -> tuple[float, float]:
        """A batch's median seconds, and how many times the dense model's speed that is, both timed
        in turn on random clips."""
        runs = [Run(self._forward(each), self._shape, self.model.dtype) for each in (NONE, reducer)]
        for run in runs:
            run.forward(torch.zeros(run.shape, dtype=run.dtype, device=self.device))
        dense, pruned = in_turn(runs, repeats=repeats, device=self.device)
        for each in (dense, pruned):
            if isinstance(each, RuntimeError):
                raise each
        assert isinstance(dense, list), "errors are raised"
        assert isinstance(pruned, list), "errors are raised"
        ratios = [whole / part for whole, part in zip(dense, pruned, strict=True)]
        return median(pruned), median(ratios)

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        frames, size = self.protocol.frames, self.protocol.size
        return (self.batch_size, frames, 3, size, size)

    def _classifier(self, reducer: str) -> Classifier:
        return Classifier(
            prune(self.model, reducer),
            self.protocol,
            batch_size=self.batch_size,
            device=self.device,
        )

    def _forward(self, reducer: str) -> Callable[[Tensor], object]:
        model = self._classifier(reducer).model
        return lambda pixels: model(pixels).logits

    def _answers(self, classifier: Classifier, clips: Sequence[tuple[int, int]]) -> Tensor:
        pixels = torch.stack([self.videos[each].views[view] for each, view in clips])
        keys = [clip_key(self.videos[each].name, view) for each, view in clips]
        return classifier(pixels, torch.tensor(keys))


def _mean_of(
    chosen: ByContent, parts: Sequence[Spent], settings: Sequence[int], videos: int
) -> Spent:
    """What a view of so many videos costs on the whole, each answered by one of the settings."""

    def mean(costs: Sequence[float | None]) -> float | None:
        known = [each for each in costs if each is not None]
        if len(known) < len(costs):
            return None
        spent = chosen.spent(known)
        return fmean(spent[each] for each in settings)

    gmacs, share = mean([each.gmacs for each in parts]), mean([each.share for each in parts])
    assert gmacs is not None, "arithmetic is always known"
    assert share is not None, "arithmetic is always known"
    slowness = mean([each.speedup and 1 / each.speedup for each in parts])
    return Spent(
        gmacs=gmacs,
        share=share,
        latency_ms=mean([each.latency_ms for each in parts]),
        speedup=None if slowness is None else 1 / slowness,
        error=_relative_error(chosen.spent([each.share for each in parts]), settings, videos),
    )


def _relative_error(spent: Sequence[float], settings: Sequence[int], videos: int) -> float:
    """The standard error of the mean of what views cost, over videos, as a share of the mean."""
    each = torch.tensor([spent[setting] for setting in settings], dtype=torch.float64)
    means = each.unflatten(0, (videos, -1)).mean(1)
    if videos < 2:
        return 0.0
    return float(means.std() / videos**0.5 / means.mean())
