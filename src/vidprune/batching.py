"""Views put to a model one by one: batches are filled across videos, and answers come when they
come. Where the setting depends on a clip, each setting has batches of its own."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from vidprune.reducers.by_content import ByContent

# A view waits while so many batches' views are put: for its batch to fill, which is filled up then,
# and for the answer. Only what waits for a batch holds pixels.
_PATIENCE = 32


class Answering(Protocol):
    """A model that answers batches of one size."""

    batch_size: int

    def start(self, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        """Answers (batch size, classes or C), of which the first are these clips'; the device may
        still be at work on them."""


@dataclass(eq=False)
class View:
    """A view (T, 3, S, S) uint8 with the key of its draws, and what is answered: `output` (classes
    or C,) on the CPU, by which `setting`. The pixels are let go then."""

    pixels: Tensor | None
    key: int
    output: Tensor | None = None
    setting: int | None = None
    # How many had been put when it came to the model that it is at.
    came: int = 0


class Queue:
    """Views of one job on their way through a model, or through those of a budget by content.

    On a device that works by itself, `ahead` is how many batches are begun before the first is
    waited for.
    """

    def __init__(
        self, models: Sequence[Answering], by_content: ByContent | None = None, *, ahead: int = 0
    ) -> None:
        assert by_content is None or len(models) == len(by_content.settings), "a model for each"
        self._by_content = by_content
        self._ahead = ahead
        self._lanes = [_Lane(model) for model in models]
        self._count = 0

    def put(self, view: View) -> None:
        """Take in a view, whose answer comes with this call or a later one."""
        assert view.pixels is not None, "it was put before"
        self._count += 1
        lane = 0
        if self._by_content is not None:
            (lane,) = self._by_content.first(view.pixels[None])
        self._send(view, lane)
        for number, each in enumerate(self._lanes):
            patience = self._count - _PATIENCE * each.model.batch_size
            if each.waiting and each.waiting[0].came < patience:
                each.begin()
            late = bool(each.begun) and each.begun[0][0][0].came < patience
            self._settle(number, 0 if late else self._ahead)

    def finish(self) -> None:
        """Answer all that were put."""
        for number, lane in enumerate(self._lanes):
            # Those that go on do so to a later lane.
            lane.begin()
            self._settle(number, 0)

    def _send(self, view: View, lane: int) -> None:
        view.came = self._count
        self._lanes[lane].add(view)

    def _settle(self, number: int, ahead: int) -> None:
        for views, outputs in self._lanes[number].answers(ahead):
            onward = self._onward(number, outputs[: len(views)])
            for view, output, lane in zip(views, outputs, onward, strict=False):
                if lane is None:
                    view.output, view.pixels = output, None
                    view.setting = None if self._by_content is None else number
                else:
                    self._send(view, lane)

    def _onward(self, number: int, outputs: Tensor) -> list[int | None]:
        if self._by_content is None:
            return [None] * len(outputs)
        return self._by_content.next(number, outputs)


@dataclass(eq=False)
class _Lane:
    """One model's views: those that wait for their batch to fill, and batches that are begun."""

    model: Answering
    waiting: list[View] = field(default_factory=list)
    begun: deque[tuple[list[View], Tensor]] = field(default_factory=deque)

    def add(self, view: View) -> None:
        self.waiting.append(view)
        if len(self.waiting) == self.model.batch_size:
            self.begin()

    def begin(self) -> None:
        """Begin a batch of those that wait, if any does."""
        if self.waiting:
            clips = [view.pixels for view in self.waiting if view.pixels is not None]
            outputs = self.model.start(clips, [view.key for view in self.waiting])
            self.begun.append((self.waiting, outputs))
            self.waiting = []

    def answers(self, ahead: int) -> list[tuple[list[View], Tensor]]:
        """What is answered, on the CPU, but for the last `ahead` batches."""
        ready = []
        while len(self.begun) > ahead:
            views, outputs = self.begun.popleft()
            ready.append((views, outputs.cpu()))
        return ready
