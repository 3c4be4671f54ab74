"""Clips as one page that holds all it shows: no server, no network, nothing beside the file."""

import base64
import io
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from vidprune.drawing.colours import GROUPS, Pixels, cividis
from vidprune.drawing.strips import ends, stage_label
from vidprune.insight.grids import parents
from vidprune.insight.look import ClipLook, ReducerLook, StageLook
from vidprune.layout import TokenGrid

_TITLE, _DATA = "{{title}}", "{{data}}"
_QUALITY = 90
# What a byte of a heat map says where nothing is known.
_UNKNOWN = 255


def page(clips: Sequence[ClipLook], *, title: str) -> str:
    """HTML with a frame slider, a stage switch and the reducers of each clip side by side.

    Names of videos and classes stand in it as data, never as markup.
    """
    template = (files("vidprune.drawing") / "page.html").read_text(encoding="utf-8")
    data = {
        "palette": base64.b64encode(cividis().tobytes()).decode(),
        "groups": [f"#{colour}" for colour in GROUPS],
        "clips": [_clip(clip) for clip in clips],
    }
    filled = {_TITLE: _escaped(title), _DATA: _inert(json.dumps(data, allow_nan=False))}
    # In one pass: what is filled in is not looked at again.
    return re.sub("|".join(map(re.escape, filled)), lambda place: filled[place[0]], template)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _inert(text: str) -> str:
    """JSON that no HTML parser takes for the end of a script, or for the beginning of another."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _clip(found: ClipLook) -> dict[str, Any]:
    height, width = found.frames.shape[1:3]
    return {
        "video": found.video,
        "frames": [_picture(frame) for frame in found.frames],
        "size": [width, height],
        "grid": _grid(found.grid),
        "gradnorm": _gradnorm(found),
        "gradnormOf": found.gradnorm_of,
        "looks": [_look(look, found) for look in found.looks],
    }


def _gradnorm(found: ClipLook) -> dict[str, Any] | None:
    if found.gradnorm is None:
        return None
    return _map(found.gradnorm, found.grid, found, (0.0, ends(found.gradnorm)[1]))


def _scales(found: ClipLook) -> dict[str, tuple[float, float]]:
    """The ends of each score's colours: the same for all reducers and stages, which stand side by
    side."""
    values: dict[str, list[npt.NDArray[np.floating]]] = {}
    for look in found.looks:
        for stage in look.stages:
            for name, each in stage.scores.items():
                values.setdefault(name, []).append(each)
    return {name: ends(np.concatenate(each)) for name, each in values.items()}


def _look(look: ReducerLook, found: ClipLook) -> dict[str, Any]:
    return {
        "reducer": look.reducer,
        "gmacs": look.gmacs,
        "atMost": look.at_most,
        "milliseconds": look.milliseconds,
        "guesses": [[guess.name, guess.probability] for guess in look.guesses],
        "trajectory": look.trajectory,
        "stages": [_stage(stage, found, _scales(found)) for stage in look.stages],
    }


def _stage(
    stage: StageLook, found: ClipLook, scales: dict[str, tuple[float, float]]
) -> dict[str, Any]:
    return {
        "label": stage_label(stage),
        "grid": _grid(stage.grid),
        "standing": _numbers(stage.standing),
        "covers": _numbers(parents(found.grid, stage.grid).numpy()),
        "scores": {
            name: _map(each, stage.grid, found, scales[name]) for name, each in stage.scores.items()
        },
    }


def _map(
    values: npt.NDArray[np.floating],
    grid: TokenGrid,
    found: ClipLook,
    scale: tuple[float, float],
) -> dict[str, Any]:
    """A heat map on the clip's finest grid, in 255 steps between the ends of a scale."""
    low, high = scale
    spread = high - low or 1.0
    steps = (np.nan_to_num((values - low) / spread).clip(0, 1) * (_UNKNOWN - 1)).round()
    steps = np.where(np.isnan(values), _UNKNOWN, steps).astype(np.uint8)
    fine = steps[parents(found.grid, grid).numpy()]
    return {"low": low, "high": high, "steps": base64.b64encode(fine.tobytes()).decode()}


def _grid(grid: TokenGrid) -> list[int]:
    return [grid.frames, grid.rows, grid.columns]


def _numbers(places: npt.NDArray[np.int64]) -> str:
    return base64.b64encode(places.astype("<i4").tobytes()).decode()


def _picture(frame: Pixels) -> str:
    held = io.BytesIO()
    Image.fromarray(frame).save(held, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
