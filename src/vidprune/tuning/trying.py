"""What a setting does to videos that are held in memory, and how long it takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.benchmarking.measure import Run, in_turn
from vidprune.inference import Classifier, clip_key
from vidprune.macs import costs
from vidprune.metrics import mean_probabilities
from vidprune.pruned import prune
from vidprune.reducers.spec import NONE
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
    _known: dict[tuple[str, int], Tensor] = field(default_factory=dict)

    def probabilities(self, reducer: str, videos: Sequence[int]) -> Tensor:
        """Of these videos, by number, the mean over their views, (V, classes); what was worked out
        once is kept."""
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
                self._known[reducer, each] = mean_probabilities(found)
        return torch.stack([self._known[reducer, each] for each in videos])

    def labels(self, videos: Sequence[int]) -> Tensor | None:
        """Their classes, (V,) int64; None where any has none."""
        found = [self.videos[each].label for each in videos]
        return None if None in found else torch.tensor(found)

    def spent(self, reducer: str, *, repeats: int = 0) -> Spent:
        """What a setting costs, by arithmetic, and with `repeats` by the clock as well."""
        taken = costs(self.model, reducer)
        gmacs, dense = taken.gmacs_per_view, taken.gmacs_dense
        if not repeats:
            return Spent(gmacs=gmacs, share=gmacs / dense)
        seconds, speedup = self._seconds(reducer, repeats)
        return Spent(gmacs=gmacs, share=gmacs / dense, latency_ms=1000 * seconds, speedup=speedup)

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
