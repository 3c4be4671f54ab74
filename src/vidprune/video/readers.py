"""What reads videos for others, one after the other: a process of its own, or a GPU's decoder."""

import os
from threading import Event
from typing import Protocol as Interface

import torch
from torch import Tensor

from vidprune.video.by_torchcodec import Decoder
from vidprune.video.clips import read_views
from vidprune.video.guarded import GuardedReader, Limits
from vidprune.video.views import Protocol

__all__ = ["DeviceReader", "Reader", "decodes_on", "reader"]

_CPU = torch.device("cpu")


class Reader(Interface):
    """Reads the views of one protocol until it is `closed`; each thread has its own."""

    closed: Event

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """The views (V, T, 3, S, S) uint8. Raises UnreadableVideo where there are none."""

    def close(self) -> None:
        """End it, for good, from whatever thread."""


class DeviceReader:
    """Reads views by torchcodec in this process, on CUDA, where they stay.

    Nothing limits what a video may take: a GPU's decoder is of no use to a process of its own,
    from which pixels would have to come back.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.protocol, self.device = protocol, device
        self.closed = Event()
        # Beside the model: on its stream a frame would wait for the batches before it.
        self._stream = torch.cuda.Stream(device)

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """See Reader."""
        if self.closed.is_set():
            raise RuntimeError("this reader is closed, and reads nothing more; make another")
        with torch.cuda.stream(self._stream):
            views = read_views(path, self.protocol, decoder="torchcodec", device=self.device)
            self._stream.synchronize()
        # Freed while the model may still read them, their memory must not go to the next video.
        views.pixels.record_stream(torch.cuda.default_stream(self.device))
        return views.pixels

    def close(self) -> None:
        """See Reader."""
        self.closed.set()


def decodes_on(decoder: Decoder, device: torch.device) -> torch.device:
    """Where a decoder leaves the views for a model on `device`."""
    return device if decoder == "torchcodec" and device.type == "cuda" else _CPU


def reader(
    protocol: Protocol,
    *,
    limits: Limits | None = None,
    decoder: Decoder = "pyav",
    device: torch.device = _CPU,
) -> Reader:
    """What reads videos by `decoder` for a model on `device`; `limits` are for a process."""
    if decodes_on(decoder, device).type == "cuda":
        return DeviceReader(protocol, device)
    return GuardedReader(protocol, limits, decoder)
