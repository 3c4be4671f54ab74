"""What is asked of a model about every video: its likeliest classes, or a vector."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vidprune.batching import View
from vidprune.corpus.items import Item
from vidprune.corpus.reading import Decoded
from vidprune.inference import ViewModel, clip_key
from vidprune.metrics import mean_probabilities

__all__ = ["Question", "Row", "answers"]

Row = dict[str, Any]
Kind = Literal["classes", "embedding"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """`kind`: the `top_k` likeliest classes, or the embedding; of every video the mean over its
    views (of probabilities, of vectors), or of each view with `each_view`."""

    kind: Kind
    top_k: int = 5
    each_view: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k={self.top_k} must be at least 1")

    def rows(self, name: str, outputs: Tensor) -> list[Row]:
        """What is kept of a video, from what the model says of its views (V, classes or C)."""
        if not outputs.isfinite().all():
            return [no_answer(name, "the model's output is not finite; try --dtype bf16 or fp32")]
        if self.each_view:
            return [self._row(name, view, outputs[view : view + 1]) for view in range(len(outputs))]
        return [self._row(name, None, outputs)]

    def _row(self, name: str, view: int | None, outputs: Tensor) -> Row:
        row: Row = {"video": name, "view": view, "error": None}
        if self.kind == "embedding":
            return row | {"embedding": outputs.double().mean(0).float().numpy()}
        best = mean_probabilities(outputs).sort(descending=True, stable=True)
        labels, probabilities = best.indices[: self.top_k], best.values[: self.top_k]
        return row | {"labels": labels.numpy(), "probabilities": probabilities.float().numpy()}


def no_answer(name: str, error: str) -> Row:
    """The one row of a video that there is nothing to say of."""
    text = error.encode(errors="backslashreplace").decode()
    return {"video": name, "view": None, "error": text}


def answers(
    model: ViewModel, question: Question, videos: Iterable[Decoded]
) -> Iterator[tuple[Item, list[Row]]]:
    """The rows of every video, in order; batches are filled across them, and with copies where no
    more come (see `Queue`), so that what is said of a clip does not depend on its neighbours."""
    waiting: deque[_Partly] = deque()
    queue = model.queue()
    for video in videos:
        waiting.append(_partly(video))
        for view in waiting[-1].views:
            queue.put(view)
        yield from _finished(waiting, question)
    queue.finish()
    yield from _finished(waiting, question)


@dataclass(frozen=True, eq=False)
class _Partly:
    """A video, some views of which the model has answered; without any where there is an error."""

    item: Item
    error: str | None
    views: tuple[View, ...]

    @property
    def is_answered(self) -> bool:
        return all(view.output is not None for view in self.views)


def _partly(video: Decoded) -> _Partly:
    name, pixels = video.item.name, () if video.pixels is None else video.pixels
    views = tuple(View(each, clip_key(name, number)) for number, each in enumerate(pixels))
    return _Partly(video.item, video.error, views)


def _finished(waiting: deque[_Partly], question: Question) -> Iterator[tuple[Item, list[Row]]]:
    """Those at the head of the queue that the model has answered all of."""
    while waiting and waiting[0].is_answered:
        done = waiting.popleft()
        if done.error is not None:
            yield done.item, [no_answer(done.item.name, done.error)]
        else:
            outputs = [view.output for view in done.views if view.output is not None]
            yield done.item, question.rows(done.item.name, torch.stack(outputs))
