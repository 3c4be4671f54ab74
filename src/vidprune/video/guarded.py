"""Videos decoded where they can do no harm: a process of its own that may take too long, want too
much, or die, and is then given up with the video.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from threading import Event
from types import TracebackType

import torch

from vidprune.video.by_torchcodec import Decoder, ReadByPyAV
from vidprune.video.decoding import READY, request
from vidprune.video.opening import UnreadableVideo
from vidprune.video.views import Protocol

__all__ = ["MOST", "GuardedReader", "Limits", "NotStarted"]

_START_SECONDS = 300.0
MOST = 1_000_000.0
# What a process that decodes is told of its surroundings: no keys, no tokens.
_SURROUNDINGS = re.compile(
    r"PATH|LD_LIBRARY_PATH|DYLD_\w+|PYTHON\w+|VIRTUAL_ENV|TMPDIR|LANG|LC_\w+|OMP_\w+|GLIBC_TUNABLES"
)
_LONGEST_LINE = 2**20
_LONGEST_WARNING = 200
_NOT_ASKED = "the process that decoded it answered with what was not asked for"
# Seconds for a process that says nothing more to be gone.
_ENDING_SECONDS = 10.0
_AT_ONCE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one video may take: `seconds`, and `gib` of memory (on Linux) while it is decoded, of
    disk while it is fetched; None: any."""

    seconds: float | None = 300.0
    gib: float | None = 4.0

    def __post_init__(self) -> None:
        for name in ("seconds", "gib"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= MOST:
                raise ValueError(
                    f"{name}={value} must be above 0 and at most {MOST:.0f}, or None for as much "
                    "as it takes"
                )


class NotStarted(RuntimeError):
    """This machine has no process that decodes, which is no video's doing."""


class GuardedReader:
    """Reads the views of `protocol`, video after video, in one process that outlives them, by
    `decoder` on its CPU (see `read_views`).

    It takes two seconds to start, with the first video. Use it in a `with` block, or `close` it,
    from whatever thread; `closed` tells those who read for it.
    """

    def __init__(
        self, protocol: Protocol, limits: Limits | None = None, decoder: Decoder = "pyav"
    ) -> None:
        self.protocol, self.limits, self.decoder = protocol, limits or Limits(), decoder
        self.closed = Event()
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, path: str | os.PathLike[str]) -> torch.Tensor:
        """The views (V, T, 3, S, S) uint8 of a video file.

        Raises UnreadableVideo where it cannot be read, also within the limits, and where decoding
        it brings its process down; NotStarted where no process can be had.
        """
        process = self._running()
        try:
            return self._answer(process, path)
        except _GivenUp as error:
            self._drop()
            raise UnreadableVideo(path, str(error)) from None

    def close(self) -> None:
        """End the process, for good."""
        self.closed.set()
        self._drop()

    def _drop(self) -> None:
        """End the process; another starts with the next video."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None, "they were asked for"
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Where the interpreter ends first there is nothing left to do it with.
        with suppress(Exception):
            self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if not self.closed.is_set() and (process is None or process.poll() is not None):
            self._drop()
            process = self._process = _started(self.limits)
        # Looked at once it can be found, or one that closes meanwhile would leave it running.
        if process is None or self.closed.is_set():
            self._drop()
            raise RuntimeError("this reader is closed, and reads nothing more; make another")
        return process

    def _answer(
        self, process: subprocess.Popen[bytes], path: str | os.PathLike[str]
    ) -> torch.Tensor:
        assert process.stdin is not None, "it was asked for"
        stream = _Stream(process, self.limits.seconds)
        try:
            process.stdin.write(request(path, self.protocol, self.decoder))
            process.stdin.flush()
        except OSError:
            raise _GivenUp(_end_of(process)) from None
        try:
            told = json.loads(stream.line())
            error, claimed, said = (told.get(name) for name in ("error", "shape", "warnings"))
        except (ValueError, AttributeError, RecursionError):
            raise _GivenUp(_NOT_ASKED) from None
        _warn(said)
        if error is not None:
            raise UnreadableVideo(path, str(error))
        shape = self._shape(claimed)
        return torch.frombuffer(stream.exactly(prod(shape)), dtype=torch.uint8).view(shape)

    def _shape(self, told: object) -> tuple[int, ...]:
        """What the protocol asks for; a process that says anything else has been taken over."""
        protocol = self.protocol
        wanted = (len(protocol.views), protocol.frames, 3, protocol.size, protocol.size)
        if told != list(wanted):
            raise _GivenUp(_NOT_ASKED)
        return wanted


def _warn(said: object) -> None:
    """Hand on what a process was warned of, which may say anything."""
    for text in said if isinstance(said, list) else ():
        if isinstance(text, str) and len(text) <= _LONGEST_WARNING:
            warnings.warn(ReadByPyAV(text), stacklevel=2)


class _GivenUp(Exception):
    """Why a process is not asked again."""


class _Stream:
    """What a process says, as far as it says it in time."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float | None) -> None:
        assert process.stdout is not None, "it was asked for"
        self._process, self._seconds = process, seconds
        self._file = process.stdout.fileno()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._waiting = bytearray()

    def line(self) -> bytes:
        """Up to a line break."""
        while (end := self._waiting.find(b"\n")) < 0:
            if len(self._waiting) > _LONGEST_LINE:
                raise _GivenUp(_NOT_ASKED)
            self._waiting += self._more(_AT_ONCE)
        line = bytes(self._waiting[: end + 1])
        del self._waiting[: end + 1]
        return line

    def exactly(self, count: int) -> bytearray:
        """So many bytes."""
        found = bytearray(count)
        have = min(count, len(self._waiting))
        found[:have] = self._waiting[:have]
        del self._waiting[:have]
        with memoryview(found) as whole:
            while have < count:
                self._wait()
                # Straight to its place: a copy would keep all other threads waiting.
                read = os.readv(self._file, [whole[have : have + _AT_ONCE]])
                if not read:
                    raise _GivenUp(_end_of(self._process))
                have += read
        return found

    def _more(self, most: int) -> bytes:
        self._wait()
        if not (part := os.read(self._file, most)):
            raise _GivenUp(_end_of(self._process))
        return part

    def _wait(self) -> None:
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        ready, _, _ = select.select([self._file], [], [], left)
        if not ready:
            raise _GivenUp(f"decoding it takes longer than {self._seconds:g} seconds")


