"""Decoding that takes too long, wants too much or dies costs one video and nothing else."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vidprune.video import Protocol, UnreadableVideo, guarded, read_views
from vidprune.video.decoding import request
from vidprune.video.encode import write_video
from vidprune.video.guarded import GuardedReader, Limits

# Says much, and never ends a line.
LOUD = "import sys; input(); sys.stdout.write('x' * 2**22); input()"
PROTOCOL = Protocol(sampling="segment", segments=2, crops=3, frames=4, size=32)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("videos") / "a clip: with, odd\nname.mp4"
    write_video(path, frames)
    return path


@pytest.fixture(scope="module")
def reader() -> Iterator[GuardedReader]:
    with GuardedReader(PROTOCOL, Limits(seconds=60, gib=2)) as made:
        yield made


def pid_of(reader: GuardedReader) -> int:
    assert reader._process is not None
    return reader._process.pid


def test_views_are_those_that_are_read_in_this_process(reader: GuardedReader, video: Path) -> None:
    for _ in range(2):
        assert torch.equal(reader.read(video), read_views(video, PROTOCOL).pixels)


def test_what_cannot_be_read_has_the_reason_that_it_has_here(
    reader: GuardedReader, video: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:700])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "not\udcffutf.mp4").write_text("no video")
    before = pid_of(reader)
    for name in ("cut.mp4", "empty.mp4", "not\udcffutf.mp4", "gone.mp4"):
        with pytest.raises(UnreadableVideo) as here:
            read_views(tmp_path / name, PROTOCOL)
        with pytest.raises(UnreadableVideo) as there:
            reader.read(tmp_path / name)
        assert there.value.reason == here.value.reason
        assert there.value.path == tmp_path / name
    assert pid_of(reader) == before, "the process goes on"


def test_what_takes_too_long_is_given_up(video: Path) -> None:
    with GuardedReader(PROTOCOL, Limits(seconds=1.5)) as reader:
        reader.read(video)
        stopped = pid_of(reader)
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(UnreadableVideo, match=r"takes longer than 1\.5 seconds"):
            reader.read(video)
        with pytest.raises(ProcessLookupError):
            os.kill(stopped, 0)
        assert torch.equal(reader.read(video), read_views(video, PROTOCOL).pixels)


@pytest.mark.parametrize("way", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_process_that_dies_costs_one_video(
    reader: GuardedReader, video: Path, way: signal.Signals
) -> None:
    reader.read(video)
    dying = pid_of(reader)
    os.kill(dying, signal.SIGSTOP)
    threading.Timer(0.3, lambda: (os.kill(dying, way), os.kill(dying, signal.SIGCONT))).start()
    with pytest.raises(UnreadableVideo, match=f"was ended by {way.name}"):
        reader.read(video)
    assert torch.equal(reader.read(video), read_views(video, PROTOCOL).pixels)


def test_one_that_died_between_videos_costs_none(reader: GuardedReader, video: Path) -> None:
    reader.read(video)
    assert reader._process is not None
    reader._process.kill()
    reader._process.wait()
    assert torch.equal(reader.read(video), read_views(video, PROTOCOL).pixels)


def test_a_closed_reader_stays_closed(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is closed while its process starts."""
    reader = GuardedReader(PROTOCOL)
    reader.close()
    with pytest.raises(RuntimeError, match="this reader is closed"):
        reader.read(video)
    late = GuardedReader(PROTOCOL)
    begun: list[subprocess.Popen[bytes]] = []
    start = guarded._started

    def closing(limits: Limits) -> subprocess.Popen[bytes]:
        begun.append(start(limits))
        late.close()
        return begun[0]

    monkeypatch.setattr(guarded, "_started", closing)
    with pytest.raises(RuntimeError, match="this reader is closed"):
        late.read(video)
    assert begun[0].poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_what_wants_too_much_memory_is_given_up(tmp_path: Path, video: Path) -> None:
    big = tmp_path / "big.mp4"
    write_video(big, np.zeros((40, 1080, 1920, 3), np.uint8))
    wide = Protocol(sampling="segment", segments=10, crops=3, frames=16, size=1024)
    reason = r"more than 0\.5 GiB|allocate memory"
    with (
        GuardedReader(wide, Limits(gib=0.5)) as reader,
        pytest.raises(UnreadableVideo, match=reason),
    ):
        reader.read(big)
    with GuardedReader(PROTOCOL, Limits(gib=2)) as reader:
        assert reader.read(video).shape == (6, 4, 3, 32, 32)


@pytest.mark.parametrize(
    "says",
    [
        '{"shape": [1, 2]}\n',
        '{"shape": [9999999, 9999999, 3, 99999, 99999]}\n',
        "x" * 100,
        "5\n",
        "x\n",
        "{}\n",
        "[" * 90 + "\n",
    ],
)
def test_a_process_that_was_taken_over_is_not_believed(
    video: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    def taken_over(limits: Limits) -> subprocess.Popen[bytes]:
        script = f"import sys; input(); sys.stdout.write({says!r}); sys.stdout.flush(); input()"
        command = [sys.executable, "-c", script if len(says) < 99 else LOUD]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(guarded, "_started", taken_over)
    reader = GuardedReader(PROTOCOL, Limits(seconds=20))
    with reader, pytest.raises(UnreadableVideo, match="what was not asked for"):
        reader.read(video)


@pytest.mark.parametrize("given", [{"seconds": 0}, {"gib": -1}, {"seconds": float("inf")}])
def test_limits_are_above_nothing(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0 and at most 1000000, or None"):
        Limits(**given)


def test_a_process_whose_asker_is_gone_ends_without_a_word(video: Path) -> None:
    command = [sys.executable, "-m", "vidprune.video.decoding", "", ""]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    process.stdin.write(request(video, PROTOCOL, "pyav"))
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_what_the_process_prints_is_no_answer(tmp_path: Path) -> None:
    """Libraries that print do so on standard error."""
    script = (
        "import vidprune.video.decoding as d, os, sys, io;"
        "sys.stdin = io.TextIOWrapper(io.BytesIO(b''));"
        "d._main('', ''); os.write(1, b'noise')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"ready\n"
    assert done.stderr.endswith(b"noise")
