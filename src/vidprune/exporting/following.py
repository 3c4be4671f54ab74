"""A model that is told which tokens stay: what it then answers, and what every choice saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.exporting.program import Answering
from vidprune.layout import Layout, TokenGrid
from vidprune.pruned import prune
from vidprune.reducers.base import Need, Reducer, Reduction, Signals
from vidprune.reducers.dropping import best_matches
from vidprune.reducers.run_length import RunLength, changes, heads_of_runs
from vidprune.reducers.schedule import Stage
from vidprune.reducers.sta import STA
from vidprune.reducers.tome import ToMe
from vidprune.reducers.vid_tldr import VidTLDR
from vidprune.reducers.ward import Ward, nearest_survivors, sketch

# Those that choose by sums, which other kernels round otherwise; the others draw or count.
Followed = STA | ToMe | VidTLDR | RunLength | Ward


class CannotStay(ValueError):
    """A choice that no stage can make."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What a stage saw, and what is to stay: tokens (1, N, C), what they are compared by (1, N, d)
    or how much those after the first frame change (1, N - frame), positions among them (1, K)."""

    stage: Stage
    tokens: Tensor
    similar: Tensor
    kept: Tensor


def followed(
    model: PreTrainedModel, pixels: Tensor, keys: Tensor, origins: Sequence[Tensor]
) -> tuple[Tensor, list[Choice]]:
    """The model's answer (1, N) to a clip (1, T, 3, H, W) where just these places `origins` (1, K)
    of the grid stay at its stages, and what every stage saw.

    Raises CannotStay where a stage does not have them, or keeps another number.
    """
    following = _Following(own=model.reducer, origins=tuple(origins))
    with torch.inference_mode():
        answer, *_ = Answering(prune(model, following)).eval()(pixels, keys)
    return answer.cpu(), following.seen


@dataclass(frozen=True, kw_only=True, eq=False)
class _Following:
    """A reducer in all but its choice."""

    own: Followed
    origins: tuple[Tensor, ...]
    seen: list[Choice] = field(default_factory=list)

    @property
    def needs(self) -> frozenset[Need]:
        return self.own.needs

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        return self.own.plan(depth, grid)

    def __getattr__(self, name: str) -> Any:
        # What else a plan asks of some, such as how gaps are treated.
        return getattr(self.own, name)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        number = len(self.seen)
        wanted = self.origins[number].to(tokens.device)
        if wanted.shape != (tokens.shape[0], stage.kept):
            raise CannotStay(f"stage {number + 1}: {wanted.shape[-1]} stay, not {stage.kept}")
        found = layout.origin[:, None] == wanted[..., None]
        if not found.any(-1).all():
            raise CannotStay(f"stage {number + 1} keeps what had gone")
        kept = found.int().argmax(-1)
        similar = _similar(self.own, tokens, signals, layout)
        self.seen.append(Choice(stage, tokens.cpu(), similar.cpu(), kept.cpu()))
        usual = self.own(tokens, signals, layout, stage)
        if torch.equal(usual.keep, kept):
            return usual
        owner: Tensor | None = None
        if usual.owner is not None:
            owner = _owner(self.own, similar, signals, layout, kept)
        return Reduction(keep=kept, owner=owner, weight=usual.weight)


def _similar(reducer: Reducer, tokens: Tensor, signals: Signals, layout: Layout) -> Tensor:
    """What it compares tokens by."""
    if isinstance(reducer, RunLength):
        assert signals.pixels is not None, "the model computes what needs names"
        return changes(signals.pixels.double(), layout.grid.tokens_per_frame)
    if isinstance(reducer, STA):
        return reducer._similar(tokens, signals)
    if isinstance(reducer, Ward):
        return sketch(tokens)
    compared = signals.keys if isinstance(reducer, ToMe) else tokens
    assert compared is not None, "the model computes what needs names"
    return compared


def _owner(
    reducer: Reducer, similar: Tensor, signals: Signals, layout: Layout, kept: Tensor
) -> Tensor:
    """Whom those that go are folded into, (1, N) positions in `kept`, where these stay."""
    if isinstance(reducer, STA):
        assert signals.keys is not None, "what folds needs keys"
        return best_matches(signals.keys, kept)
    if isinstance(reducer, Ward):
        return nearest_survivors(similar, kept)
    if isinstance(reducer, RunLength):
        whole = torch.ones_like(layout.origin, dtype=torch.bool)
        return heads_of_runs(whole.scatter(1, kept, False), kept, layout.grid.tokens_per_frame)
    entering = similar.shape[1]
    places = torch.arange(kept.shape[1], device=kept.device).expand_as(kept)
    standing = torch.full((kept.shape[0], entering), -1, device=kept.device).scatter(
        1, kept, places
    )
    destinations = torch.arange(1, entering, 2, device=kept.device).expand(kept.shape[0], -1)
    joined = destinations.gather(1, best_matches(similar, destinations))
    return standing.gather(1, joined).scatter(1, kept, places)
