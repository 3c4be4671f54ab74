"""Methods that drop tokens, and what becomes of the dropped: nothing, or folded into a survivor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vidprune.layout import Layout
from vidprune.reducers.base import Need, Reduction, Signals, chosen, dropped
from vidprune.reducers.exact import for_products, full_precision, rising, unit_rows
from vidprune.reducers.schedule import GroupSchedule, Stage


def best_matches(keys: Tensor, keep: Tensor) -> Tensor:
    """For every token the survivor that it is most like, as an `owner` (B, N) int64.

    `keys` (B, N, d): likeness is the cosine of keys, as in ToMe; `keep` (B, K): the survivors,
    which own themselves. Of equally good matches the first in `keep` counts.
    """
    batch, entering, width = keys.shape
    gone = dropped(keep, entering)
    with full_precision(keys.device):
        metric = unit_rows(for_products(keys))
        survivors, lost = (
            metric.gather(1, places[..., None].expand(-1, -1, width)) for places in (keep, gone)
        )
        best = (lost @ survivors.mT).argmax(-1)
    themselves = torch.arange(keep.shape[1], device=keep.device).expand(batch, -1)
    owner = torch.zeros(batch, entering, dtype=torch.int64, device=keep.device)
    return owner.scatter(1, keep, themselves).scatter(1, gone, best)


def lowest(values: Tensor, stage: Stage) -> Tensor:
    """The tokens of lowest `values` (B, N) that each group keeps, (B, K) int64: in rising position,
    or by quotas cell by cell. Of equals the earlier position stays.
    """
    stay = chosen(rising(values.unflatten(1, (stage.groups, -1))), stage)
    if stage.quotas is None:
        stay = stay.sort(dim=-1).values
    starts = torch.arange(stage.groups, device=values.device) * stage.group_size
    return (stay + starts[:, None]).flatten(1)


@dataclass(frozen=True, kw_only=True)
class Dropping(GroupSchedule):
    """The fields of every method that picks survivors by a rule of its own (`choose`).

    `fold`: each dropped token joins the survivor that it matches best, and a survivor is the mean
    of the tokens it stands for; the model then pools by size. `proportional_attention` (of folded
    tokens): they are attended to in proportion to their size, as in ToMe.
    """

    fold: bool = False
    proportional_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_folding(fold=self.fold, proportional_attention=self.proportional_attention)

    @property
    def chooses_by(self) -> frozenset[Need]:
        """What `choose` itself needs."""
        return frozenset()

    @property
    def needs(self) -> frozenset[Need]:
        """What it chooses by, and keys to match what it folds."""
        folded: frozenset[Need] = frozenset({"keys"})
        weighed: frozenset[Need] = frozenset({"proportional_attention"})
        return (
            self.chooses_by
            | (folded if self.fold else frozenset())
            | (weighed if self.proportional_attention else frozenset())
        )

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        """The survivors of tokens (B, N, C), (B, `stage.kept`) int64."""
        raise NotImplementedError

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Keep `stage.kept` of tokens (B, N, C), and fold the others if asked to."""
        keep = self.choose(tokens, signals, layout, stage)
        if not self.fold:
            return Reduction(keep=keep)
        assert signals.keys is not None, "the model computes what needs names"
        return Reduction(keep=keep, owner=best_matches(signals.keys, keep))


def check_folding(*, fold: bool, proportional_attention: bool) -> None:
    """Raise ValueError where either is no switch, or the second is on without the first."""
    check_switches(fold=fold, proportional_attention=proportional_attention)
    if proportional_attention and not fold:
        raise ValueError(
            "proportional_attention=True needs fold=True: tokens that nothing was folded into "
            "have one size"
        )


def check_switches(**switches: object) -> None:
    """Raise ValueError where a switch is neither True nor False."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be true or false")
