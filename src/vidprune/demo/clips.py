"""Small generated clips whose class lies in the motion over time and in no single frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidprune.video.encode import write_video

# Note [pairs]
# The classes come in six kinds, each with its reverse: class 2k + 1 is class 2k played backwards,
# from the same draws. Within a kind every single frame is therefore as likely under one class as
# under the other. Across kinds, each object carries the same pose parameters (path, separation,
# size, orientation); the kind says which one of them sweeps its range during the clip, the others
# rest anywhere in that same range. So number, size, place, orientation and texture of what one
# frame shows are distributed alike everywhere.
CLASSES: tuple[str, ...] = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "rotating clockwise",
    "rotating counter-clockwise",
    "growing",
    "shrinking",
    "approaching",
    "parting",
    "appearing",
    "vanishing",
)
_ACROSS, _UPRIGHT, _TURN, _SIZE, _GAP, _FADE = range(6)

_OBJECTS = 3
_REACH = 19.0  # half side of the window an object is drawn in, pixels of a 64-pixel frame
_TEXTURE_SIDE = 128


@dataclass(frozen=True)
class Clip:
    """One generated clip and the truth about it.

    frames: (T, H, W, 3) uint8, RGB.
    actors: (T, H, W) float32, 0 to 1, how much of each pixel shows an object that acts the class.
    flow: (T, H, W, 2) float32, velocity (x, y) of the actors there, pixels per frame; 0 elsewhere.
    motion: index into CLASSES.
    """

    frames: np.ndarray
    actors: np.ndarray
    flow: np.ndarray
    motion: int


@dataclass(frozen=True)
class _Poses:
    """Where each object is over time, arrays (objects, T): pixels, radians, opacity 0 to 1."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray


def render(motion: int, seed: int, *, frames: int = 16, size: int = 64) -> Clip:
    """Draw one clip of class `CLASSES[motion]`; the same arguments give the same pixels.

    Raises ValueError where `motion` names no class.
    """
    if not 0 <= motion < len(CLASSES):
        raise ValueError(
            f"motion is {motion}: it must be 0 to {len(CLASSES) - 1}, an index into CLASSES."
        )
    rng = np.random.default_rng(seed)
    kind, backwards = divmod(motion, 2)
    poses = _poses(kind, rng, frames=frames, scale=size / 64)
    pixels, actors, flow = _draw(poses, rng, actors=2 if kind == _GAP else 1, size=size)
    if backwards:
        pixels, actors, flow = pixels[::-1], actors[::-1], -flow[::-1]
    return Clip(np.ascontiguousarray(pixels), actors, flow, motion)


