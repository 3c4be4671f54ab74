"""ToMe: in every block the tokens that are most alike merge.

Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023. Written from the paper; the
authors' code is CC-BY-NC, and nothing is copied from it.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Need, Reduction, Signals
from vidprune.reducers.dropping import check_switches
from vidprune.reducers.matching import bipartite_matches
from vidprune.reducers.schedule import Place, Stage, whole_numbers

SCHEDULES = ("constant", "decreasing")
MODES = ("merge", "drop")


def falling(r: int, depth: int) -> tuple[int, ...]:
    """A number for each block, falling linearly from 2r in the first to 0 in the last.

    They sum to r times `depth`: each is rounded down, and what is then missing goes one by one to
    the largest remainders, of equals to the earlier block. So they never rise. A single block,
    which is first and last, gets r.
    """
    if depth == 1:
        return (r,)
    steps = [divmod(2 * r * (depth - 1 - block), depth - 1) for block in range(depth)]
    missing = r * depth - sum(whole for whole, _ in steps)
    by_remainder = sorted(range(depth), key=lambda block: -steps[block][1])
    raised = set(by_remainder[:missing])
    return tuple(whole + (block in raised) for block, (whole, _) in enumerate(steps))


@dataclass(frozen=True, kw_only=True)
class ToMe:
    """Token merging, between the attention and the MLP of every block.

    Every second token is a source. The sources that are most like one of the other tokens, by the
    cosine of head-mean keys, join it, and what they become is their mean, weighted by size; the
    model then pools by size. Those that stay stand first, from the most to the least alike, then
    the others: the order decides who is a source in the next block.

    `r`: tokens of a clip that go in each block, at most half of those there (the paper's
    limit); 0 does nothing. `schedule`: "constant"; "decreasing", from 2r to 0 (see `falling`);
    or a number for every block, and then `r` is left out. `mode`: "merge", or "drop", where
    the sources go and leave nothing behind. `proportional_attention` (of merged tokens):
    they are attended to in proportion to their size. The paper finds it necessary for models
    trained with labels, but not for those pre-trained as masked autoencoders and taken off the
    shelf (section 4), as VideoMAE is; so it is off.

    Needs keys. We depart in ties, where the earlier position comes first, and in precision: scores
    are float32 or better whatever the model's dtype.

    >>> ToMe(r=65).plan(depth=12, grid=TokenGrid(frames=8, rows=14, columns=14))[-1].kept
    788
    """

    r: int | None = None
    schedule: Literal["constant", "decreasing"] | tuple[int, ...] = "constant"
    mode: Literal["merge", "drop"] = "merge"
    proportional_attention: bool = False

    def __post_init__(self) -> None:
        self._check_amount()
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r} is not known; choose one of {', '.join(MODES)}")
        check_switches(proportional_attention=self.proportional_attention)
        if self.proportional_attention and self.mode == "drop":
            raise ValueError(
                "proportional_attention=True needs mode='merge': tokens that nothing was merged "
                "into have one size"
            )

    def _check_amount(self) -> None:
        if not isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", whole_numbers("schedule", self.schedule))
            if self.r is not None:
                raise ValueError(
                    f"r={self.r} and the explicit schedule={self.schedule} both say how many "
                    "tokens go; give one of the two"
                )
        elif self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule={self.schedule!r} is not known; choose one of {', '.join(SCHEDULES)}, "
                "or list the tokens that go in each block, such as (40, 20, 10)"
            )
        elif type(self.r) is not int or self.r < 0:
            raise ValueError(
                f"r={self.r!r} must be a whole number of at least 0: the tokens that go in each "
                "block, such as r=65 (or give an explicit schedule)"
            )

    @property
    def needs(self) -> frozenset[Need]:
        """Keys, which similarity is taken from."""
        keys: frozenset[Need] = frozenset({"keys"})
        weighed: frozenset[Need] = frozenset({"proportional_attention"})
        return keys | (weighed if self.proportional_attention else frozenset())

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """A stage in every block in which tokens go; `drop` is what the limit leaves.

        Raises ValueError where an explicit schedule is not as long as the model is deep.
        """
        stages, entering = [], grid.tokens
        for block, wanted in enumerate(self._wanted(depth)):
            stage = Stage(
                index=block,
                block=block,
                groups=1,
                entering=entering,
                drop=min(wanted, entering // 2),
                place=Place.AFTER_ATTENTION,
            )
            entering = stage.kept
            if stage.drop:
                stages.append(stage)
        return tuple(stages)

    def _wanted(self, depth: int) -> tuple[int, ...]:
        """What should go in each block, were there always enough."""
        if not isinstance(self.schedule, str):
            if len(self.schedule) != depth:
                raise ValueError(
                    f"schedule={self.schedule} lists {len(self.schedule)} numbers, but the model "
                    f"has {depth} blocks; give one for each, 0 where nothing is to go"
                )
            return self.schedule
        r = self.r or 0
        return (r,) * depth if self.schedule == "constant" else falling(r, depth)

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        """Reduce tokens (B, N, C) to `stage.kept`: sources that stay, ranked, then the others."""
        assert signals.keys is not None, "the model computes what needs names"
        keep, owner = bipartite_matches(signals.keys, stage.drop, ranked=True)
        return Reduction(keep=keep, owner=owner if self.mode == "merge" else None)
