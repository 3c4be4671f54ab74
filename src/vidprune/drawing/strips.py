"""The lines of a picture of a clip: frames, heat maps, and what each stage leaves of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vidprune.drawing.colours import Pixels
from vidprune.drawing.overlay import Tiles, heated, pruned
from vidprune.insight.look import ClipLook, ReducerLook, StageLook


@dataclass(frozen=True, eq=False)
class Strip:
    """One line: what it is, and its frames (T, H, W, 3) uint8. `scale` names the ends of a heat
    map's colours, dark and light; None where it is none. `heading` stands above it."""

    label: str
    frames: Pixels
    scale: tuple[str, str] | None = None
    heading: str | None = None


def strips_of(found: ClipLook, tiles: Tiles, *, scores: bool) -> Iterator[Strip]:
    """All lines: the frames, GradNorm, and each reducer's stages, with what it judged by where
    `scores` asks for it."""
    dense = found.looks[0]
    yield Strip("the clip", tiles.frames, heading=_heading(dense, dense))
    if found.gradnorm is not None:
        _, high = ends(found.gradnorm)
        shown = heated(tiles, found.gradnorm, found.grid, low=0, high=high)
        yield Strip(f"GradNorm of {found.gradnorm_of}", shown, scale=("none", "most"))
    for seen in found.looks[1:]:
        heading: str | None = _heading(seen, dense)
        if not seen.stages:
            yield Strip("nothing is dropped", tiles.frames, heading=heading)
        for stage in seen.stages:
            if scores:
                for name, values in stage.scores.items():
                    yield _judged(tiles, stage, name, values, heading)
                    heading = None
            shown = pruned(tiles, stage.standing, stage.grid)
            yield Strip(stage_label(stage), shown, heading=heading)
            heading = None


def _judged(
    tiles: Tiles,
    stage: StageLook,
    name: str,
    values: npt.NDArray[np.float32],
    heading: str | None,
) -> Strip:
    low, high = ends(values)
    shown = heated(tiles, values, stage.grid, low=low, high=high)
    return Strip(f"{name}, {stage.title}", shown, (f"{low:.2g}", f"{high:.2g}"), heading)


def stage_label(stage: StageLook) -> str:
    """Where a stage acts and what it leaves."""
    said = f"{stage.title}: {stage.kept} of {stage.grid.tokens} tokens"
    if stage.gradnorm is None:
        return said
    return (
        f"{said}, {100 * stage.gradnorm:.0f} % of GradNorm (at random {100 * stage.expected:.0f} %)"
    )


def _heading(seen: ReducerLook, dense: ReducerLook) -> str:
    """What a model costs and says."""
    name = "dense" if seen is dense else seen.reducer
    most = "at most " if seen.at_most else ""
    said = [name, f"{most}{seen.gmacs:.1f} GMACs", f"{seen.milliseconds:.0f} ms"]
    if seen is not dense:
        said[1] += f" ({100 * seen.gmacs / dense.gmacs:.0f} %)"
        said[2] += f" ({dense.milliseconds / seen.milliseconds:.2f}x as fast)"
    if seen.guesses:
        best = seen.guesses[0]
        said.append(f"{best.name} {100 * best.probability:.0f} %")
    return "; ".join(said)


def ends(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """The values that get the darkest and the lightest colour: the least, and one that a hundredth
    lies above, lest a single place leave all others dark."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    return float(known.min()), float(np.quantile(known, 0.99))
