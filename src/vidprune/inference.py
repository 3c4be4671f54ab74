"""Views of videos -> logits: batches of one fixed shape, filled across videos."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.quantized import check_device
from vidprune.backbones.registry import has_head, known_class
from vidprune.batching import Queue, View
from vidprune.compiling import as_one_graph, recorded
from vidprune.environment import usable_cores
from vidprune.model import per_clip
from vidprune.reading import Request, default_workers, read_requests
from vidprune.shortage import batch_in_memory
from vidprune.video import Decoder, Normalisation, Protocol, check_decoder, normalise, sent
from vidprune.video.readers import on_gpu


@dataclass(frozen=True, eq=False)
class ViewLogits:
    """What the model says of one view: `logits` (classes,) float32 on the CPU; with a budget by
    content, by which `setting`."""

    name: str
    view: int
    logits: Tensor
    setting: int | None = None


@dataclass(frozen=True)
class Unreadable:
    """A video that could not be read, and why."""

    name: str
    reason: str


class ViewModel:
    """A pruned model (`prune(model, None)` for a dense one) with its protocol and its device.

    Every batch has the same shape: a short one is filled up with copies of its last clip, so that
    a clip's logits do not depend on how a job was cut into batches. With `compiled` the model is
    compiled as one graph when it meets its first batch, which also is the shape of all others (in
    half precision on a CPU with a second copy of its weights, laid out for its products); with
    `replayed` (on CUDA) the launches of its first forward are recorded, and every other one replays
    them, which gains where batches are small and the host would keep the GPU waiting. `decoder`
    reads videos for it: "torchcodec" on its device if that is CUDA (see `read_views`).
    Of a model with a budget by content `settings` are the models that it chooses among, each with
    batches of its own; else there are none.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        protocol: Protocol,
        *,
        batch_size: int = 8,
        device: torch.device | None = None,
        compiled: bool = False,
        replayed: bool = False,
        decoder: Decoder = "pyav",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.device = _with_number(device or best_device())
        check_decoder(decoder, self.device)
        if replayed:
            check_replay(self.device)
        if isinstance(model, PreTrainedModel):
            # What else stands in for one is on its device already.
            check_device(model, self.device)
        self.model = model.to(self.device)
        self.protocol = protocol
        self.batch_size = batch_size
        self.normalisation = normalisation_of(model)
        self.compiled, self.replayed, self.decoder = compiled, replayed, decoder
        forward = _answer_by(self.model)
        if compiled:
            # In float32 a CPU's compiler lays nothing out that gains (docs/speed.md).
            gains = self.device.type == "cpu" and self.model.dtype != torch.float32
            forward = as_one_graph(forward, frozen=gains)
        self._forward = recorded(forward) if replayed else forward
        self.settings = tuple(
            ViewModel(
                each,
                protocol,
                batch_size=batch_size,
                device=self.device,
                compiled=compiled,
                replayed=replayed,
            )
            for each in getattr(model, "settings", ())
        )

    @property
    def read_by(self) -> str:
        """What is asked to read its videos, and where: a GPU's pixels are not a CPU's."""
        return f"{self.decoder} on cuda" if on_gpu(self.decoder, self.device) else self.decoder

    def queue(self, ahead: int | None = None) -> Queue:
        """For the views of a job; `ahead` as of `Queue`, None for what suits the device."""
        ahead = _batches_ahead([self]) if ahead is None else ahead
        if self.settings:
            return Queue(self.settings, self.model.reducer, ahead=ahead)
        return Queue([self], ahead=ahead)

    def __call__(self, clips: Tensor, clip_keys: Tensor) -> Tensor:
        """Logits (B, classes) or vectors (B, C), float32 on the CPU; clips (B, T, 3, S, S) uint8.

        `clip_keys` (B,) int64 seeds the random draws of reducers that make any. B is at most the
        batch size.
        """
        views = [View(*each) for each in zip(clips, clip_keys.tolist(), strict=True)]
        queue = self.queue()
        for view in views:
            queue.put(view)
        queue.finish()
        return torch.stack([view.output for view in views if view.output is not None])

    def start(self, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        """As calling it, with clips (T, 3, S, S) one by one; but what comes, of the whole batch
        with what fills it up, is on its device, which may still be at work on it.

        Raises OutOfMemory where a batch does not fit.
        """
        assert not self.settings, "a clip is given to one of the settings"
        missing = self.batch_size - len(clips)
        with batch_in_memory(self.batch_size, self.device):
            batch = _batch([*clips, *[clips[-1]] * missing], self.device)
            keys = sent(torch.tensor([*clip_keys, *[clip_keys[-1]] * missing]), self.device)
            pixels = normalise(batch, self.normalisation, dtype=self.model.dtype)
            with torch.inference_mode():
                return per_clip(self._forward(pixels, keys), self.batch_size)


class Classifier(ViewModel):
    """A `ViewModel` with a head. Raises ValueError for an encoder without one."""

    def __init__(self, model: PreTrainedModel, protocol: Protocol, **options: Any) -> None:
        if answer_of(model) != "logits":
            raise ValueError(
                f"model is a {type(model).__name__}, an encoder without a head, which has no "
                "classes to choose from; load a classifier's checkpoint"
            )
        super().__init__(model, protocol, **options)

    def classify(
        self, requests: Sequence[Request], *, workers: int | None = None
    ) -> Iterator[ViewLogits | Unreadable]:
        """Logits of every view asked for, video by video in the order of `requests`.

        Videos are decoded in `workers` processes, or threads where a GPU decodes (0: none of
        their own; None: see `default_workers`), and
        batches are filled across videos. A video that cannot be read yields an Unreadable instead,
        and the rest goes on.
        """
        for (outcome,) in classify_with_each([self], requests, workers=workers):
            yield outcome


def check_replay(device: torch.device) -> None:
    """Raise ValueError for a device that has no launches to record."""
    if device.type != "cuda":
        raise ValueError(
            f"launches are recorded and replayed on CUDA, and the model is on {device}; leave out "
            "replay (--replay, replayed=True)"
        )


def answer_of(model: PreTrainedModel) -> str:
    """What of a model's output is taken: logits of what has a head, else one vector per clip."""
    if hasattr(model, "answer"):
        return str(model.answer)
    return "logits" if known_class(model) is None or has_head(model) else "pooler_output"


def _answer_by(model: PreTrainedModel) -> Callable[[Tensor, Tensor], Tensor]:
    name = answer_of(model)

    def answer(pixels: Tensor, clip_keys: Tensor) -> Tensor:
        found: Tensor = getattr(model(pixels, clip_keys=clip_keys), name)
        return found

    return answer


def classify_with_each(
    classifiers: Sequence[Classifier], requests: Sequence[Request], *, workers: int | None = None
) -> Iterator[tuple[ViewLogits | Unreadable, ...]]:
    """What each classifier says of every view asked for, side by side; see `Classifier.classify`.

    Videos are decoded once for all of them, and all are given the same batches. Raises ValueError
    where they do not share one protocol, batch size and decoder.
    """
    check_alike(classifiers)
    ahead = _batches_ahead(classifiers)
    queues = [classifier.queue(ahead) for classifier in classifiers]
    asked: deque[_Asked | Unreadable] = deque()
    for item in _items(requests, classifiers, workers):
        asked.append(item)
        if isinstance(item, _Asked):
            for queue, view in zip(queues, item.views, strict=True):
                queue.put(view)
        yield from _answered(asked, len(queues))
    for queue in queues:
        queue.finish()
    yield from _answered(asked, len(queues))


def _batches_ahead(classifiers: Sequence[ViewModel]) -> int:
    """How many batches are begun before the first is waited for: while a GPU is at work on one, the
    next is put together."""
    return int(any(classifier.device.type != "cpu" for classifier in classifiers))


def check_alike(classifiers: Sequence[Classifier]) -> None:
    """Raise ValueError where classifiers do not share one protocol, batch size and decoder."""
    for other in classifiers[1:]:
        first = classifiers[0]
        for name in ("protocol", "batch_size", "read_by"):
            own, others = getattr(first, name), getattr(other, name)
            if own != others:
                raise ValueError(
                    f"classifiers of {name}={own} and of {name}={others} cannot share one pass "
                    f"over the videos; give them one {name}"
                )


@dataclass(frozen=True, eq=False)
class _Asked:
    """A view that waits for every classifier's answer."""

    name: str
    view: int
    views: tuple[View, ...]

    @property
    def is_answered(self) -> bool:
        return all(view.output is not None for view in self.views)

    def outcomes(self) -> tuple[ViewLogits, ...]:
        """What each classifier says of it."""
        return tuple(
            ViewLogits(self.name, self.view, view.output, view.setting)
            for view in self.views
            if view.output is not None
        )


def _answered(
    asked: deque["_Asked | Unreadable"], classifiers: int
) -> Iterator[tuple[ViewLogits | Unreadable, ...]]:
    """What stands at the head of the queue and waits for nothing."""
    while asked and (isinstance(asked[0], Unreadable) or asked[0].is_answered):
        item = asked.popleft()
        yield (item,) * classifiers if isinstance(item, Unreadable) else item.outcomes()


def _batch(clips: Sequence[Tensor], device: torch.device) -> Tensor:
    """Clips (T, 3, S, S) as one batch on a device, put together where `sent` sends from, unless
    a GPU decoded them."""
    if clips[0].is_cuda:
        for clip in clips:
            # Freed while this stream may still read it, its memory must not go to the next video.
            clip.record_stream(torch.cuda.current_stream(clip.device))
        return torch.stack(list(clips)).to(device)
    shape, on_gpu = (len(clips), *clips[0].shape), device.type == "cuda"
    batch = torch.empty(shape, dtype=clips[0].dtype, pin_memory=on_gpu)
    return sent(torch.stack(list(clips), out=batch), device)


def _items(
    requests: Sequence[Request], classifiers: Sequence[Classifier], workers: int | None
) -> Iterator[_Asked | Unreadable]:
    """Every view that is asked for, and between them, in their place, what cannot be read."""
    first = classifiers[0]
    if workers is None:
        workers = default_workers(first.device, usable_cores(), first.decoder)
    for request, pixels in read_requests(
        requests, first.protocol, workers, decoder=first.decoder, device=first.device
    ):
        if isinstance(pixels, str):
            yield Unreadable(request.name, pixels)
            continue
        for number in request.views:
            key = clip_key(request.name, number)
            views = tuple(View(pixels[number], key) for _ in classifiers)
            yield _Asked(request.name, number, views)


def clip_key(name: str, view: int) -> int:
    """A number that stands for one view of a video, in every run that calls it by this `name`:
    lists by their entries, commands that take paths by the path as it was given."""
    digest = hashlib.sha256(f"{view} {name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def named_device(name: str) -> torch.device:
    """The device of that name. Raises ValueError where this machine or torch has none."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={name!r} cannot be used here; choose cpu, cuda, cuda:N or mps as the machine "
            "has it, or leave it out for the best there is"
        ) from error
    return device


def _with_number(device: torch.device) -> torch.device:
    """The same GPU in whatever thread: the current one of this thread, where none is named."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def best_device() -> torch.device:
    """CUDA where there is any (under torchrun the one that `join` chose), else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def normalisation_of(model: PreTrainedModel) -> Normalisation:
    """The normalisation that the checkpoint records, ImageNet's where it records none."""
    mean, std = (getattr(model.config, name, None) for name in ("image_mean", "image_std"))
    return Normalisation(tuple(mean), tuple(std)) if mean and std else Normalisation()
