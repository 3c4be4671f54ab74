"""How far an evaluation is: views as they come in, and what they say of their videos."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vidprune.metrics import accuracy, mean_probabilities, rank_of
from vidprune.reading import Request
from vidprune.report import Progress
from vidprune.video import Sample


@dataclass
class Tally:
    """Views as they come in, and the rank of the true class of each video that is complete."""

    samples: dict[str, Sample]
    views_per_video: int
    not_finite: list[str] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    # With a budget by content: how many views each setting answered.
    settings: Counter[int] = field(default_factory=Counter)
    _videos_by_rank: Counter[int] = field(default_factory=Counter)
    _pending: dict[str, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, view: int, logits: Tensor, setting: int | None = None) -> None:
        """Count one view, logits (classes,), and its video once no view is missing."""
        if setting is not None:
            self.settings[setting] += 1
        views = self._pending[name]
        views[view] = logits
        if len(views) == self.views_per_video:
            stacked = torch.stack([views[index] for index in sorted(views)])
            rank = rank_of(self.samples[name].label, mean_probabilities(stacked))
            self.ranks[name] = rank
            if not stacked.isfinite().all():
                self.not_finite.append(name)
            self._videos_by_rank[rank] += 1
            del self._pending[name]

    def missing(self) -> list[Request]:
        """What has yet to be run, video by video."""
        return [
            Request(name, sample.path, self._missing_views(name))
            for name, sample in self.samples.items()
            if name not in self.ranks
        ]

    def _missing_views(self, name: str) -> tuple[int, ...]:
        there = self._pending.get(name, {})
        return tuple(view for view in range(self.views_per_video) if view not in there)

    @property
    def done(self) -> int:
        """Videos that are complete, or could not be read."""
        return len(self.ranks) + len(self.unreadable)

    @property
    def progress(self) -> Progress:
        """Where the count stands."""
        return Progress(
            done=self.done,
            total=len(self.samples),
            unreadable=len(self.unreadable),
            accuracy=accuracy(self._videos_by_rank),
        )
