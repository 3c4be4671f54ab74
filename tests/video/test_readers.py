"""Who reads videos for others, by which decoder."""

import io
import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from torchcodec_videos import H264, SMALL, drifting
from vidprune.video import (
    ReadByPyAV,
    UnreadableVideo,
    decoding,
    guarded,
    read_views,
    readers,
)
from vidprune.video.guarded import GuardedReader


def test_a_process_of_its_own_reads_alike(torchcodec, videos, tmp_path):
    path = videos.write(tmp_path / "a.mp4", drifting(), **H264)
    with GuardedReader(SMALL, decoder="torchcodec") as reader:
        assert torch.equal(reader.read(path), read_views(path, SMALL).pixels)


def test_what_a_process_was_warned_of_is_handed_on(torchcodec, videos, tmp_path):
    for name in ("a.avi", "b.avi"):
        videos.write(tmp_path / name, drifting(12), codec="mpeg4", pixel_format="yuv420p")
    with GuardedReader(SMALL, decoder="torchcodec") as reader:
        for name in ("a.avi", "b.avi"):
            with pytest.warns(ReadByPyAV, match="not for torchcodec: its container is avi"):
                reader.read(tmp_path / name)


def test_a_process_hands_on_nothing_else_it_was_warned_of(monkeypatch, videos, tmp_path):
    def read(path, protocol, *, decoder):
        warnings.warn("of a library's own", stacklevel=1)
        warnings.warn(ReadByPyAV("PyAV reads"), stacklevel=1)
        raise UnreadableVideo(path, "no")

    monkeypatch.setattr(decoding, "read_views", read)
    output = io.BytesIO()
    with warnings.catch_warnings(action="always"):
        decoding.answer(decoding.request("a.mp4", SMALL, "torchcodec"), output, gib=None)
    assert json.loads(output.getvalue()) == {"error": "no", "warnings": ["PyAV reads"]}


@pytest.mark.parametrize("said", [None, "text", [3, None], ["x" * 1000], [["a"]], {"a": 1}])
def test_a_process_may_say_anything_for_a_warning(said):
    with warnings.catch_warnings(action="error"):
        guarded._warn(said)


def test_a_process_is_told_which_decoder(monkeypatch, videos, tmp_path):
    asked = []
    monkeypatch.setattr(
        "vidprune.video.guarded.request", lambda *told: asked.append(told) or b"{}\n"
    )
    with GuardedReader(SMALL, decoder="torchcodec") as reader, pytest.raises(UnreadableVideo):
        reader.read(tmp_path / "a.mp4")
    assert asked == [(tmp_path / "a.mp4", SMALL, "torchcodec")]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_without_cuda_a_process_reads(device):
    made = readers.reader_for(SMALL, decoder="torchcodec", device=torch.device(device))
    assert isinstance(made, GuardedReader)
    assert made.decoder == "torchcodec"


def test_a_gpu_reads_on_a_stream_of_its_own_that_nobody_waits_for_but_itself(monkeypatch):
    """What happens in which order; `make test-gpu` tries it for real."""
    happened = []
    device = torch.device("cuda", 0)

    class Stream:
        def __init__(self, of, priority):
            assert (of, priority) == (device, -1)

        def __enter__(self):
            happened.append("begun")

        def __exit__(self, *_):
            happened.append("ended")

        def synchronize(self):
            happened.append("waited")

    pixels = object()

    def read(path, protocol, **how):
        assert (protocol, how) == (SMALL, {"decoder": "torchcodec", "device": device})
        happened.append(path)
        return SimpleNamespace(pixels=pixels)

    monkeypatch.setattr(readers, "read_views", read)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    made = readers.reader_for(SMALL, decoder="torchcodec", device=device)
    assert made.read(Path("a.mp4")) is pixels
    assert happened == ["begun", Path("a.mp4"), "waited", "ended"]
    made.close()
    assert made.closed.is_set()
    with pytest.raises(RuntimeError, match="this reader is closed"):
        made.read(Path("a.mp4"))


def test_pyav_reads_for_a_gpu_in_a_process():
    made = readers.reader_for(SMALL, device=torch.device("cuda"))
    assert isinstance(made, GuardedReader)
    assert made.decoder == "pyav"
