"""The figures of the STA paper that `reproduce` reruns, and how near to them a rerun has to come.

Ding et al., ICCV 2023. Top-1 in per cent, GMACs of one view (which the paper calls GFLOPs).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vidprune.reducers.spec import NONE, with_r

# Points of top-1 by which a change may miss the published one: two figures rounded to a tenth, and
# as much again as our allowance for another decoder, another resize and half precision.
CHANGE_TOLERANCE = 0.2
# Points more for a figure that was read off a plot.
READ_OFF_TOLERANCE = 0.1
# Points by which the unpruned model may lie below the paper's before its changes say nothing: label
# orders, weights and preprocessing that are wrong cost far more, copies of Kinetics less.
LEVEL_TOLERANCE = 1.5
# By which GMACs may, and as a share: figures are rounded to whole ones, and count a little more or
# less beside matrix products.
GMACS_TOLERANCE, GMACS_TOLERANCE_SHARE = 1.0, 0.002

# By their names in `ARCHITECTURES`.
VIT_S, VIT_B, VIT_L, VIT_H = (
    f"vit_{size}_patch16_224" for size in ("small", "base", "large", "huge")
)
SWIN_T, SWIN_S, SWIN_B, SWIN_B_SSV2 = "swin3d_t", "swin3d_s", "swin3d_b", "swin3d_b_ssv2"
K400, SSV2 = "k400", "ssv2"


@dataclass(frozen=True)
class Cell:
    """A published figure: `top1` of an architecture on a data set with a reducer.

    `preset` and `segments`: the views of a video, a protocol's name and, where it is not its own,
    the number of clips. `said`: what the row is about, where it is not r. `read_off`: taken from a
    plot, with its uncertainty.
    """

    arch: str
    data: str
    reducer: str
    top1: float
    preset: str
    gmacs: float | None = None
    segments: int | None = None
    said: str = ""
    read_off: bool = False

    @property
    def needs(self) -> str:
        """The checkpoint by its name on the command line."""
        return f"{self.arch}/{self.data}"

    @property
    def series(self) -> tuple[str, str, int | None]:
        """What it shares with the unpruned figure that its change is counted from."""
        return self.needs, self.preset, self.segments

    @property
    def tolerance(self) -> float:
        """Points by which a rerun's change may miss its own."""
        return CHANGE_TOLERANCE + READ_OFF_TOLERANCE * self.read_off

    @property
    def gmacs_tolerance(self) -> float:
        """By which a rerun's arithmetic may miss the published one."""
        return max(GMACS_TOLERANCE, GMACS_TOLERANCE_SHARE * (self.gmacs or 0))


def _over_r(
    arch: str,
    data: str,
    rates: Iterable[int],
    top1: Iterable[float],
    *,
    gmacs: Iterable[float] | None = None,
    preset: str = "k400",
    segments: int | None = None,
    method: str = "sta",
) -> tuple[Cell, ...]:
    """A row of a table: one method at several r."""
    rates = tuple(rates)
    costs = (None,) * len(rates) if gmacs is None else gmacs
    return tuple(
        Cell(arch, data, with_r(method, r), accuracy, preset, cost, segments)
        for r, accuracy, cost in zip(rates, top1, costs, strict=True)
    )


_R, _R1 = (0, 32, 48, 64), (0, 192, 256, 320)


def _vits() -> tuple[Cell, ...]:
    rows = (
        (VIT_S, (78.8, 78.8, 78.6, 78.1), (66.8, 66.6, 66.4, 65.8), (57, 42, 35, 29)),
        (VIT_B, (81.2, 81.2, 81.1, 80.8), (70.6, 70.4, 70.3, 69.9), (180, 136, 116, 96)),
        (VIT_L, (85.1, 85.2, 85.1, 85.0), None, (597, 446, 376, 308)),
        (VIT_H, (86.3, 86.3, 86.2, 86.1), None, (1192, 890, 748, 611)),
    )
    cells: tuple[Cell, ...] = ()
    for arch, kinetics, something, gmacs in rows:
        cells += _over_r(arch, K400, _R, kinetics, gmacs=gmacs)
        if something:
            cells += _over_r(arch, SSV2, _R, something, gmacs=gmacs, preset=SSV2)
    return cells


