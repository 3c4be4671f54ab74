"""Fetching a video ends, whatever the store does, and says why in its row."""

import errno
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from vidprune.corpus import fetching
from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import Item
from vidprune.corpus.reading import decode, decoded
from vidprune.video import Protocol
from vidprune.video.encode import write_video
from vidprune.video.guarded import GuardedReader, Limits, NotStarted

PROTOCOL = Protocol(sampling="segment", segments=1, crops=1, frames=2, size=16)
FAR = Item("far.mp4", "memory://bucket/far.mp4")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was opened, in a store that says nothing more once it is asked to read."""
    told: list[str] = []
    end = Event()

    class Silent(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            end.wait()
            return b""

    def open_silent(address: str) -> Any:
        told.append(address)
        return Silent()

    monkeypatch.setattr(fetching, "opened", open_silent)
    monkeypatch.setattr(fetching, "_PATIENCE", (0.0, 0.0))
    yield told
    end.set()


@pytest.mark.parametrize("item", [FAR, Item("x.tar/a.mp4", "x.tar", 0, 3)])
def test_a_store_that_hangs_is_given_up(
    opened: list[str], item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = GuardedReader(PROTOCOL)
    found = decode(item, reader, Limits(seconds=0.01))
    assert found.pixels is None
    assert found.error == "it cannot be fetched (that takes longer than 0.01 seconds)"
    assert len(opened) <= 1, "not tried again"
    assert not list(tmp_path.iterdir())


class Interrupted(Exception):
    """As Ctrl-C is."""


def test_closing_waits_for_no_fetch(opened: list[str]) -> None:
    main = threading.get_ident()

    def interrupt(*_: object) -> None:
        raise Interrupted

    def send() -> None:
        while len(opened) < 2:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    threading.Thread(target=send).start()
    started = time.monotonic()
    try:
        with pytest.raises(Interrupted):
            list(decoded([FAR] * 4, PROTOCOL, workers=2))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 5


KILLED = """
import os, signal
from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import Item
with local_file(Item("s.tar/a.mp4", "s.tar", 3, 4)) as path:
    assert path.read_bytes() == b"3456"
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files have names")
def test_a_killed_process_leaves_nothing_that_it_fetched(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_text("0123456789")
    (tmp_path / "kept").mkdir()
    around = os.environ | {"TMPDIR": str(tmp_path / "kept")}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=around, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list((tmp_path / "kept").iterdir())


def test_what_is_fetched_is_decoded(tmp_path: Path) -> None:
    """By another process, which is told where it lies."""
    frames = np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames)
    fsspec.filesystem("memory").put(str(tmp_path / "a.mp4"), "/bucket/far.mp4")
    with GuardedReader(PROTOCOL) as reader:
        far, near = decode(FAR, reader), decode(Item("a.mp4", str(tmp_path / "a.mp4")), reader)
    assert far.error is None
    assert far.pixels is not None
    assert near.pixels is not None
    assert torch.equal(far.pixels, near.pixels)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_machine_without_a_process_for_decoding_is_no_error_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(subprocess, "Popen", failing)
    item = Item("a.mp4", str(tmp_path / "a.mp4"))
    for workers in (0, 2):
        with pytest.raises(NotStarted, match=f"can be started .{os.strerror(number)}.; let this"):
            next(decoded([item], PROTOCOL, workers=workers))


def test_a_file_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            read.append(2**20)
            return bytes(2**20)

    monkeypatch.setattr(fetching, "opened", lambda address: Endless())
    reader = GuardedReader(PROTOCOL)
    found = decode(FAR, reader, Limits(gib=0.01))
    assert found.error == "it cannot be fetched (it is of more than 0.01 GiB)"
    assert sum(read) < 0.02 * 2**30, "once, and no further than the limit"


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_what_is_within_the_limits_comes_whole(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    fsspec.filesystem("memory").pipe_file("/bucket/far.mp4", content)
    with local_file(FAR, Limits(seconds=60, gib=2**20 / 2**30 + 1e-9)) as path:
        assert path.read_bytes() == content
