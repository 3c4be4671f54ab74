"""Where tokens lie: what backbones and reducers both speak of, without knowing each other."""

from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor


class Pattern(IntEnum):
    """How regular a selection is, and how regular attention needs it to be; each is a case of
    those before it."""

    FREE = 0
    """Any tokens."""
    PER_FRAME = 1
    """As many at every temporal position, in temporal order."""
    TUBES = 2
    """The same places at every temporal position, in one order."""


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
class Level:
    """Consecutive blocks that see one grid. A plain ViT has a single level; a pyramid merges
    neighbouring tokens between its levels."""

    grid: TokenGrid
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """How many tokens of each cell of a frame are to stay, where attention asks for it.

    `cells`: the cell of each place of a frame, row by row; `kept`: how many stay of each cell.
    """

    cells: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a reducer may know about the live tokens besides their values.

    `origin` (B, N) int64: each live token's place in the unpruned grid, flat and time-major.
    `sizes` (B, N) float32: how many tokens of the grid each live one stands for; None where each
    stands for itself, because nothing was folded. `valid` (B, N) bool: False for padding, which
    fills up clips that keep fewer tokens than their neighbours; None where there is none.
    `clip_keys` (B,) int64: seeds every random draw for that clip; None unless a reducer asks
    for it. It depends on the clip alone, never on the batch around it.
    `source` (B, places) int64, of models that attend in windows: for each place of the grid the
    live token whose copy fills it there; None where every place has its own.
    `quotas`: by which they were kept, cell by cell in each frame; None for none.
    `time_major`: whether live tokens stand in temporal order. Some models number their tokens
    otherwise, until the first reduction sorts them; every reducer sees them sorted.
    """

    grid: TokenGrid
    origin: Tensor
    sizes: Tensor | None = None
    valid: Tensor | None = None
    clip_keys: Tensor | None = None
    source: Tensor | None = None
    quotas: Quotas | None = None
    time_major: bool = True
