"""Views on their way through models: every answer is its own, whenever it comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from vidprune.batching import _PATIENCE, Queue, View
from vidprune.reducers.by_content import ByContent


@dataclass
class Model:
    """Answers a clip of one value with two logits that stand `slope` times the value apart."""

    slope: float
    batch_size: int = 4
    batches: list[list[float]] = field(default_factory=list)

    @property
    def seen(self) -> list[float]:
        return [value for batch in self.batches for value in batch]

    def start(self, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        assert 0 < len(clips) <= self.batch_size
        assert len(clip_keys) == len(clips)
        values = [float(clip.flatten()[-1]) for clip in clips]
        self.batches.append(values)
        filled = torch.tensor([*values, *[values[-1]] * (self.batch_size - len(values))])
        return torch.stack([self.slope * filled, torch.zeros(self.batch_size)], dim=1)


def view(value: int, *, flicker: int = 0) -> View:
    pixels = torch.full((2, 3, 1, 1), value, dtype=torch.uint8)
    pixels[0] -= flicker
    return View(pixels, key=value)


def cascade(*limits: float) -> ByContent:
    return ByContent(signal="confidence", settings=(None,) * (len(limits) + 1), limits=limits)


@pytest.mark.parametrize("ahead", [0, 1])
def test_one_model_answers_in_batches_and_the_rest_at_the_end(ahead: int) -> None:
    model = Model(1.0)
    queue, views = Queue([model], ahead=ahead), [view(value) for value in range(10)]
    for number, each in enumerate(views):
        queue.put(each)
        done = max(0, (number + 1) // 4 - ahead)
        answered = [other.output is not None for other in views]
        assert answered == [place < 4 * done for place in range(10)]
    queue.finish()
    assert model.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for value, each in enumerate(views):
        assert each.output is not None
        assert each.output.tolist() == [value, 0]
        assert each.setting is None
        assert each.pixels is None


@pytest.mark.parametrize("ahead", [0, 1])
def test_who_is_not_sure_goes_on_and_each_answer_is_of_the_setting_it_names(ahead: int) -> None:
    """The first setting is sure of values from 6 on, the second from 3 on."""
    models = [Model(0.5), Model(1.0), Model(3.0)]
    limit = float(torch.tensor([2.9, 0.0]).softmax(0)[0])
    by_content = cascade(limit, limit)
    queue = Queue(models, by_content, ahead=ahead)
    views = [view(value) for value in (7, 1, 4, 9, 0, 5, 2, 8, 3, 6, 1)]
    for each in views:
        queue.put(each)
    queue.finish()
    for each in views:
        value = each.key
        assert each.setting == (0 if value >= 6 else 1 if value >= 3 else 2)
        assert each.output is not None
        assert each.output[0] == models[each.setting].slope * value
    assert sorted(models[0].seen) == sorted(each.key for each in views)
    assert sorted(models[1].seen) == [0, 1, 1, 2, 3, 4, 5]
    assert sorted(models[2].seen) == [0, 1, 1, 2]


def test_by_change_each_view_is_seen_by_one_model() -> None:
    models = [Model(1.0), Model(2.0)]
    by_content = ByContent(signal="change", settings=(None, None), limits=(20 / 255,))
    queue = Queue(models, by_content)
    views = [view(value, flicker=value // 2) for value in range(10, 90, 10)]
    for each in views:
        queue.put(each)
    queue.finish()
    assert [each.setting for each in views] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert models[0].seen == [10, 20, 30]
    assert models[1].seen == [40, 50, 60, 70, 80]


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("rare", [1, 4])
def test_a_view_whose_batch_does_not_fill_does_not_wait_for_the_end(ahead: int, rare: int) -> None:
    """Nor one whose batch has begun and which no other follows."""
    models = [Model(1.0), Model(1.0)]
    queue = Queue(models, cascade(float(torch.tensor([5.0, 0.0]).softmax(0)[0])), ahead=ahead)
    unsure = [view(0) for _ in range(rare)]
    for each in unsure:
        queue.put(each)
    put = 0
    while any(each.output is None for each in unsure):
        put += 1
        # At the first model, and at the second for its batch to fill.
        assert put <= 2 * (_PATIENCE * 4 + 8)
        queue.put(view(9))
    assert models[1].batches == [[0] * rare]
    assert {each.setting for each in unsure} == {1}


def test_confidence_looks_at_no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would cost more than what it saves, clip by clip."""
    monkeypatch.setattr("vidprune.reducers.by_content.change", lambda clips: 1 / 0)
    queue, seen = Queue([Model(1.0), Model(1.0)], cascade(0.9)), view(3)
    queue.put(seen)
    queue.finish()
    assert seen.output is not None
