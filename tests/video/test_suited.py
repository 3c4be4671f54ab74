"""Views by torchcodec are PyAV's, to the pixel, or PyAV reads them."""

import json
import warnings
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from torchcodec_videos import (
    CPU,
    H264,
    SMALL,
    assert_reads,
    drifting,
    reason_of,
    tagged,
    write_in_groups,
)
from vidprune.video import (
    PROTOCOLS,
    ReadByPyAV,
    UnreadableVideo,
    read_views,
)
from vidprune.video.suited import suited


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
    write_in_groups(tmp_path / "long.mp4", drifting(400))
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
    write_in_groups(path, drifting(40))
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


def test_a_video_that_changes_its_size_is_for_pyav(torchcodec, tmp_path):
    parts = [write_in_groups(tmp_path / f"{h}.h264", drifting(10, h), bf="0") for h in (48, 96)]
    (tmp_path / "both.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    with (
        av.open(str(tmp_path / "both.h264")) as source,
        av.open(str(tmp_path / "both.mkv"), "w") as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            packet.pts = packet.dts = 40 * number
            copy.mux(packet)
    with pytest.warns(ReadByPyAV, match="it breaks on it"):
        found = read_views(tmp_path / "both.mkv", SMALL, decoder="torchcodec")
    assert torch.equal(found.pixels, read_views(tmp_path / "both.mkv", SMALL).pixels)


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
