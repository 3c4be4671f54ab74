"""Looks at several clips as one record."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from looked_clips import looked
from vidprune.drawing.curves import draw_curves
from vidprune.environment import environment
from vidprune.insight.look import ClipLook
from vidprune.insight.summary import Summary, summarise
from vidprune.report import Guess


def clips() -> list[ClipLook]:
    """Two alike, and one in which the pruned model errs and holds less."""
    first = looked()
    dense, pruned = first.looks
    other = replace(
        pruned,
        guesses=(Guess(label=2, name="rest", probability=0.6),),
        trajectory=(0.3, 0.5),
        stages=(replace(pruned.stages[0], gradnorm=0.2),),
    )
    return [first, looked(), replace(first, looks=(dense, other))]


def summary(looks: list[ClipLook]) -> Summary:
    return Summary(
        rows=summarise(looks),
        num_clips=len(looks),
        seconds_per_clip=1.5,
        unreadable=(),
        checkpoint="tiny",
        command="",
        dtype="float32",
        environment=environment(torch.device("cpu")),
        date="2026-11-25",
    )


def test_means_are_over_the_clips_that_have_a_value() -> None:
    dense, pruned = summarise(clips())
    assert pruned.same_class is not None
    assert pruned.same_class.value == pytest.approx(200 / 3)
    (stage,) = pruned.stages
    assert stage.gradnorm is not None
    assert stage.gradnorm.value == pytest.approx(40)
    assert stage.at_random == pytest.approx(100 * 4 / 12)
    first, last = pruned.trajectory
    assert first is not None
    assert first.value == pytest.approx((0.9 + 0.9 + 0.3) / 3)
    # Of the second block only the last clip has one.
    assert last is not None
    assert (last.value, last.low) == (pytest.approx(0.5), None)
    assert not dense.stages
    assert [each.value for each in dense.trajectory if each] == pytest.approx([0.9, 0.8])


def test_without_guesses_nobody_is_of_one_class() -> None:
    dense, pruned = looked().looks
    silent = replace(looked(), looks=(replace(dense, guesses=()), replace(pruned, guesses=())))
    assert summarise([silent])[1].same_class is None
    erring = replace(looked(), looks=(dense, replace(pruned, guesses=())))
    found = summarise([erring])[1].same_class
    assert found is not None
    assert found.value == 0


def test_a_record_is_json_and_its_curves_are_its_numbers(tmp_path: Path) -> None:
    found = summary(clips())
    assert json.loads(found.to_json())["rows"][1]["stages"][0]["gradnorm"]["value"] == 40
    drawn = draw_curves(found, tmp_path / "curves")
    assert [path.name for path in drawn] == ["curves.svg", "curves.png"]
    text = drawn[0].read_text(encoding="utf-8")
    for name in ("tome:r=8", "dense", "at random", "trajectory sum", "3 clips"):
        assert name.replace(" ", "") in "".join(text.split()), name
