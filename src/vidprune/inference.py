"""Video files -> logits of their views: decoding beside the model, batches of one fixed shape."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head, known_class
from vidprune.environment import usable_cores
from vidprune.model import per_clip
from vidprune.pruned import PrunedOutput
from vidprune.video import Normalisation, Protocol, UnreadableVideo, normalise, read_views


@dataclass(frozen=True)
class Request:
    """Views of one video: its `name` in the job, where it lies, which views are wanted.

    `views` are positions in `protocol.views`.
    """

    name: str
    path: Path
    views: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ViewLogits:
    """What the model says of one view: `logits` (classes,) float32 on the CPU."""

    name: str
    view: int
    logits: Tensor


@dataclass(frozen=True)
class Unreadable:
    """A video that could not be read, and why."""

    name: str
    reason: str


class Classifier:
    """A pruned model (`prune(model, None)` for a dense one) with its protocol and its device.

    Every batch has the same shape: a short one is filled up with copies of its last clip, so that
    a clip's logits do not depend on how a job was cut into batches.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        protocol: Protocol,
        *,
        batch_size: int = 8,
        device: torch.device | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if known_class(model) is not None and not has_head(model):
            raise ValueError(
                f"model is a {type(model).__name__}, an encoder without a head, which has no "
                "classes to choose from; load a classifier's checkpoint"
            )
        self.device = device or best_device()
        self.model = model.to(self.device)
        self.protocol = protocol
        self.batch_size = batch_size
        self.normalisation = normalisation_of(model)

    def __call__(self, clips: Tensor, clip_keys: Tensor) -> Tensor:
        """Logits (B, classes) float32 on the CPU of clips (B, T, 3, S, S) uint8.

        `clip_keys` (B,) int64 seeds the random draws of reducers that make any. B is at most the
        batch size.
        """
        logits = self._forward(clips, clip_keys).logits.float().cpu()
        return per_clip(logits, self.batch_size)[: len(clips)]

    def _forward(self, clips: Tensor, clip_keys: Tensor) -> PrunedOutput:
        missing = self.batch_size - len(clips)
        padded = torch.cat([clips, clips[-1:].expand(missing, *clips.shape[1:])])
        keys = torch.cat([clip_keys, clip_keys[-1:].expand(missing)])
        pixels = normalise(padded.to(self.device), self.normalisation, dtype=self.model.dtype)
        with torch.inference_mode():
            return self.model(pixels, clip_keys=keys.to(self.device))

    def classify(
        self, requests: Sequence[Request], *, workers: int | None = None
    ) -> Iterator[ViewLogits | Unreadable]:
        """Logits of every view asked for, video by video in the order of `requests`.

        Videos are decoded in `workers` processes (0: in this one; None: as many as there are
        cores), and batches are filled across videos. A video that cannot be read yields an
        Unreadable instead, and the rest goes on.
        """
        for (outcome,) in classify_with_each([self], requests, workers=workers):
            yield outcome

    def _outcomes(
        self, waiting: Sequence["_Waiting | Unreadable"]
    ) -> Iterator[ViewLogits | Unreadable]:
        """One batch of views, and between them, in their place, the videos without any."""
        views = [item for item in waiting if isinstance(item, _Waiting)]
        logits = iter(self._run(views) if views else ())
        for item in waiting:
            if isinstance(item, Unreadable):
                yield item
            else:
                yield ViewLogits(item.name, item.view, next(logits))

    def _run(self, views: Sequence["_Waiting"]) -> Tensor:
        clips = torch.stack([view.pixels for view in views])
        return self(clips, torch.tensor([clip_key(view.name, view.view) for view in views]))


def classify_with_each(
    classifiers: Sequence[Classifier], requests: Sequence[Request], *, workers: int | None = None
) -> Iterator[tuple[ViewLogits | Unreadable, ...]]:
    """What each classifier says of every view asked for, side by side; see `Classifier.classify`.

    Videos are decoded once for all of them, and all are given the same batches. Raises ValueError
    where they do not share one protocol and one batch size.
    """
    check_alike(classifiers)
    for batch in _batches(requests, classifiers[0], workers):
        yield from zip(*(classifier._outcomes(batch) for classifier in classifiers), strict=True)


def check_alike(classifiers: Sequence[Classifier]) -> None:
    """Raise ValueError where classifiers do not share one protocol and one batch size."""
    for other in classifiers[1:]:
        first = classifiers[0]
        if (other.protocol, other.batch_size) != (first.protocol, first.batch_size):
            raise ValueError(
                f"classifiers of {first.protocol} in batches of {first.batch_size} and of "
                f"{other.protocol} in batches of {other.batch_size} cannot share one pass over "
                "the videos; give them one protocol and one batch size"
            )


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A view (T, 3, S, S) uint8 that waits for its batch to fill."""

    name: str
    view: int
    pixels: Tensor


def _batches(
    requests: Sequence[Request], classifier: Classifier, workers: int | None
) -> Iterator[list[_Waiting | Unreadable]]:
    """As many views as a batch takes, and between them, in their place, what cannot be read."""
    waiting: list[_Waiting | Unreadable] = []
    views = 0
    for request, pixels in read_requests(requests, classifier.protocol, workers):
        if isinstance(pixels, str):
            waiting.append(Unreadable(request.name, pixels))
            continue
        for view in request.views:
            waiting.append(_Waiting(request.name, view, pixels[view]))
            views += 1
            if views == classifier.batch_size:
                yield waiting
                waiting, views = [], 0
    yield waiting


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


def best_device() -> torch.device:
    """CUDA where there is any (under torchrun the one that `join` chose), else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def normalisation_of(model: PreTrainedModel) -> Normalisation:
    """The normalisation that the checkpoint records, ImageNet's where it records none."""
    mean, std = (getattr(model.config, name, None) for name in ("image_mean", "image_std"))
    return Normalisation(tuple(mean), tuple(std)) if mean and std else Normalisation()


class _Videos(Dataset[tuple[Request, Tensor | str]]):
    """Each video's views (V, T, 3, S, S) uint8, or the reason why there are none."""

    def __init__(self, requests: Sequence[Request], protocol: Protocol) -> None:
        self.requests, self.protocol = requests, protocol

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> tuple[Request, Tensor | str]:
        request = self.requests[index]
        try:
            return request, read_views(request.path, self.protocol).pixels
        except UnreadableVideo as error:
            return request, error.reason


def read_requests(
    requests: Sequence[Request], protocol: Protocol, workers: int | None
) -> Iterable[tuple[Request, Tensor | str]]:
    """Each video with all views of the protocol (V, T, 3, S, S) uint8, or why it has none.

    In the order of `requests`; `workers` as in `Classifier.classify`.
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers={workers} must be 0 (decode in this process) or more")
    workers = min(usable_cores() if workers is None else workers, len(requests))
    return DataLoader(_Videos(requests, protocol), batch_size=None, num_workers=workers)
