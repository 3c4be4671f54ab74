"""torchcodec's views are PyAV's, to the pixel, or PyAV reads them; and frames on a device too."""

import io
import json
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.video import (
    PROTOCOLS,
    Protocol,
    ReadByPyAV,
    UnreadableVideo,
    by_torchcodec,
    check_decoder,
    cut_views,
    decoding,
    guarded,
    read_frames,
    read_views,
    readers,
)
from vidprune.video.by_torchcodec import read_by_torchcodec
from vidprune.video.decode import Frames
from vidprune.video.guarded import GuardedReader
from vidprune.video.on_device import FramesOnDevice, cut_on_device, resize_on_device
from vidprune.video.resize import resize_short_side
from vidprune.video.suited import Unsuited, suited

CPU = torch.device("cpu")
SMALL = Protocol(sampling="dense", segments=2, crops=3, frames=8, size=32)
H264 = {"codec": "libx264", "pixel_format": "yuv420p"}


def drifting(frames=40, height=64, width=96):
    """Blocks of many colours that drift: a frame for another, or colours by another rule, show."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return [np.roll(image, 3 * number, axis=1).copy() for number in range(frames)]


def assert_reads(path, protocol=SMALL):
    """torchcodec reads it, and not PyAV, and says the same."""
    frames = read_by_torchcodec(
        path, protocol.needed, device=CPU, prepare=lambda images: resize_on_device(images, 32)
    )
    views, expected = cut_on_device(frames, protocol), read_views(path, protocol)
    assert frames.num_frames == expected.num_frames
    assert torch.equal(views, expected.pixels)


def reason_of(path):
    with pytest.raises(Unsuited) as caught:
        read_by_torchcodec(path, SMALL.needed, device=CPU, prepare=torch.clone)
    return str(caught.value)


# --- frames on a device ---


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_frames_on_a_device_are_resized_to_the_pixel_as_on_the_cpu(height, width, size, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = resize_on_device(torch.from_numpy(images), size)
    assert np.array_equal(found, np.stack([resize_short_side(each, size) for each in images]))
    assert found.is_contiguous()


@pytest.mark.parametrize("num_frames", [1, 5, 40])
@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_views_are_cut_on_a_device_as_on_the_cpu(name, num_frames):
    protocol = PROTOCOLS[name]
    indices = protocol.needed(num_frames)
    images = torch.arange(len(indices)).view(-1, 1, 1, 1) + torch.arange(230).view(1, 1, 1, -1)
    images = (images % 256).to(torch.uint8).expand(-1, 3, 224, -1)
    found = cut_on_device(FramesOnDevice(num_frames, indices, images), protocol)
    by_index = dict(zip(indices, images.numpy(), strict=True))
    assert torch.equal(found, cut_views(Frames(num_frames, by_index), protocol))


# --- what torchcodec reads, and what not ---


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("b_frames_hevc.mp4", "libx265", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("av1.mkv", "libsvtav1", "yuv420p"),
        ("full_range.mkv", "libx264", "yuvj420p"),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (66, 90), (90, 66)])
def test_the_usual_kinds_of_file_give_the_same_views(
    torchcodec, videos, tmp_path, name, codec, pixel_format, height, width
):
    images = drifting(40, height, width)
    path = videos.write(tmp_path / name, images, codec=codec, pixel_format=pixel_format)
    assert_reads(path)


@pytest.mark.parametrize("colours", ["bt709", "smpte170m", "bt2020nc"])
def test_colours_of_any_standard_are_the_same(torchcodec, tmp_path, colours):
    assert_reads(tagged(tmp_path / "a.mp4", "libx264", colours, full=False))


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.webm"), ("libx264", "a.mp4")])
def test_full_range_is_shown_alike_by_whoever_reads_it(torchcodec, tmp_path, codec, name):
    path = tagged(tmp_path / name, codec, "bt709", full=True)
    with warnings.catch_warnings(action="ignore"):
        found = read_views(path, SMALL, decoder="torchcodec")
    assert torch.equal(found.pixels, read_views(path, SMALL).pixels)


def tagged(path, codec, colours, *, full):
    """A video whose stream says of which standard and range its colours are."""
    matrix, span = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}[colours], 2 if full else 1
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, span
        for image in drifting(12):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.colorspace, frame.color_range = matrix, span
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (matrix, span)
    return path


@pytest.mark.parametrize("name", [*PROTOCOLS])
def test_every_protocol_gives_the_same_views(torchcodec, videos, tmp_path, name):
    path = videos.write(tmp_path / "a.mp4", drifting(300), **H264)
    views = [read_views(path, PROTOCOLS[name], decoder=each) for each in ("pyav", "torchcodec")]
    assert torch.equal(views[0].pixels, views[1].pixels)
    assert (views[0].num_frames, views[0].order) == (views[1].num_frames, views[1].order)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_videos_are_upright_and_mirrored_ones_are_for_pyav(
    torchcodec, videos, tmp_path, degrees, mirrored
):
    turned = {"orientation": (degrees, mirrored, False)}
    path = videos.write(tmp_path / "phone.mp4", drifting(9), **H264, **turned)
    if mirrored:
        assert reason_of(path) == "it is mirrored"
    else:
        assert_reads(path)


@pytest.mark.parametrize(
    "ticks", [[100 + 2 * n for n in range(12)], [0, 2, 10, 30, 32, 90, 92, 94, 200, 300, 302, 304]]
)
def test_frames_are_told_apart_by_whatever_times_they_have(torchcodec, videos, tmp_path, ticks):
    assert_reads(videos.write(tmp_path / "vfr.mkv", drifting(12), **H264, ticks=ticks))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.avi", {"codec": "mpeg4", "pixel_format": "yuv420p"}, "its container is avi"),
        ("a.ts", H264, "its container is mpegts"),
        ("a.h264", H264, "its container is h264"),
        ("a.gif", {"codec": "gif", "pixel_format": "rgb8"}, "its container is gif"),
        ("a.mp4", H264 | {"pixel_format": "yuv420p10le"}, "its pixels are yuv420p10le"),
        ("a.mkv", H264 | {"pixel_format": "yuv444p"}, "its pixels are yuv444p"),
        ("a.mov", {"codec": "mjpeg", "pixel_format": "yuvj420p"}, "its codec is mjpeg"),
        ("a.mkv", {"codec": "ffv1", "pixel_format": "yuv420p"}, "its codec is ffv1"),
        ("a.webm", {"codec": "libvpx", "pixel_format": "yuv420p"}, "its codec is vp8"),
        ("xvid.mp4", {"codec": "mpeg4", "pixel_format": "yuv420p"}, "its codec is mpeg4"),
        ("odd.webm", {"codec": "libvpx-vp9", "pixel_format": "yuv420p"}, "its sides are odd"),
        (
            "same_times.mkv",
            H264 | {"ticks": [0, 1, 2, 30, 31, 32, 200, 201, 400, 401, 402, 500]},
            "its packets do not tell its frames",
        ),
    ],
)
def test_what_it_would_show_otherwise_is_for_pyav(
    torchcodec, videos, tmp_path, name, options, says
):
    images = drifting(12)
    if name.startswith("odd"):
        images = [image[:-1, :-1].copy() for image in images]
    path = videos.write(tmp_path / name, images, **options)
    assert reason_of(path) == says
    with pytest.warns(ReadByPyAV, match=f"not for torchcodec: {says}$"):
        found = read_views(path, SMALL, decoder="torchcodec")
    assert torch.equal(found.pixels, read_views(path, SMALL).pixels)


def test_frames_in_the_order_of_a_file_that_reorders_them_are_for_pyav(
    torchcodec, videos, tmp_path
):
    """What is copied out of an AVI has the times of decoding, and its frames come otherwise."""
    made = videos.write(tmp_path / "a.avi", drifting(), **H264)
    with av.open(str(made)) as source, av.open(str(tmp_path / "copy.mp4"), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    says = "its packets do not tell in which order its frames are shown"
    assert reason_of(tmp_path / "copy.mp4") == says


def test_interlaced_videos_are_for_pyav_also_where_they_begin_black(torchcodec, tmp_path):
    path = tmp_path / "fade.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for number, image in enumerate(drifting(20)):
            faded = np.uint8(image * min(1, number / 8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(faded, format="rgb24")))
        container.mux(stream.encode())
    assert reason_of(path) == "it is interlaced"


def test_videos_turned_by_half_a_quarter_are_for_pyav(torchcodec, videos, tmp_path):
    turned = {"orientation": (45, False, False)}
    path = videos.write(tmp_path / "a.mp4", drifting(9, 64, 64), **H264, **turned)
    assert reason_of(path) == "it is turned by less than a quarter"


def test_full_range_that_the_pixel_format_does_not_say_is_for_pyav(torchcodec, tmp_path):
    """A black first frame is the same in either range."""
    path = tagged(tmp_path / "a.webm", "libvpx-vp9", "bt709", full=True)
    assert reason_of(path) == "its colours are of full range"


def test_torchcodec_starts_in_the_middle_only_where_pyav_does(torchcodec, videos, tmp_path):
    """Else what is damaged would be concealed by other pictures."""
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for image in drifting(400):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    video = suited(tmp_path / "long.mp4")

    def starts(wanted):
        frames = json.loads(video.mapping(wanted))["frames"]
        return [number for number, frame in enumerate(frames) if frame["key_frame"]]

    assert starts(range(400)) == [0]
    assert starts([7, 12, 13, 200, 205]) == [0, 200, 390], "12 lies in the stretch of 7"
    assert_reads(tmp_path / "long.mp4", replace(SMALL, segments=1))


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_a_device_may_be_named(noise_clip, device):
    views = read_views(noise_clip[0], SMALL, device=device)
    assert torch.equal(views.pixels, read_views(noise_clip[0], SMALL).pixels)


def test_a_device_that_decodes_nothing_is_refused(noise_clip):
    with pytest.raises(ValueError, match="device=meta decodes no videos; choose cpu or cuda"):
        read_views(noise_clip[0], SMALL, device="meta")


def test_damage_by_the_dozen_is_concealed_alike(torchcodec, tmp_path):
    """In a video of many key frames, all of which are needed."""
    path = tmp_path / "whole.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for image in drifting(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    data, same = path.read_bytes(), 0
    generator = np.random.default_rng(3)
    for number in range(40):
        bad = bytearray(data)
        start = int(generator.integers(40, len(data) - 40))
        bad[start : start + 30] = generator.bytes(30)
        damaged = tmp_path / f"{number}.mp4"
        damaged.write_bytes(bad)
        with warnings.catch_warnings(action="ignore"):
            try:
                expected = read_views(damaged, SMALL)
            except UnreadableVideo:
                continue
            found = read_views(damaged, SMALL, decoder="torchcodec")
        if expected.num_frames == 40:
            assert torch.equal(found.pixels, expected.pixels), number
            same += 1
    assert same > 5


def test_a_video_that_changes_its_size_is_for_pyav(torchcodec, videos, tmp_path):
    parts = [videos.write(tmp_path / f"{h}.ts", drifting(9, h), **H264) for h in (48, 96)]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert reason_of(tmp_path / "both.ts") == "its container is mpegts"


def test_a_reason_is_told_once(torchcodec, videos, tmp_path):
    names = "a.ts", "b.ts", "c.mkv"
    formats = "yuv420p", "yuv420p", "yuv444p"
    for name, pixels in zip(names, formats, strict=True):
        videos.write(tmp_path / name, drifting(9), codec="libx264", pixel_format=pixels)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for name in names:
            read_views(tmp_path / name, SMALL, decoder="torchcodec")
    assert len(told) == 2


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.95])
def test_what_pyav_refuses_is_refused_in_its_words(torchcodec, videos, tmp_path, kept):
    whole = videos.write(tmp_path / "whole.mkv", drifting(), **H264).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: int(kept * len(whole))])
    said = []
    for decoder in ("pyav", "torchcodec"):
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(UnreadableVideo) as caught,
        ):
            read_views(tmp_path / "cut.mkv", SMALL, decoder=decoder)
        said.append(caught.value.reason)
    assert said[0] == said[1]


@pytest.mark.parametrize("name", ["no.mp4", "empty.mp4", "text.mp4", "list.m3u8"])
def test_what_is_no_video_is_refused_in_pyavs_words(tmp_path, name):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")
    said = []
    for decoder in ("pyav", "torchcodec"):
        with pytest.raises(UnreadableVideo) as caught:
            read_views(tmp_path / name, SMALL, decoder=decoder)
        said.append(caught.value.reason)
    assert said[0] == said[1]


def test_damage_that_loses_no_frame_changes_nothing_but_who_reads(torchcodec, videos, tmp_path):
    """What is refused, or lost on the way, may have its fault where torchcodec does not look."""
    same = 0
    data = videos.write(tmp_path / "whole.mp4", drifting(), **H264).read_bytes()
    generator = np.random.default_rng(1)
    for number in range(40):
        bad = bytearray(data)
        for place in generator.integers(0, len(data), 1 + number % 7):
            bad[place] ^= int(generator.integers(1, 256))
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(bad)
        with warnings.catch_warnings(action="ignore"):
            try:
                expected = read_views(path, SMALL)
            except UnreadableVideo:
                continue
            if expected.num_frames < 40:
                continue
            found = read_views(path, SMALL, decoder="torchcodec")
        assert found.num_frames == expected.num_frames, number
        assert torch.equal(found.pixels, expected.pixels), number
        same += 1
    assert same > 5


@pytest.mark.parametrize("protocol", ["single", "k400", "ssv2"])
def test_real_clips_give_the_same_views(torchcodec, shared, protocol):
    read = []
    for path in sorted(shared("clips").iterdir()):
        if path.suffix == ".md":
            continue
        answers = []
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for decoder in ("pyav", "torchcodec"):
                try:
                    answers.append(read_views(path, PROTOCOLS[protocol], decoder=decoder).pixels)
                except UnreadableVideo as error:
                    answers.append(error.reason)
        if isinstance(answers[0], str):
            assert answers[0] == answers[1]
        else:
            assert torch.equal(*answers), path.name
            read += [path.name] if not told else []
    assert len(read) >= 11


# --- what a decoder might do ---


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


# --- who reads for others ---


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
