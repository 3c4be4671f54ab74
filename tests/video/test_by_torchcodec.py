"""What a decoder might do, and whether it can be had."""

import json
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import pytest
import torch

from torchcodec_videos import CPU, H264, SMALL, drifting, reason_of
from vidprune.video import (
    ReadByPyAV,
    by_torchcodec,
    check_decoder,
    read_frames,
    read_views,
    readers,
)
from vidprune.video.by_torchcodec import read_by_torchcodec
from vidprune.video.suited import Unsuited


class FakeDecoder:
    """torchcodec's, of a video whose frames it gets wrong."""

    shift, breaks, first, cpu_fallback = 0, None, None, False

    def __init__(self, source, **options):
        assert options["stream_index"] == 0
        frames = json.loads(options["custom_frame_mappings"])["frames"]
        assert [frame["key_frame"] for frame in frames] == [1] + [0] * 39
        assert callable(source.read)

    def get_frames_at(self, indices):
        if self.breaks is not None:
            raise self.breaks
        self.asked.extend(indices)
        places = torch.tensor(indices)
        data = (places % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 64, 96, 3).clone()
        if self.first.shape != (64, 96, 3):
            data = data[:, : len(self.first)]
        data[places == 0] = torch.from_numpy(self.first)
        return SimpleNamespace(data=data, pts_seconds=(places + self.shift) / 25)


@pytest.fixture
def fake(monkeypatch, videos, tmp_path):
    made = ModuleType("torchcodec.decoders")
    made.VideoDecoder = type("Fake", (FakeDecoder,), {})
    monkeypatch.setattr(by_torchcodec, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", made)
    path = videos.write(tmp_path / "a.mp4", drifting(), **H264)
    made.VideoDecoder.asked = []
    made.VideoDecoder.first = read_frames(path, lambda n: [0]).images[0]
    return SimpleNamespace(decoder=made.VideoDecoder, path=path)


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    """What a CPU can do of what is done for a GPU, and how often its work was waited for."""
    waited = []
    stream = SimpleNamespace(synchronize=lambda: waited.append(1))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return waited


@pytest.mark.parametrize(
    "wanted", [[30, 2, 30, 7], [0], [39], [0, 39], [5, 39], [*range(15), 39], [*range(40)]]
)
def test_frames_come_in_order_and_each_is_asked_for_once(fake, wanted):
    """With the first one and the last, which are looked at."""
    found = read_by_torchcodec(
        fake.path, lambda n: wanted, device=CPU, prepare=lambda images: images.movedim(3, 1)
    )
    chosen = tuple(sorted(set(wanted)))
    assert (found.num_frames, found.indices) == (40, chosen)
    numbers = found.images[:, 0, 0, 0].tolist()
    assert numbers == [number or int(fake.decoder.first[0, 0, 0]) for number in chosen]
    assert found.images.shape == (len(chosen), 3, 64, 96)
    assert fake.decoder.asked == sorted({0, *wanted, 39})


def test_frames_of_another_time_are_not_taken(fake):
    fake.decoder.shift = 1
    assert reason_of(fake.path) == "other frames come out than its packets tell of"


@pytest.mark.parametrize("off", [1, 40])
def test_a_first_frame_in_other_colours_is_not_taken(fake, off):
    fake.decoder.first = fake.decoder.first ^ off
    assert reason_of(fake.path) == "it shows it otherwise"


def test_a_first_frame_of_another_size_is_not_taken(fake):
    fake.decoder.first = fake.decoder.first[:-2].copy()
    assert reason_of(fake.path) == "it has another size"


def test_what_a_gpu_would_leave_to_its_cpu_is_for_pyav(fake, as_if_on_a_gpu):
    fake.decoder.cpu_fallback = True
    with pytest.raises(Unsuited, match="the GPU does not decode it"):
        read_by_torchcodec(
            fake.path, SMALL.needed, device=torch.device("cuda"), prepare=torch.clone
        )
    fake.decoder.cpu_fallback = False
    read_by_torchcodec(fake.path, SMALL.needed, device=torch.device("cuda"), prepare=torch.clone)
    assert as_if_on_a_gpu == [1], "before the decoder goes to another video"


@pytest.mark.parametrize(
    "says",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "decode.cpp:3, Failed to create NVDEC decoder: 2",
    ],
)
def test_a_gpu_without_memory_is_no_videos_doing(fake, monkeypatch, says):
    """Or the same video would look otherwise, by who held memory when it was read."""
    fake.decoder.breaks = RuntimeError(says)
    with pytest.raises(RuntimeError, match=r"out of memory|create NVDEC"):
        read_views(fake.path, SMALL, decoder="torchcodec")
    monkeypatch.setattr(
        torch.cuda, "Stream", lambda of, priority: SimpleNamespace(synchronize=print)
    )
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    made = readers.DeviceReader(SMALL, CPU)
    with pytest.raises(
        RuntimeError, match=r"a.mp4 takes more memory than cpu has left; give fewer"
    ):
        made.read(fake.path)


@pytest.mark.parametrize("error", [RuntimeError("no"), IndexError("no"), ValueError("no")])
def test_a_decoder_that_breaks_is_no_end(fake, error):
    fake.decoder.breaks = error
    with pytest.warns(ReadByPyAV, match="it breaks on it"):
        views = read_views(fake.path, SMALL, decoder="torchcodec")
    assert torch.equal(views.pixels, read_views(fake.path, SMALL).pixels)


# --- whether it can be had ---


def test_another_decoder_is_refused():
    with pytest.raises(ValueError, match="decoder='ffmpeg' is not known; choose one of pyav, torc"):
        check_decoder("ffmpeg")


def test_without_torchcodec_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(by_torchcodec, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'vidprune\[torchcodec\]'"):
        check_decoder("torchcodec")
    check_decoder("pyav")


@pytest.mark.parametrize("version", ["0.13.0+cpu", "0.17.0+cu130"])
def test_one_that_is_built_for_cpus_is_refused_for_a_gpu(fake, monkeypatch, version):
    monkeypatch.setattr(sys.modules["torchcodec"], "__version__", version, raising=False)
    check_decoder("torchcodec", CPU)
    if version.endswith("cpu"):
        with pytest.raises(ValueError, match=r"0.13.0\+cpu, which decodes on no GPU"):
            check_decoder("torchcodec", torch.device("cuda"))
    else:
        check_decoder("torchcodec", torch.device("cuda"))


def test_torchcodec_without_its_libraries_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    monkeypatch.setattr(by_torchcodec, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="needs FFmpeg's shared libraries"):
        check_decoder("torchcodec")