def write_clips(folder: str | Path, *, per_class: int, seed: int = 0) -> Path:
    """Write `per_class` H.264 files for every class and a list of them; return the list's path.

    The files are `<folder>/<class>/<nnn>.mp4`; the list is `<folder>/test.csv`, as VideoMAE writes
    it, `relative/path label` per line. Every clip has a seed of its own, counted up from `seed`.
    """
    folder = Path(folder)
    lines: list[str] = []
    for motion, name in enumerate(CLASSES):
        place = name.replace(" ", "_")
        (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            relative = f"{place}/{number:03d}.mp4"
            write_video(folder / relative, render(motion, seed + len(lines)).frames)
            lines.append(f"{relative} {motion}\n")
    listing = folder / "test.csv"
    listing.write_text("".join(lines), encoding="utf-8")
    return listing


def _poses(kind: int, rng: np.random.Generator, *, frames: int, scale: float) -> _Poses:
    sweep = np.linspace(-0.5, 0.5, frames)
    # Where each parameter of each object stands in its range, -0.5 to 0.5; see Note [pairs].
    path, turn, size = (
        np.repeat(rng.uniform(-0.5, 0.5, (_OBJECTS, 1)), frames, axis=1) for _ in range(3)
    )
    gap = np.full(frames, rng.uniform(-0.5, 0.5))
    swept = {_ACROSS: path[0], _UPRIGHT: path[0], _TURN: turn[0], _SIZE: size[0], _GAP: gap}
    if kind in swept:
        swept[kind][:] = sweep
    x, y = _places(kind, rng, path=path, gap=gap)
    turned = rng.uniform(2.6, 3.6, (_OBJECTS, 1))
    radius = rng.uniform(9.5, 11.5, (_OBJECTS, 1)) * rng.uniform(2.1, 2.4, (_OBJECTS, 1)) ** size
    angle = rng.uniform(0, 2 * np.pi, (_OBJECTS, 1)) + turned * turn
    opacity = _opacity(kind, rng, sweep=sweep)
    return _Poses(x * scale, y * scale, radius * scale, angle, opacity)


def _places(
    kind: int, rng: np.random.Generator, *, path: np.ndarray, gap: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Centres x and y, (objects, T), in pixels of a 64-pixel frame.

    The first two objects lie on either side of a common centre, the third anywhere; each rests on,
    or runs along, a short path of its own.
    """
    travel = rng.uniform(18, 22, (_OBJECTS, 1))
    upright = rng.random((_OBJECTS, 1)) < 0.5
    if kind in (_ACROSS, _UPRIGHT):
        upright[0] = kind == _UPRIGHT
    bearing = rng.uniform(0, 2 * np.pi)
    near, far = rng.uniform(6, 12), rng.uniform(34, 41)
    half_gap = ((near + far) / 2 - (far - near) * gap) / 2
    coordinates = []
    for along, direction in ((~upright, np.cos(bearing)), (upright, np.sin(bearing))):
        room = far / 2 * abs(direction) + 10.5
        centre = rng.uniform(room, 64 - room)
        third = np.full_like(gap, rng.uniform(12, 52))
        anchors = np.stack([centre + half_gap * direction, centre - half_gap * direction, third])
        coordinates.append(anchors - along * travel * path + _idling(kind, rng, frames=len(gap)))
    return coordinates[0], coordinates[1]


def _idling(kind: int, rng: np.random.Generator, *, frames: int) -> np.ndarray:
    """What distractors do along one axis, (objects, T) in pixels: stay, jitter or drift."""
    jitter = rng.normal(0, 0.5, (_OBJECTS, frames))
    speed = rng.choice((-1, 1), (_OBJECTS, 1)) * rng.uniform(0.1, 0.25, (_OBJECTS, 1))
    drift = speed * (np.arange(frames) - frames / 2)
    habit = rng.integers(0, 3, (_OBJECTS, 1))
    habit[: 2 if kind == _GAP else 1] = 0
    return jitter * (habit == 1) + drift * (habit == 2)


def _opacity(kind: int, rng: np.random.Generator, *, sweep: np.ndarray) -> np.ndarray:
    """(objects, T), 0 to 1. Every kind of clip shows two objects or three, equally often.

    One in five of the others is see-through, so that fading is not told by that.
    """
    opacity = np.ones((_OBJECTS, len(sweep)))
    others = (_OBJECTS - 1, 1)
    opacity[1:] = np.where(rng.random(others) < 0.2, rng.uniform(0.4, 1, others), 1)
    third_is_there = rng.random() < 0.5
    middle, width = rng.uniform(-0.12, 0.12), rng.uniform(0.35, 0.5)
    if kind == _FADE:
        opacity[0] = np.clip((sweep - middle) / width + 0.5, 0, 1)
    elif not third_is_there:
        opacity[2] = 0
    return opacity


def _draw(
    poses: _Poses, rng: np.random.Generator, *, actors: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint background, distractors, then actors: pixels, actors and flow of the clip."""
    frames = poses.x.shape[1]
    reach = int(np.ceil(_REACH * size / 64))
    margin = 2 * reach  # so that no object's window leaves the canvas
    canvas = np.zeros((frames, size + 2 * margin, size + 2 * margin, 6), np.float32)
    canvas[:, margin:-margin, margin:-margin, :3] = _background(rng, frames=frames, size=size)
    for item in reversed(range(_OBJECTS)):
        paint = _paint(poses, rng, item=item, reach=reach)
        if item >= actors:
            paint[..., 3:6] = 0
        _composite(canvas, paint, x=poses.x[item] + margin, y=poses.y[item] + margin, reach=reach)
    inside = canvas[:, margin:-margin, margin:-margin]
    pixels = np.clip(inside[..., :3] * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels, inside[..., 3].copy(), inside[..., 4:6].copy()


def _composite(
    canvas: np.ndarray, paint: np.ndarray, *, x: np.ndarray, y: np.ndarray, reach: int
) -> None:
    """Lay (T, w, w, 6 + alpha) over the canvas (T, H, W, 6) around (x, y), in place."""
    columns, rows = np.floor(x).astype(int) - reach, np.floor(y).astype(int) - reach
    side = paint.shape[1]
    for frame, layer, row, column in zip(canvas, paint, rows, columns, strict=True):
        under = frame[row : row + side, column : column + side]
        under += layer[..., 6:] * (layer[..., :6] - under)


def _paint(poses: _Poses, rng: np.random.Generator, *, item: int, reach: int) -> np.ndarray:
    """One object in its window, (T, w, w, 7): colour (3), 1 for "actor", velocity (2), alpha."""
    x, y, radius, angle, opacity = (
        getattr(poses, name)[item][:, None, None].astype(np.float32)
        for name in ("x", "y", "radius", "angle", "opacity")
    )
    offsets = np.arange(-reach, reach + 1, dtype=np.float32)
    right = offsets - x % 1 + 0.5  # from the object's centre to the pixel's
    down = offsets[:, None] - y % 1 + 0.5
    narrow = np.float32(rng.uniform(0.65, 0.95))
    along = (right * np.cos(angle) + down * np.sin(angle)) / radius
    across = (down * np.cos(angle) - right * np.sin(angle)) / (radius * narrow)
    edge = _outline(along, across, boxy=rng.random() < 0.5)
    paint = np.empty((*edge.shape, 7), np.float32)
    paint[..., :3] = _texture(rng)[_cell(across), _cell(along)]
    paint[..., 3] = 1
    turn, growth = np.gradient(angle, axis=0), np.gradient(np.log(radius), axis=0)
    paint[..., 4] = np.gradient(x, axis=0) + growth * right - turn * down
    paint[..., 5] = np.gradient(y, axis=0) + growth * down + turn * right
    paint[..., 6] = np.clip((1 - edge) * radius + 0.5, 0, 1) * opacity
    return paint


def _outline(along: np.ndarray, across: np.ndarray, *, boxy: bool) -> np.ndarray:
    """1 on the outline of an ellipse or a rounded box, less inside: the 2-norm or the 4-norm."""
    if not boxy:
        return np.sqrt(np.square(along) + np.square(across))
    return np.sqrt(np.sqrt(np.square(np.square(along)) + np.square(np.square(across))))


def _cell(coordinate: np.ndarray) -> np.ndarray:
    """Texture index of an object coordinate, whose outline lies at -1 and 1."""
    return np.clip((coordinate + 1.2) * (_TEXTURE_SIDE / 2.4), 0, _TEXTURE_SIDE - 1).astype(np.intp)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Bright spots of one colour on a dark other one, (side, side, 3) in 0 to 1."""
    weights = _knot_weights(np.linspace(0, 5, _TEXTURE_SIDE), knots=6)
    spots = weights @ rng.random((6, 6)).astype(np.float32) @ weights.T
    spots = np.clip(0.5 + 2.5 * (spots - 0.5), 0, 1)[..., None]
    bright, dark = (_vivid(rng) for _ in range(2))
    return (0.35 * dark + spots * (bright - 0.35 * dark)).astype(np.float32)


def _vivid(rng: np.random.Generator) -> np.ndarray:
    """A saturated colour, (3,), whose largest component is 1."""
    colour = rng.permutation([1.0, rng.uniform(0.1, 1.0), rng.uniform(0.0, 0.35)])
    return colour.astype(np.float32)


def _background(rng: np.random.Generator, *, frames: int, size: int) -> np.ndarray:
    """A soft grey texture that drifts slowly in some direction, (T, H, W, 3) in 0 to 1."""
    knots = 14
    grey = rng.uniform(0.35, 0.6) + rng.uniform(0.05, 0.2) * rng.uniform(-1, 1, (knots, knots, 1))
    tint = rng.uniform(-0.05, 0.05, 3) + rng.uniform(-0.04, 0.04, (knots, knots, 3))
    knots_per_frame = rng.uniform(-0.035, 0.035, (2, 1, 1))  # of 64 pixels, six lie between knots
    drift = knots_per_frame * np.arange(frames)[:, None]
    places = np.linspace(1, knots - 2, size) + np.clip(drift, -1, 1)
    down, right = _knot_weights(places[0], knots=knots), _knot_weights(places[1], knots=knots)
    rows = np.einsum("tyk,klc->tylc", down, (grey + tint).astype(np.float32), optimize=True)
    return np.matmul(right[:, None], rows)


def _knot_weights(places: np.ndarray, *, knots: int) -> np.ndarray:
    """Weights (..., P, knots) of a cosine interpolation at places (..., P) between the knots."""
    distance = np.minimum(np.abs(places[..., None] - np.arange(knots)), 1)
    return (0.5 + 0.5 * np.cos(np.pi * distance)).astype(np.float32)
