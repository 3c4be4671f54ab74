"""Position tables: VideoMAE's own numbers, and stretching them over time, row and column."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tiny_videomae import tiny_videomae
from vidprune.backbones.positions import interpolated_table, sincos_table
from vidprune.layout import TokenGrid


@pytest.mark.parametrize("width", [24, 48, 30])
def test_the_table_is_the_one_that_transformers_makes(width: int) -> None:
    model = tiny_videomae(hidden_size=width)
    theirs = model.videomae.embeddings.position_embeddings
    torch.testing.assert_close(sincos_table(128, width), theirs, rtol=0, atol=1e-6)


def test_the_same_grid_gives_the_same_table_bit_for_bit() -> None:
    grid = TokenGrid(frames=8, rows=4, columns=3)
    table = sincos_table(grid.tokens, 24)
    assert torch.equal(interpolated_table(table, source=grid, target=grid), table)


@pytest.mark.parametrize("target", [(4, 4, 3), (16, 4, 3), (8, 7, 5), (3, 2, 6), (1, 1, 1)])
def test_stretching_is_trilinear_over_time_row_and_column(target: tuple[int, int, int]) -> None:
    source = TokenGrid(frames=8, rows=4, columns=3)
    table = torch.randn(1, source.tokens, 6, generator=torch.Generator().manual_seed(0))
    frames, rows, columns = target
    stretched = interpolated_table(
        table, source=source, target=TokenGrid(frames=frames, rows=rows, columns=columns)
    )
    volume = table[0].double().numpy().reshape(8, 4, 3, 6)
    for axis, size in enumerate(target):
        volume = stretched_along(volume, axis, size)
    expected = torch.from_numpy(volume.reshape(1, -1, 6)).float()
    torch.testing.assert_close(stretched, expected, rtol=0, atol=1e-5)


def stretched_along(
    volume: npt.NDArray[np.float64], axis: int, size: int
) -> npt.NDArray[np.float64]:
    """Linear between cell centres, constant beyond the outermost."""
    length = volume.shape[axis]
    at = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, length - 1)
    share = (at - low).reshape([-1 if a == axis else 1 for a in range(volume.ndim)])
    return volume.take(low, axis) * (1 - share) + volume.take(high, axis) * share


def test_a_table_stretched_in_time_keeps_rows_and_columns_apart() -> None:
    source = TokenGrid(frames=2, rows=2, columns=2)
    numbers = torch.arange(8.0).view(1, 8, 1)
    stretched = interpolated_table(
        numbers, source=source, target=TokenGrid(frames=1, rows=2, columns=2)
    )
    assert stretched.flatten().tolist() == [2, 3, 4, 5]
