"""A budget by content: what may be chosen among, and what is chosen."""

import math
from pathlib import Path

import pytest
import torch

from vidprune.layout import TokenGrid
from vidprune.reducers.baselines import Random
from vidprune.reducers.by_content import ByContent, change
from vidprune.reducers.spec import describe, parse, with_r
from vidprune.reducers.sta import STA

CASCADE = ByContent(signal="confidence", settings=(STA(r=9), Random(r=5), None), limits=(0.9, 0.5))
BY_CHANGE = ByContent(signal="change", settings=(STA(r=9), STA(r=4), None), limits=(0.1, 0.3))


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (CASCADE, "confidence:sta:r=9@0.9@random:r=5@0.5@none"),
        (BY_CHANGE, "change:sta:r=9@0.1@sta:r=4@0.3@none"),
    ],
)
def test_a_budget_has_a_text_that_gives_it_back(made: ByContent, text: str, tmp_path: Path) -> None:
    assert describe(made) == text
    assert parse(f" {text} ") == made
    recipe = tmp_path / "recipe.json"
    recipe.write_text(f'{{"reducer": "{text}"}}')
    assert parse(str(recipe)) == made


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("confidence", "takes settings with a limit between each two"),
        ("confidence:sta:r=9", "takes settings with a limit between each two"),
        ("confidence:sta:r=9@0.5", "takes settings with a limit between each two"),
        ("confidence:@0.5@none", "takes settings with a limit between each two"),
        ("confidence:sta:r=9@half@none", "limit 'half' of reducer confidence must be a number"),
        ("confidence:sta:r=9@nan@none", "limit 'nan' of reducer confidence must be a number"),
        ("confidence:sta:r=9@0@none", "limit 0 of confidence must lie above 0"),
        ("change:sta:r=9@1.5@none", "limit 1.5 of change must lie above 0 and at most at 1"),
        ("change:sta:r=9@0.3@sta:r=4@0.3@none", "limits 0.3, 0.3 of change must rise"),
        ("confidence:sta:q=9@0.5@none", "reducer sta has no option 'q'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)


def test_budgets_do_not_hold_each_other_and_count_their_limits() -> None:
    with pytest.raises(ValueError, match="chooses by content itself"):
        ByContent(signal="change", settings=(CASCADE, None), limits=(0.5,))
    with pytest.raises(ValueError, match="2 settings and 2 limits"):
        ByContent(signal="change", settings=(None, None), limits=(0.5, 0.6))
    with pytest.raises(ValueError, match="signal='motion' is not known"):
        ByContent(signal="motion", settings=(None, None), limits=(0.5,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"limits=\[0.5\] must be a tuple"):
        ByContent(signal="change", settings=(None, None), limits=[0.5])  # type: ignore[arg-type]
    for wrong in ("sta:r=3", STA):
        with pytest.raises(ValueError, match="of change is no reducer"):
            ByContent(signal="change", settings=(wrong, None), limits=(0.5,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit True of confidence must be a number"):
        ByContent(signal="confidence", settings=(None, None), limits=(True,))


@pytest.mark.parametrize(
    "held", ['{"reducer": "confidence:%s@0.5@none"}', '{"reducer": "%s"}', "[" * 100_000]
)
def test_a_recipe_that_leads_to_itself_or_nowhere_is_no_recipe(held: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(held.replace("%s", str(recipe)))
    with pytest.raises(ValueError, match="is no recipe of vidprune tune"):
        parse(str(recipe))


def test_there_is_no_plan_and_no_r_of_it() -> None:
    with pytest.raises(ValueError, match="a budget by change drops as much as"):
        _ = BY_CHANGE.needs
    with pytest.raises(ValueError, match="a budget by confidence drops as much as"):
        CASCADE.plan(12, TokenGrid(frames=8, rows=14, columns=14))
    with pytest.raises(ValueError, match="a budget by change has no r of its own"):
        with_r("change:sta@0.5@none", 4)


def test_change_is_the_mean_difference_of_neighbouring_frames() -> None:
    clips = torch.rand(3, 5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    clips[2] = clips[2, :1]
    for clip, found in zip(clips.tolist(), change(clips).tolist(), strict=True):
        steps = [
            abs(value - before)
            for frame, last in zip(clip[1:], clip, strict=False)
            for plane, plane_before in zip(frame, last, strict=True)
            for row, row_before in zip(plane, plane_before, strict=True)
            for value, before in zip(row, row_before, strict=True)
        ]
        assert found == pytest.approx(sum(steps) / len(steps), abs=1e-6)
    assert change(clips)[2] == 0
    seen = (255 * clips).to(torch.uint8)
    torch.testing.assert_close(change(seen), change(seen / 255), atol=1e-6, rtol=1e-5)


def test_by_change_a_clip_goes_to_the_setting_between_whose_limits_it_lies() -> None:
    still = torch.full((1, 4, 3, 8, 8), 0.5)
    flicker = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 4, 1, 1, 1)
    clips = torch.cat([still + amount * (flicker - 0.5) for amount in (0, 0.2, 0.5)])
    assert BY_CHANGE.first(clips) == [0, 1, 2]
    # On a limit it is the next one's.
    exact = ByContent(signal="change", settings=(None, None), limits=(float(change(clips)[1]),))
    assert exact.first(clips) == [0, 1, 1]
    assert BY_CHANGE.next(0, torch.zeros(2, 7)) == [None, None]
    assert BY_CHANGE.spent([3.0, 5.0, 10.0]) == (3.0, 5.0, 10.0)


def test_by_confidence_a_clip_goes_on_until_an_answer_is_sure() -> None:
    sure, half, unsure = [9.0, 0.0, 0.0], [0.7, 0.0, 0.0], [0.0, 0.0, 0.0]
    logits = torch.tensor([sure, half, unsure, [math.nan] * 3, [math.inf, 0.0, 0.0]])
    assert CASCADE.first(torch.zeros(2, 4, 3, 8, 8)) == [0, 0]
    assert CASCADE.next(0, logits) == [None, 1, 1, 1, 1]
    # 0.7 above the two others is a probability of 0.502.
    assert CASCADE.next(1, logits) == [None, None, 2, 2, 2]
    assert CASCADE.next(2, logits) == [None] * 5
    assert CASCADE.spent([3.0, 5.0, 10.0]) == (3.0, 8.0, 18.0)
