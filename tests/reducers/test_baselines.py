"""Random pruning: uniform, and tied to nothing but clip, stage and seed."""

import torch
from torch import Tensor

from vidprune.layout import Layout, TokenGrid
from vidprune.reducers.base import Signals
from vidprune.reducers.baselines import Random
from vidprune.reducers.draws import draw
from vidprune.reducers.schedule import Stage

GRID = TokenGrid(frames=4, rows=3, columns=3)
STAGE = Stage(index=0, block=0, groups=4, entering=36, drop=3)


def kept(
    clip_keys: Tensor, *, seed: int = 0, stage: Stage = STAGE, origin: Tensor | None = None
) -> Tensor:
    places = torch.arange(stage.entering) if origin is None else origin
    layout = Layout(grid=GRID, origin=places.expand(len(clip_keys), -1), clip_keys=clip_keys)
    tokens = torch.zeros(len(clip_keys), stage.entering, 1)
    return Random(r=3, seed=seed)(tokens, Signals(), layout, stage).keep


def stays(positions: Tensor) -> Tensor:
    """(B, tokens) of 0 and 1."""
    return torch.zeros(len(positions), STAGE.entering).scatter(1, positions, 1)


def test_every_group_loses_as_many_and_what_stays_keeps_its_order() -> None:
    positions = kept(torch.arange(50))
    assert positions.shape == (50, 24)
    assert (positions.diff() > 0).all()
    assert (stays(positions).unflatten(1, (4, 9)).sum(-1) == 6).all()


def test_every_token_is_as_likely_to_stay() -> None:
    clips = 3000
    for clip_keys in (torch.arange(clips), torch.arange(clips) << 32, -torch.arange(clips)):
        counts = stays(kept(clip_keys)).sum(0)
        expected, variance = clips * 6 / 9, clips * 6 / 9 * 3 / 9
        # 36 counts, 32 free: a chi-square of 32 degrees passes 73 once in 20 000.
        assert ((counts - expected) ** 2 / variance).sum() * 8 / 9 < 73


def test_tokens_stay_independently_of_the_next_clip_and_the_next_group() -> None:
    clips = 4000
    marks = stays(kept(torch.arange(clips))) - 6 / 9
    next_clip = (marks[:-1] * marks[1:]).mean(0)
    next_group = (marks[:, :9] * marks[:, 9:18]).mean(0)
    bound = 4.5 * (6 / 9 * 3 / 9) / clips**0.5
    assert next_clip.abs().max() < bound
    assert next_group.abs().max() < bound


def test_pairs_of_a_group_stay_together_as_often_as_chance_has_it() -> None:
    clips = 4000
    marks = stays(kept(torch.arange(clips)))[:, :9]
    together = marks.T @ marks / clips
    off_diagonal = together[~torch.eye(9, dtype=torch.bool)]
    assert (off_diagonal - 6 / 9 * 5 / 8).abs().max() < 0.04


def test_neighbours_in_the_batch_change_nothing() -> None:
    keys = torch.tensor([7, 2**40 + 3, -5, 0])
    together = kept(keys)
    order = [2, 0, 3, 1]
    assert torch.equal(kept(keys[order]), together[order])
    for clip in range(4):
        assert torch.equal(kept(keys[clip, None])[0], together[clip])


def test_another_seed_clip_or_stage_is_another_draw() -> None:
    one = torch.tensor([11])
    later = Stage(index=1, block=2, groups=4, entering=36, drop=3)
    draws = [
        kept(one),
        kept(one, seed=1),
        kept(one, seed=-1),
        kept(torch.tensor([12])),
        kept(torch.tensor([11 + 2**32])),
        kept(one, stage=later),
    ]
    assert len({tuple(positions[0].tolist()) for positions in draws}) == len(draws)


def test_the_draw_follows_the_place_and_not_the_position() -> None:
    one, shuffled = torch.tensor([11]), torch.tensor([*range(8, -1, -1), *range(9, 36)])
    moved = kept(one, origin=shuffled)
    assert sorted(shuffled[moved[0]].tolist()) == kept(one)[0].tolist()


def test_words_are_the_same_for_ever() -> None:
    words = draw(torch.tensor([0, 1]), torch.arange(2).expand(2, -1), seed=0, stage=0)
    assert ((words >= 0) & (words < 2**32)).all()
    assert words.tolist() == words_by_hand([0, 1], [0, 1])


def words_by_hand(clips: list[int], places: list[int]) -> list[list[int]]:
    """The same hash in Python's whole numbers, which do not wrap."""

    def mix(word: int) -> int:
        word = (word ^ word >> 16) * 0x7FEB352D % 2**32
        word = (word ^ word >> 15) * 0x846CA68B % 2**32
        return word ^ word >> 16

    starts = [mix(mix(clip ^ mix(0)) ^ 0x165667B1) for clip in clips]
    return [[mix(mix(place) ^ start) for place in places] for start in starts]
