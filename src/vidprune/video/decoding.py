"""The process that decodes for `guarded`: a request a line, views as bytes.

What is read here may be made to harm its reader, so nothing that this process says is taken for
more than numbers and text: requests and answers are JSON, pixels are bytes.
"""

import json
import os
import resource
import signal
import sys
import warnings
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import BinaryIO

import torch

from vidprune.video.by_torchcodec import Decoder, ReadByPyAV
from vidprune.video.clips import read_views
from vidprune.video.opening import UnreadableVideo
from vidprune.video.views import Protocol

__all__ = ["answer", "request"]

READY = b"ready\n"


def request(path: str | os.PathLike[str], protocol: Protocol, decoder: Decoder) -> bytes:
    """What the process is asked, as one line."""
    return _line({"path": os.fspath(path), "protocol": asdict(protocol), "decoder": decoder})


def answer(asked: bytes, output: BinaryIO, *, gib: float | None) -> None:
    """Decode what a line asks for; write a line that says what follows, and the pixels."""
    told = json.loads(asked)
    protocol, decoder = Protocol(**told["protocol"]), told["decoder"]
    with warnings.catch_warnings(record=True, action="always", category=ReadByPyAV) as warned:
        try:
            pixels = read_views(told["path"], protocol, decoder=decoder).pixels.numpy()
        except UnreadableVideo as error:
            found: dict[str, object] = {"error": error.reason}
        except (MemoryError, RuntimeError, ValueError) as error:
            found = {"error": _said(error, gib)}
        else:
            found = {"shape": pixels.shape}
    said = [str(each.message) for each in warned if issubclass(each.category, ReadByPyAV)]
    output.write(_line(found | {"warnings": said}))
    if "shape" in found:
        output.write(pixels.data.cast("B"))
    output.flush()


def _line(told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"


def _said(error: Exception, gib: float | None) -> str:
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"decoding it takes more than {gib} GiB of memory"
    return f"decoding it failed ({error})"


def _limit_memory(gib: float) -> None:
    """Let this process take so much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _main(limit: str, most_seconds: str) -> None:
    gib = float(limit) if limit else None
    # Whoever asks keeps time; this is for where it is gone.
    alarm = ceil(float(most_seconds)) + 10 if most_seconds else 0
    # Processes are as many as there are cores to use.
    torch.set_num_threads(1)
    # It ends with whoever asks, and not by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever prints, prints elsewhere.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if gib is not None and sys.platform == "linux":
        _limit_memory(gib)
    try:
        output.write(READY)
        output.flush()
        for asked in sys.stdin.buffer:
            signal.alarm(alarm)
            answer(asked, output, gib=gib)
            signal.alarm(0)
    except BrokenPipeError:
        # Whoever asked is gone, and with it those who would read of that; at once, or the rest of
        # what was to be said is tried again.
        os._exit(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
