"""What is asked of a model about every video: its likeliest classes, or a vector."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

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
    """The rows of every video, in order; batches are filled across them, and only the last one
    with copies, so that what is said of a clip does not depend on its neighbours."""
    waiting: list[_Partly] = []
    views: list[tuple[_Partly, int]] = []
    for video in videos:
        partly = _Partly(video)
        waiting.append(partly)
        views += [(partly, view) for view in range(partly.views)]
        while len(views) >= model.batch_size:
            _run(model, views[: model.batch_size])
            del views[: model.batch_size]
        yield from _finished(waiting, question)
    if views:
        _run(model, views)
    yield from _finished(waiting, question)


@dataclass(eq=False)
class _Partly:
    """A video, some views of which the model has seen."""

    video: Decoded
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def views(self) -> int:
        return 0 if self.video.pixels is None else len(self.video.pixels)


def _run(model: ViewModel, views: Sequence[tuple[_Partly, int]]) -> None:
    clips = [partly.video.pixels[view] for partly, view in views]  # type: ignore[index]
    keys = [clip_key(partly.video.item.name, view) for partly, view in views]
    outputs = model.start(clips, keys).cpu()
    for (partly, _), output in zip(views, outputs, strict=False):
        partly.outputs.append(output)


def _finished(waiting: list[_Partly], question: Question) -> Iterator[tuple[Item, list[Row]]]:
    """Those at the head of the queue that the model has seen all of."""
    while waiting and len(waiting[0].outputs) == waiting[0].views:
        done = waiting.pop(0)
        name = done.video.item.name
        if done.video.error is not None:
            yield done.video.item, [no_answer(name, done.video.error)]
        else:
            yield done.video.item, question.rows(name, torch.stack(done.outputs))
