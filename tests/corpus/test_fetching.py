"""Fetching a video ends, whatever the store does, and says why in its row."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import pytest

from vidprune.corpus import fetching
from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import Item
from vidprune.corpus.reading import decode
from vidprune.video import Protocol
from vidprune.video.guarded import GuardedReader, Limits

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