def _started(limits: Limits) -> subprocess.Popen[bytes]:
    """A process that is ready. Raises NotStarted where none can be had."""
    gib, seconds = ("" if each is None else str(each) for each in (limits.gib, limits.seconds))
    around = {name: value for name, value in os.environ.items() if _SURROUNDINGS.fullmatch(name)}
    try:
        process = subprocess.Popen(
            # Without the current folder among the places that modules are looked for.
            [sys.executable, "-P", "-m", "vidprune.video.decoding", gib, seconds],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=_AT_ONCE if sys.platform == "linux" else -1,
            env=around | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except OSError as error:
        raise NotStarted(
            f"no process that decodes can be started ({error.strerror or error}); let this machine "
            "have more processes, memory or open files, or ask for fewer decoders, and give the "
            "same command again"
        ) from error
    try:
        if _Stream(process, _START_SECONDS).line() == READY:
            return process
    except _GivenUp as error:
        process.kill()
        raise NotStarted(f"no process that decodes can be started: {error}") from None
    process.kill()
    raise NotStarted("no process that decodes can be started: it answers with something else")


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """How a process ended, which nobody asked it to."""
    try:
        code = process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        return "the process that decoded it said no more"
    if code >= 0:
        return f"the process that decoded it ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the process that decoded it was ended by {name}"
