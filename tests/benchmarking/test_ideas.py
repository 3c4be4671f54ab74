"""What was tried for Ward merging: with nothing otherwise it is Ward, and each idea is at work."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tiny_videomae import clips, tiny_videomae
from vidprune import Ward, prune
from vidprune.macs import costs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ideas() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    import ideas

    yield ideas
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("r", [3, 11])
@torch.no_grad()
def test_with_nothing_otherwise_it_is_ward(ideas: ModuleType, r: int) -> None:
    model, pixels = tiny_videomae(), clips(2)
    found, wanted = (
        prune(model, reducer(r=r, where="after"))(pixels, return_trace=True)
        for reducer in (ideas.Merging, Ward)
    )
    assert all(map(torch.equal, found.trace.kept, wanted.trace.kept))
    assert torch.equal(found.logits, wanted.logits)


@torch.no_grad()
def test_each_idea_answers_otherwise_than_the_others(ideas: ModuleType) -> None:
    model, pixels = tiny_videomae(hidden_size=48, num_hidden_layers=12), clips(3)
    answers = {}
    for name, idea in ideas.ideas(model.classifier.weight.detach()).items():
        # Of sixteen tokens a position; of an STA in stages each takes so many.
        reducer = idea(14 if isinstance(idea(1), Ward) else 5)
        assert costs(model, reducer).gmacs_per_view < costs(model).gmacs_per_view
        answers[name] = prune(model, reducer)(pixels, clip_keys=torch.arange(3)).logits
    same = {
        (name, other)
        for number, (name, own) in enumerate(answers.items())
        for other, theirs in list(answers.items())[:number]
        if torch.equal(own, theirs)
    }
    assert same == set()
