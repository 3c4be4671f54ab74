"""Where a forward's time goes, by kind of operation."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from vidprune.backbones.base import Backbone, Signal
from vidprune.backbones.onednn import LINEAR_OPERATIONS
from vidprune.backbones.registry import adapt
from vidprune.layout import Layout
from vidprune.model import run
from vidprune.pruned import Pruned
from vidprune.reducers.base import Need, Reducer, Reduction, Signals
from vidprune.reducers.schedule import Stage

KINDS = ("embedding", "linear", "attention", "selection", "gathers", "rest", "head")

_SOFTMAX = {torch.softmax, Tensor.softmax, functional.softmax}
_ATTENTION = {
    functional.scaled_dot_product_attention,
    torch.ops.vidprune.attend_in_parts.default,
    torch.matmul,
    Tensor.matmul,
    *_SOFTMAX,
}


def account(
    model: PreTrainedModel, pixels: Tensor, *, clip_keys: Tensor | None = None
) -> dict[str, float]:
    """Seconds of one eager forward of a pruned model (`prune(model, None)` for a dense one).

    `embedding` is what comes before the first block, `head` what comes after the last; `linear`
    and `attention` are the blocks' linear layers and fused attention; `selection` is all that the
    reducer asks for and does; `gathers` takes and folds the survivors; `rest` is norms,
    activations, residuals and what Python itself takes. Timing every operation costs a little: take
    shares from it. Only on a CPU and on CUDA is the time of an operation known; elsewhere it is
    merely sent off. On CUDA only operations of blocks are timed one by one; embedding, selection
    and head are timed from beginning to end.
    """
    assert isinstance(model, Pruned), "prune(model, None) makes a dense one"
    with torch.inference_mode(), _Watch(pixels.device) as watch:
        backbone: Any = _WatchedBackbone(adapt(model), watch)
        reducer: Any = None if model.reducer is None else _WatchedReducer(model.reducer, watch)
        started = watch.mark()
        run(backbone, reducer, model.stages, pixels, clip_keys)
        ended = watch.mark()
        return watch.seconds(started, ended)


class _Watch(TorchFunctionMode):
    """Times every operation and books it under what is going on: `doing`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.doing = "gathers"
        self._device, self._on_gpu = device, device.type == "cuda"
        self._booked: list[tuple[str, Any, Any]] = []

    def mark(self) -> Any:
        """A point in time: of the device's own queue where it has one."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    @contextmanager
    def book(self, doing: str) -> Iterator[None]:
        """Book what follows under `doing`."""
        before, self.doing = self.doing, doing
        started = self.mark() if self._as_a_whole else None
        try:
            yield
        finally:
            if self._as_a_whole:
                self._booked.append((doing, started, self.mark()))
            self.doing = before

    @property
    def _as_a_whole(self) -> bool:
        """Whether what is going on is timed from its beginning to its end: each event takes a GPU's
        queue microseconds, and outside of blocks operations are small."""
        return self._on_gpu and self.doing not in ("block", "gathers")

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self._as_a_whole:
            return function(*args, **(kwargs or {}))
        started = self.mark()
        found = function(*args, **(kwargs or {}))
        self._booked.append((self._kind(function), started, self.mark()))
        return found

    def _kind(self, function: Any) -> str:
        if self.doing != "block":
            return self.doing
        if function in LINEAR_OPERATIONS:
            return "linear"
        return "attention" if function in _ATTENTION else "rest"

    def seconds(self, started: Any, ended: Any) -> dict[str, float]:
        """What was booked, by kind; the rest is what is missing from the whole."""
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
        spent: defaultdict[str, float] = defaultdict(float)
        for kind, start, end in self._booked:
            spent[kind] += self._between(start, end)
        spent["rest"] += self._between(started, ended) - sum(spent.values())
        return {kind: spent[kind] for kind in KINDS}

    def _between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3 if self._on_gpu else end - start


class _WatchedBackbone:
    """A backbone that says which of its parts is at work."""

    def __init__(self, backbone: Backbone, watch: _Watch) -> None:
        self._backbone, self._watch = backbone, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def embed(self, pixel_values: Tensor) -> Tensor:
        with self._watch.book("embedding"):
            return self._backbone.embed(pixel_values)

    def attend(
        self, block: int, tokens: Tensor, layout: Layout, key_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        with self._watch.book("block"):
            return self._backbone.attend(block, tokens, layout, key_bias)

    def feed_forward(self, block: int, tokens: Tensor) -> Tensor:
        with self._watch.book("block"):
            return self._backbone.feed_forward(block, tokens)

    def downsample(self, level: int, tokens: Tensor) -> Tensor:
        with self._watch.book("block"):
            return self._backbone.downsample(level, tokens)

    def features(self, tokens: Tensor) -> Tensor:
        with self._watch.book("head"):
            return self._backbone.features(tokens)

    def pool(self, features: Tensor, weights: Tensor | None = None) -> Tensor:
        with self._watch.book("head"):
            return self._backbone.pool(features, weights)

    def classify(self, pooled: Tensor) -> Tensor:
        with self._watch.book("head"):
            return self._backbone.classify(pooled)

    def patches(self, pixel_values: Tensor) -> Tensor:
        with self._watch.book("selection"):
            return self._backbone.patches(pixel_values)

    def head_mean(self, block: int, normalised: Tensor, signal: Signal) -> Tensor:
        with self._watch.book("selection"):
            return self._backbone.head_mean(block, normalised, signal)

    def attention_map(
        self, block: int, normalised: Tensor, layout: Layout, key_bias: Tensor | None
    ) -> Tensor:
        with self._watch.book("selection"):
            return self._backbone.attention_map(block, normalised, layout, key_bias)


class _WatchedReducer:
    """A reducer that says when it is at work."""

    def __init__(self, reducer: Reducer, watch: _Watch) -> None:
        self._reducer, self._watch = reducer, watch

    @property
    def needs(self) -> frozenset[Need]:
        return self._reducer.needs

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        with self._watch.book("selection"):
            return self._reducer(tokens, signals, layout, stage)