def _swins() -> tuple[Cell, ...]:
    kinetics, something = "videoswin-k400", "videoswin-ssv2"
    # The paper's form of attention in windows, whose GMACs these are.
    method = "sta:gaps=filled"
    rows = (
        (SWIN_T, K400, (78.8, 78.7, 78.7, 78.6), (88, 68, 61, 54), kinetics),
        (SWIN_S, K400, (80.5, 80.3, 80.2, 80.1), (166, 121, 106, 91), kinetics),
        (SWIN_B, K400, (82.7, 82.5, 82.5, 82.3), (282, 202, 176, 149), kinetics),
        (SWIN_B_SSV2, SSV2, (69.6, 69.6, 69.5, 69.2), (321, 241, 215, 188), something),
    )
    cells: tuple[Cell, ...] = ()
    for arch, data, top1, gmacs, views in rows:
        cells += _over_r(arch, data, _R1, top1, gmacs=gmacs, preset=views, method=method)
    return cells


def _choices() -> tuple[Cell, ...]:
    """What the method is made of, each part in turn replaced by others, at r = 64."""
    dense = ((VIT_S, 78.8), (VIT_B, 81.2), (VIT_L, 85.1))
    cells = [Cell(arch, K400, NONE, top1, K400, said="dense") for arch, top1 in dense]
    for said, reducer, top1, gmacs in (
        ("as it is", "sta:r=64", 84.96, 308),
        ("first group: random", "sta:r=64,first_group=random", 84.78, None),
        ("first group: grid", "sta:r=64,first_group=grid", 84.85, None),
        ("order: B-F-B", "sta:r=64,order=BFB", 84.97, None),
        ("order: F-F-F", "sta:r=64,order=FFF", 84.26, None),
        ("order: B-B-B", "sta:r=64,order=BBB", 84.35, None),
        ("similarity: query", "sta:r=64,similarity=query", 84.83, None),
        ("similarity: value", "sta:r=64,similarity=value", 84.84, None),
        ("similarity: FFN", "sta:r=64,similarity=output", 84.94, None),
        ("schedule: constant", "sta:r=48,schedule=constant", 84.68, None),
        ("schedule: increasing", "sta:r=27,schedule=increasing", 77.68, None),
        # The paper gives what these two cost, not their r.
        ("two stages", "sta:r=74,stages=2", 84.5, 302),
        ("four stages", "sta:r=60,stages=4", 84.8, 305),
        ("after blocks 2, 10, 18", "sta:r=64,blocks=2/10/18", 85.0, 339),
        ("after blocks 4, 12, 20", "sta:r=64,blocks=4/12/20", 85.1, 370),
        ("score: semantic", "sta:r=64,score=semantic", 84.87, None),
        ("score: temporal", "sta:r=64,score=temporal", 84.69, None),
    ):
        cells.append(Cell(VIT_L, K400, reducer, top1, K400, gmacs, said=said))
    for arch, semantic, temporal, both in (
        (VIT_S, 77.33, 77.78, 78.12),
        (VIT_B, 80.52, 80.43, 80.82),
    ):
        for said, top1 in (("semantic", semantic), ("temporal", temporal), ("both", both)):
            reducer = "sta:r=64" + ("" if said == "both" else f",score={said}")
            cells.append(Cell(arch, K400, reducer, top1, K400, said=f"score: {said}"))
    return tuple(cells)


def _chance() -> tuple[Cell, ...]:
    """STA and random pruning with the same schedule, ViT-L."""
    sta = _over_r(VIT_L, K400, _R, (85.1, 85.2, 85.1, 85.0))
    random = _over_r(VIT_L, K400, (32, 64, 96), (84.8, 84.3, 82.15), method="random")
    return sta + tuple(replace(cell, read_off=True) for cell in random)


def _views() -> tuple[Cell, ...]:
    """ViT-L on more and fewer clips of a video, three crops each."""
    cells: tuple[Cell, ...] = ()
    for segments, top1 in (
        (2, (83.36, 83.21, 83.09, 82.56)),
        (4, (85.10, 85.00, 84.85, 84.35)),
        (6, (85.05, 85.07, 84.84, 84.59)),
        (8, (84.91, 84.93, 84.80, 84.43)),
        (16, (84.91, 84.97, 84.89, 84.48)),
    ):
        cells += _over_r(VIT_L, K400, (0, 48, 64, 80), top1, segments=segments)
    return cells


TABLES: dict[str, tuple[Cell, ...]] = {
    "table2": _vits(),
    "table3": _swins(),
    "table6": _choices(),
    "fig5": _chance(),
    "views": _views(),
}
