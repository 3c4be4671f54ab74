"""What reads videos for others, one after the other: a process of its own, or a GPU's decoder."""

import os
from threading import Event
from typing import Protocol as Interface

import torch
from torch import Tensor

from vidprune.video.by_torchcodec import Decoder, lacks_memory
from vidprune.video.clips import read_views
from vidprune.video.guarded import GuardedReader, Limits
from vidprune.video.views import Protocol

__all__ = ["DeviceReader", "Reader", "on_gpu", "reader_for"]


class Reader(Interface):
    """Reads the views of one protocol until it is `closed`; each thread has its own."""

    closed: Event

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """The views (V, T, 3, S, S) uint8. Raises UnreadableVideo where there are none."""

    def close(self) -> None:
        """End it, for good, from whatever thread."""


class DeviceReader:
    """Reads views by torchcodec in this process, on a GPU, where they stay. Streams that use them
    have to be recorded (`Tensor.record_stream`).

    Nothing limits what a video may take: a GPU's decoder is of no use to a process of its own,
    from which pixels would have to come back.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.protocol, self.device = protocol, device
        self.closed = Event()
        # Beside the model: on its stream a frame would wait for the batches before it.
        # Of the streams that come first, none is one that a forward is recorded on.
        self._stream = torch.cuda.Stream(device, priority=-1)

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """See Reader."""
        if self.closed.is_set():
            raise RuntimeError("this reader is closed, and reads nothing more; make another")
        try:
            with torch.cuda.stream(self._stream):
                views = read_views(path, self.protocol, decoder="torchcodec", device=self.device)
                self._stream.synchronize()
        except RuntimeError as error:
            if not lacks_memory(error):
                raise
            raise RuntimeError(
                f"decoding {os.fspath(path)} takes more memory than {self.device} has left; give "
                "fewer --workers or a smaller --batch-size"
            ) from error
        return views.pixels

    def close(self) -> None:
        """See Reader."""
        self.closed.set()


def on_gpu(decoder: Decoder, device: torch.device | None) -> bool:
    """Whether a decoder leaves the views on a GPU, for a model on `device`."""
    return decoder == "torchcodec" and device is not None and device.type == "cuda"


def reader_for(
    protocol: Protocol,
    *,
    limits: Limits | None = None,
    decoder: Decoder = "pyav",
    device: torch.device | None = None,
) -> Reader:
    """What reads videos by `decoder` for a model on `device`; `limits` are for a process."""
    if device is not None and on_gpu(decoder, device):
        return DeviceReader(protocol, device)
    return GuardedReader(protocol, limits, decoder)
