"""Where tokens lie: what backbones and reducers both speak of, without knowing each other."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """The unpruned token grid of one clip, flattened time-major: (frame, row, column).

    `frames` counts temporal positions, that is video frames divided by the tubelet length.
    """

    frames: int
    rows: int
    columns: int

    @property
    def tokens_per_frame(self) -> int:
        """Tokens at one temporal position."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Tokens of a whole clip."""
        return self.frames * self.tokens_per_frame

    def __str__(self) -> str:
        return f"{self.frames}x{self.rows}x{self.columns}"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a reducer may know about the live tokens besides their values.

    `origin` (B, N) int64: each live token's place in the unpruned grid, flat and time-major.
    `sizes` (B, N) float32: how many tokens of the grid each live one stands for; None where each
    stands for itself, because nothing was folded. `valid` (B, N) bool: False for padding, which
    fills up clips that keep fewer tokens than their neighbours; None where there is none.
    `clip_keys` (B,) int64: seeds every random draw for that clip; None unless a reducer asks
    for it. It depends on the clip alone, never on the batch around it.
    """

    grid: TokenGrid
    origin: Tensor
    sizes: Tensor | None = None
    valid: Tensor | None = None
    clip_keys: Tensor | None = None
