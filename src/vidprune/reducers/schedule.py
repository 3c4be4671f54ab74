"""Where and how much: the stages at which tokens go, and how many go from each group."""

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Literal

from vidprune.layout import Level, Pattern, Quotas, TokenGrid

SCHEDULES = ("decreasing", "constant", "increasing")
GAPS = ("closed", "filled")
Gaps = Literal["closed", "filled"]
Schedule = Literal["decreasing", "constant", "increasing"] | tuple[int, ...]


class Place(Enum):
    """Where in a block a reduction acts."""

    BEFORE_BLOCK = "before"
    AFTER_ATTENTION = "after the attention of"
    AFTER_BLOCK = "after"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One reduction: at `place` in `block` (0-based), `entering` tokens of a clip, seen as `groups`
    consecutive groups of equal size, lose `drop` tokens each.

    `AFTER_ATTENTION` is between attention and MLP, after the attention's residual; `AFTER_BLOCK` is
    on the block's output, after the MLP's residual, and at the end of a pyramid's level after
    its tokens have merged. Where the number of tokens that go depends on the clip, `drop` is the
    least. `pattern`: how regular what stays is. `quotas`: how many of each cell of a group have to
    stay; those that do stand cell by cell then. None where it does not matter which.
    `windowed`: whether the model attends in windows, in which dropped places leave gaps.
    """

    index: int
    block: int
    groups: int
    entering: int
    drop: int
    place: Place = Place.AFTER_BLOCK
    pattern: Pattern = Pattern.FREE
    quotas: Quotas | None = None
    windowed: bool = False

    @property
    def gaps(self) -> Gaps | None:
        """What becomes of the gaps that it leaves in windows; None where there are no windows."""
        if not self.windowed:
            return None
        return "filled" if self.quotas is None else "closed"

    @property
    def group_size(self) -> int:
        """Tokens that a group holds when the stage begins."""
        return self.entering // self.groups

    @property
    def kept_per_group(self) -> int:
        """Tokens that a group holds when the stage ends."""
        return self.group_size - self.drop

    @property
    def kept(self) -> int:
        """Tokens of a clip that are left when the stage ends."""
        return self.entering - self.groups * self.drop

    def __str__(self) -> str:
        where = f"{self.place.value} block {self.block}: {self.entering} ->"
        if not self.drop:
            return f"{where} at most {self.kept} tokens (how many depends on the clip)"
        each = f"{self.groups} groups of {self.group_size}, {self.drop} dropped from each"
        gaps = f"; gaps {self.gaps}" if self.gaps else ""
        each = each if self.groups > 1 else f"{self.drop} dropped"
        return f"{where} {self.kept} tokens ({each}{gaps})"


def spread_blocks(depth: int, stages: int) -> tuple[int, ...]:
    """Blocks 0, D // S, 2D // S, ... of a model of depth D (multiplied before divided)."""
    return tuple(index * depth // stages for index in range(stages))


def group_counts(frames: int, stages: int) -> tuple[int, ...]:
    """How many groups each stage sees: T, T/2, T/4, ...

    Groups are made of whole groups of the stage before. Where halving does not come out even, the
    largest divisor of the previous count that does not exceed T / 2^i is taken: 6 frames give
    6, 3, 1; 5 give 5, 1, 1; below one group there is nothing to halve: 1, 1, 1.
    """
    counts = [frames]
    for index in range(1, stages):
        most = max(frames // 2**index, 1)
        counts.append(max(g for g in range(1, most + 1) if counts[-1] % g == 0))
    return tuple(counts)


def drops_per_frame(r: int, schedule: Schedule, stages: int) -> tuple[Fraction, ...]:
    """Tokens dropped per temporal position at each stage.

    Decreasing is r, r/2, r/4, ... (the paper's {8r, 8r/2, 8r/4} over 8 positions), constant is
    r, r, r, increasing is r, 2r, 4r; an explicit schedule is taken as it stands.
    """
    if not isinstance(schedule, str):
        return tuple(Fraction(drop) for drop in schedule)
    ratio = {"decreasing": Fraction(1, 2), "constant": Fraction(1), "increasing": Fraction(2)}
    return tuple(r * ratio[schedule] ** index for index in range(stages))


def plan_stages(
    *,
    blocks: tuple[int, ...],
    groups_by_stage: tuple[int, ...],
    grid: TokenGrid,
    drops: tuple[Fraction, ...],
) -> tuple[Stage, ...]:
    """Turn drops per temporal position into stages; those that drop nothing are left out.

    A group of s temporal positions loses s times the drop per position, rounded down.
    Raises ValueError where a group would not keep at least one token.
    """
    stages, entering, by_frame = [], grid.tokens, Pattern.PER_FRAME
    for index, (block, groups) in enumerate(zip(blocks, groups_by_stage, strict=True)):
        drop = int(drops[index] * Fraction(grid.frames, groups))
        if drop and groups != grid.frames:
            by_frame = Pattern.FREE
        stage = Stage(
            index=index, block=block, groups=groups, entering=entering, drop=drop, pattern=by_frame
        )
        _check_fits(stage)
        entering = stage.kept
        if drop:
            stages.append(stage)
    return tuple(stages)


def drops_per_level(r: int, schedule: Schedule, levels: int) -> tuple[int, ...]:
    """Tokens dropped per frame of each level's grid but the first's: r, 1.5 r / 4, 2 r / 16, ...

    A level has a quarter of the places of the one before it, of which the decreasing schedule
    takes the share r, 1.5 r, 2 r (the paper's VideoSwin: 256, 96, 32), rounded down; an explicit
    schedule is taken as it stands. Raises ValueError for another schedule.
    """
    if not isinstance(schedule, str):
        if len(schedule) != levels - 1:
            raise ValueError(
                f"schedule={schedule} lists {len(schedule)} numbers, but the model's tokens merge "
                f"{levels - 1} times; give one number for each, such as (256, 96, 32)"
            )
        return schedule
    if schedule != "decreasing":
        raise ValueError(
            f"schedule={schedule!r} has no meaning for a model whose tokens merge; leave it out, "
            "or list the tokens dropped per frame after each merging, such as (256, 96, 32)"
        )
    return tuple(int(Fraction(r * (2 + index), 2 * 4**index)) for index in range(levels - 1))


def plan_levels(levels: tuple[Level, ...], drops: tuple[int, ...]) -> tuple[Stage, ...]:
    """A stage at the end of each level but the last, by the frames of the level that follows.

    Raises ValueError where a frame would not keep at least one token.
    """
    stages, block = [], 0
    for index, (level, drop) in enumerate(zip(levels[:-1], drops, strict=True)):
        block += level.blocks
        grid = levels[index + 1].grid
        stage = Stage(
            index=index,
            block=block - 1,
            groups=grid.frames,
            entering=grid.tokens,
            drop=drop,
            pattern=Pattern.PER_FRAME,
        )
        _check_fits(stage)
        if drop:
            stages.append(stage)
    return tuple(stages)


def _check_fits(stage: Stage) -> None:
    if stage.drop >= stage.group_size:
        raise ValueError(
            f"cannot drop {stage.drop} tokens from every group at stage {stage.index + 1} (after "
            f"block {stage.block}): a group holds {stage.group_size} tokens there, and at least "
            f"one must stay; choose a smaller r"
        )


@dataclass(frozen=True, kw_only=True)
class GroupSchedule:
    """The fields that every reducer over consecutive groups shares, and their plan.

    `r`: tokens dropped per temporal position, to which `schedule` gives its meaning per
    stage; 0 does nothing. An explicit `schedule` lists the tokens dropped per temporal position
    at each stage, and then `r` is left out. `stages`: how many there are, unless `blocks`
    names the (0-based) blocks after which they act or an explicit schedule counts them.

    `gaps` (in models that attend in windows): "closed", kept tokens attend among themselves,
    wherever every window can hold as many (a stage says whether: `Stage.gaps`); "filled", a
    dropped place takes its nearest kept token for the time of attention, as in the paper.
    Elsewhere there are none.
    """

    r: int | None = None
    schedule: Schedule = field(default="decreasing")
    stages: int | None = None
    blocks: tuple[int, ...] | None = None
    gaps: Gaps = "closed"

    def __post_init__(self) -> None:
        for name in ("schedule", "blocks"):
            value = getattr(self, name)
            if value is not None and (name == "blocks" or not isinstance(value, str)):
                object.__setattr__(self, name, whole_numbers(name, value))
        self._check_amount()
        self._check_stages()
        if self.gaps not in GAPS:
            raise ValueError(f"gaps={self.gaps!r} is not known; choose one of {', '.join(GAPS)}")

    def _check_amount(self) -> None:
        if isinstance(self.schedule, str):
            if self.schedule not in SCHEDULES:
                raise ValueError(
                    f"schedule={self.schedule!r} is not known; choose one of "
                    f"{', '.join(SCHEDULES)}, or list the tokens dropped per temporal position "
                    "at each stage, such as (64, 32, 16)"
                )
            if not isinstance(self.r, int) or isinstance(self.r, bool) or self.r < 0:
                raise ValueError(
                    f"r={self.r!r} must be a whole number of at least 0: the tokens dropped per "
                    "temporal position, such as r=64 (or give an explicit schedule)"
                )
        elif self.r is not None:
            raise ValueError(
                f"r={self.r} and the explicit schedule={self.schedule} both say how many tokens "
                "go; give one of the two"
            )

    def _check_stages(self) -> None:
        counts = {
            "stages": self.stages,
            "blocks": None if self.blocks is None else len(self.blocks),
            "schedule": None if isinstance(self.schedule, str) else len(self.schedule),
        }
        given = {name: count for name, count in counts.items() if count is not None}
        if any(type(count) is not int or count < 1 for count in given.values()):
            raise ValueError(f"stages={self.stages!r} must be a whole number of at least 1")
        if len(set(given.values())) > 1:
            said = " and ".join(f"{name} says {count}" for name, count in given.items())
            raise ValueError(f"how many stages there are is said twice: {said}; make them agree")
        if self.blocks is not None and list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks={self.blocks} must rise strictly, such as (0, 8, 16)")

    @property
    def num_stages(self) -> int:
        """How many stages the schedule has, those that drop nothing included."""
        if self.blocks is not None:
            return len(self.blocks)
        if not isinstance(self.schedule, str):
            return len(self.schedule)
        return 3 if self.stages is None else self.stages

    def groups_by_stage(self, grid: TokenGrid) -> tuple[int, ...]:
        """How many groups each stage sees, those that drop nothing included."""
        return group_counts(grid.frames, self.num_stages)

    def plan(self, depth: int, grid: TokenGrid) -> tuple[Stage, ...]:
        """Stages for `depth` blocks on `grid`; empty where nothing is dropped.

        Raises ValueError where a block does not exist or a group cannot lose that many tokens.
        """
        drops = drops_per_frame(self.r or 0, self.schedule, self.num_stages)
        if not any(drops):
            return ()
        blocks = self.blocks or spread_blocks(depth, self.num_stages)
        if len(set(blocks)) < len(blocks) or blocks[-1] >= depth:
            shown = ", ".join(map(str, blocks[:8])) + (", ..." if len(blocks) > 8 else "")
            raise ValueError(
                f"{self.num_stages} stages after blocks {shown} do not fit a model of {depth} "
                f"blocks (0 to {depth - 1}); choose other blocks or fewer stages"
            )
        return plan_stages(
            blocks=blocks, groups_by_stage=self.groups_by_stage(grid), grid=grid, drops=drops
        )

    def plan_levels(self, levels: tuple[Level, ...]) -> tuple[Stage, ...]:
        """Stages for a pyramid, as many as its tokens merge; see `drops_per_level`.

        Raises ValueError where a setting has no meaning there or a frame cannot lose as many.
        """
        if self.blocks is not None:
            raise ValueError(
                f"blocks={self.blocks} cannot be chosen in a model whose tokens merge: it is where "
                "they do that some go; leave blocks out"
            )
        if self.stages is not None and self.stages != len(levels) - 1:
            raise ValueError(
                f"stages={self.stages} does not fit a model whose tokens merge {len(levels) - 1} "
                "times, each time with a stage; leave stages out"
            )
        drops = drops_per_level(self.r or 0, self.schedule, len(levels))
        return plan_levels(levels, drops)


def whole_numbers(name: str, value: object) -> tuple[int, ...]:
    """`value` as a tuple. Raises ValueError where it lists anything but whole numbers."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else ()
    if not numbers or not all(type(n) is int and n >= 0 for n in numbers):
        several, written = (
            ("(0, 4, 8)", "0/4/8") if name == "blocks" else ("(64, 32, 16)", "64/32/16")
        )
        raise ValueError(
            f"{name}={value!r} must list whole numbers of at least 0, one per stage, such as "
            f"{name}={several}, as text {name}={written}; of one stage {name}=4/"
        )
    return numbers
