"""Decoding: the right frames of every kind of file, and a clear reason where there are none."""

import pickle
import wave

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.video.decode import read_frames
from vidprune.video.opening import UnreadableVideo
from vidprune.video.upright import display_matrix, upright

EVERY = range
PLAIN = ("libx264", "yuv420p")


def reason_of(path):
    with pytest.raises(UnreadableVideo) as caught:
        read_frames(path, EVERY)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    return caught.value.reason


def assert_same(images, expected):
    assert sorted(images) == list(range(len(expected)))
    for index, image in enumerate(expected):
        assert np.array_equal(images[index], image), f"frame {index}"


# --- the right frames ---


@given(st.lists(st.integers(0, 11)))
@settings(max_examples=25, deadline=None)
def test_chosen_frames_are_those_that_were_written(noise_clip, chosen):
    path, written = noise_clip
    frames = read_frames(path, lambda n: chosen)
    assert frames.num_frames == 12
    assert sorted(frames.images) == sorted(set(chosen))
    for index, image in frames.images.items():
        assert np.array_equal(image, written[index])


@given(
    n=st.integers(1, 30),
    stride=st.integers(1, 9),
    suffix=st.sampled_from([".mkv", ".avi", ".mov"]),
)
@settings(max_examples=20, deadline=None)
def test_any_length_and_stride_in_any_container(videos, tmp_path_factory, n, stride, suffix):
    written = videos.noise(n, 8, 10, seed=n)
    path = tmp_path_factory.mktemp("any") / f"clip{suffix}"
    codec = {"codec": "png", "pixel_format": "rgb24"} if suffix == ".mov" else {}
    frames = read_frames(videos.write(path, written, **codec), lambda n: range(0, n, stride))
    assert frames.num_frames == n
    assert sorted(frames.images) == list(range(0, n, stride))
    assert all(np.array_equal(frames.images[i], written[i]) for i in frames.images)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("b_frames_hevc.mp4", "libx265", "yuv420p"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("av1.mkv", "libsvtav1", "yuv420p"),
        ("xvid.avi", "mpeg4", "yuv420p"),
        ("old.mpg", "mpeg1video", "yuv420p"),
        ("stream.ts", "libx264", "yuv420p"),
        ("ten_bit.mp4", "libx264", "yuv420p10le"),
        ("full_chroma.mkv", "libx264", "yuv444p"),
        ("full_range.mkv", "libx264", "yuvj420p"),
        ("motion_jpeg.avi", "mjpeg", "yuvj420p"),
        ("palette.gif", "gif", "rgb8"),
        ("ending_that_says_nothing", "libx264", "yuv420p"),
    ],
)
def test_every_kind_of_file_gives_its_frames_in_order(videos, tmp_path, name, codec, pixel_format):
    written = videos.flat(21, 64, 96)
    path = tmp_path / name
    target = path if path.suffix else path.with_suffix(".mp4")
    videos.write(target, written, codec=codec, pixel_format=pixel_format).rename(path)
    frames = read_frames(path, EVERY)
    assert frames.num_frames == 21
    assert_same(frames.images, videos.decode_naively(path))
    for index, image in enumerate(written):
        off = frames.images[index].mean((0, 1)) - image[0, 0]
        assert np.abs(off).max() < (40 if codec == "gif" else 8), f"frame {index} is off by {off}"


@pytest.mark.parametrize(("height", "width"), [(33, 17), (1, 1), (241, 321), (96, 40)])
def test_odd_and_portrait_sizes(videos, tmp_path, height, width):
    written = videos.noise(3, height, width)
    assert_same(read_frames(videos.write(tmp_path / "a.mkv", written), EVERY).images, written)


def test_grey_video_has_three_equal_channels(videos, tmp_path):
    grey = [image[..., 0].copy() for image in videos.noise(4)]
    path = videos.write(tmp_path / "grey.mkv", grey, pixel_format="gray", frame_format="gray")
    images = read_frames(path, EVERY).images
    assert_same(images, [np.repeat(image[..., None], 3, axis=2) for image in grey])


@pytest.mark.parametrize(
    ("pixel_format", "black", "white"), [("yuv420p", 16, 235), ("yuvj420p", 0, 255)]
)
def test_colour_range_follows_the_stream(videos, tmp_path, pixel_format, black, white):
    planes = [np.full((48, 32), 128, np.uint8) for _ in range(2)]
    for plane, luma in zip(planes, (black, white), strict=True):
        plane[:32] = luma
    path = videos.write(
        tmp_path / "range.mkv",
        planes,
        codec="libx264",
        pixel_format=pixel_format,
        frame_format=pixel_format,
        height=32,
    )
    images = read_frames(path, EVERY).images
    assert images[0].max() <= 1
    assert images[1].min() >= 254


def test_variable_frame_rate_counts_frames_not_time(videos, tmp_path):
    written = videos.noise(9)
    ticks = [0, 1, 2, 30, 31, 32, 200, 201, 400]
    path = videos.write(tmp_path / "vfr.mkv", written, ticks=ticks)
    assert_same(read_frames(path, EVERY).images, written)


def test_a_single_frame_is_a_video(videos, tmp_path):
    written = videos.noise(1)
    assert_same(read_frames(videos.write(tmp_path / "one.mkv", written), EVERY).images, written)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("left_right", [False, True])
@pytest.mark.parametrize("top_bottom", [False, True])
def test_frames_areupright(videos, tmp_path, degrees, left_right, top_bottom):
    written = videos.noise(2, 24, 32)
    path = videos.write(
        tmp_path / "phone.mov",
        written,
        codec="png",
        pixel_format="rgb24",
        orientation=(degrees, left_right, top_bottom),
    )
    expected = [np.rot90(image, degrees // 90) for image in written]
    if left_right:
        expected = [image[:, ::-1] for image in expected]
    if top_bottom:
        expected = [image[::-1] for image in expected]
    images = read_frames(path, EVERY).images
    assert_same(images, expected)
    assert images[0].flags.c_contiguous


class FrameWithUnknownSideData:
    """PyAV lists no side data at all where one entry is of a kind that it has no name for."""

    rotation = 90

    @property
    def side_data(self):
        raise ValueError("58 is not a valid Type")


def test_rotation_is_found_beside_side_data_that_pyav_does_not_know(videos):
    (image,) = videos.noise(1)
    matrix = display_matrix(FrameWithUnknownSideData())
    assert np.array_equal(upright(image, matrix), np.rot90(image))


def test_frames_that_change_size_come_in_the_first_size(videos, tmp_path):
    parts = [
        videos.write(
            tmp_path / f"{height}.h264",
            videos.flat(5, height, 64),
            codec="libx264",
            pixel_format="yuv420p",
        )
        for height in (48, 96)
    ]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read_frames(path, EVERY)
    assert frames.num_frames == 10
    assert {image.shape for image in frames.images.values()} == {(48, 64, 3)}
    assert read_frames(path, lambda n: [9]).images[9].shape == (48, 64, 3)


def test_the_best_of_several_video_streams_is_read(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (16, 64), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side, "bgr0"
        for stream in streams:
            image = np.zeros((stream.height, stream.width, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)) + stream.encode(None))
    images = read_frames(path, EVERY).images
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert images[0].shape == (best.height, best.width, 3)


# --- in one pass, and only what is needed ---


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mpg", ".gif"])
def test_the_number_of_frames_is_known_before_decoding(videos, tmp_path, suffix):
    codec, pixel_format = {
        ".webm": ("libvpx-vp9", "yuv420p"),
        ".mpg": ("mpeg1video", "yuv420p"),
        ".gif": ("gif", "rgb8"),
    }.get(suffix, PLAIN)
    path = tmp_path / f"clip{suffix}"
    videos.write(path, videos.flat(17), codec=codec, pixel_format=pixel_format)
    asked = []
    read_frames(path, lambda n: asked.append(n) or [0])
    assert asked == [17]


def with_announced_frames(path, count):
    """Overwrite the number of frames in an AVI's stream header."""
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32
    data[length : length + 4] = count.to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("announced", [5, 30])
def test_a_wrong_announcement_is_found_out_and_the_file_decoded_again(videos, tmp_path, announced):
    written = videos.noise(12)
    path = with_announced_frames(videos.write(tmp_path / "a.avi", written), announced)
    asked = []
    frames = read_frames(path, lambda n: asked.append(n) or range(0, n, 2))
    assert asked == [announced, 12]
    assert frames.num_frames == 12
    assert sorted(frames.images) == [0, 2, 4, 6, 8, 10]
    assert all(np.array_equal(image, written[i]) for i, image in frames.images.items())


def test_empty_places_in_an_avi_are_no_frames(videos, tmp_path):
    written = videos.noise(6)
    path = videos.write(tmp_path / "a.avi", written, ticks=[0, 2, 10, 12, 14, 22])
    assert_same(read_frames(path, EVERY).images, written)


def test_an_absurd_announcement_is_not_believed(videos, tmp_path):
    path = with_announced_frames(videos.write(tmp_path / "a.avi", videos.noise(12)), 0xFFFFFFF0)
    asked = []
    read_frames(path, lambda n: asked.append(n) or [0])
    assert asked == [12]


def test_only_needed_frames_are_prepared_and_kept(noise_clip):
    prepared = []

    def halve(image):
        prepared.append(image.shape)
        return image[::2, ::2]

    frames = read_frames(noise_clip[0], lambda n: [7, 2, 7], prepare=halve)
    assert prepared == [(24, 32, 3)] * 2
    assert {i: image.shape for i, image in frames.images.items()} == {
        2: (12, 16, 3),
        7: (12, 16, 3),
    }


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_change_nothing_but_time(videos, tmp_path, threads):
    path = videos.write(
        tmp_path / "a.mp4", videos.flat(30, 96, 128), codec="libx264", pixel_format="yuv420p"
    )
    assert_same(read_frames(path, EVERY, threads=threads).images, videos.decode_naively(path))


def test_negative_threads_are_refused(noise_clip):
    with pytest.raises(ValueError, match="threads is -1, but must be 1 or more, or 0"):
        read_frames(noise_clip[0], EVERY, threads=-1)


@pytest.mark.parametrize("chosen", [[12], [-1, 3]])
def test_frames_outside_the_video_are_refused(noise_clip, chosen):
    with pytest.raises(ValueError, match=r"choose\(12\) asks for frames .* has frames 0 to 11"):
        read_frames(noise_clip[0], lambda n: chosen)


# --- unreadable, and why ---


def test_paths_that_are_no_files(tmp_path):
    assert reason_of(tmp_path / "missing.mp4").startswith("there is no such file")
    assert reason_of(tmp_path) == "it is a directory, not a video file"
    assert reason_of("/dev/null") == "it is no regular file, not a video file"
    assert "cannot be opened" in reason_of("a\0b.mp4")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0" * 20, "it cannot be opened as a video"),
        (b"not a video\n" * 100, "it cannot be opened as a video"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
def test_files_that_are_no_videos(tmp_path, content, reason, name):
    path = tmp_path / name
    path.write_bytes(content)
    assert reason_of(path).startswith(reason)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\0" * 4000)
    assert reason_of(path) == "it holds no video stream"


def test_a_cover_picture_is_no_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=8000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate = 8000
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(sound.encode(silence) + sound.encode(None))
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        container.mux(cover.encode(picture) + cover.encode(None))
    assert reason_of(path) == "it holds no video stream"


@pytest.mark.parametrize("scheme", ["http://127.0.0.1:9/", "file:", "concat:", "subfile:,,:"])
def test_a_path_is_never_taken_for_an_address(noise_clip, scheme):
    says = "it is an address" if "://" in scheme else "there is no such file"
    assert reason_of(f"{scheme}{noise_clip[0]}").startswith(says)


@pytest.mark.parametrize(
    ("name", "playlist"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", "ffconcat version 1.0\nfile {}\n"),
    ],
)
def test_playlists_open_nothing_else(noise_clip, monkeypatch, tmp_path, name, playlist):
    # A name without folders, which FFmpeg holds for safe and would look for right here.
    monkeypatch.chdir(noise_clip[0].parent)
    path = tmp_path / name
    path.write_text(playlist.format(noise_clip[0].name))
    assert reason_of(path).startswith("it cannot be opened as a video")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_stream_that_breaks_names_both_counts(videos, tmp_path, threads):
    path = videos.write(
        tmp_path / "a.mov", videos.noise(20, 48, 64), codec="png", pixel_format="rgb24"
    )
    data = path.read_bytes()
    middle = data.index(b"IHDR", len(data) // 2)
    path.write_bytes(data[:middle] + b"\xff" * 40 + data[middle + 40 :])
    with pytest.raises(UnreadableVideo) as caught:
        read_frames(path, EVERY, threads=threads)
    whole = data.count(b"IHDR", 0, middle)
    assert caught.value.reason.startswith(f"the stream breaks: {whole} of 20 frames decode (")


def test_the_broken_and_the_odd_among_real_clips(shared, videos):
    folder = shared("clips")
    unreadable = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".md":
            continue
        try:
            frames = read_frames(path, EVERY, prepare=lambda image: image[::8, ::8])
        except UnreadableVideo as error:
            unreadable[path.name] = error.reason
        else:
            assert len(frames.images) == frames.num_frames
    assert unreadable == {
        "corrupt_20bytes__pixeltable.mp4": "it cannot be opened as a video (Invalid data found "
        "when processing input)",
        "corrupt_28of50__decord.mp4": "the stream breaks: 28 of 50 frames decode "
        "(Invalid data found when processing input)",
    }


def test_a_real_rotated_clip_standsupright(shared):
    path = shared("clips/rotated90_h264__torchcodec.mp4")
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert stored.shape == (270, 480, 3)
    assert np.array_equal(read_frames(path, lambda n: [0]).images[0], np.rot90(stored))


def test_the_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UnreadableVideo("a b.mp4", "the file is empty")))
    assert (error.path, error.reason) == ("a b.mp4", "the file is empty")
    assert str(error) == "a b.mp4: the file is empty"


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damage_leads_to_frames_or_to_the_error_but_nowhere_else(videos, tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    suffix = data.draw(st.sampled_from([".mp4", ".mkv", ".avi", ".mpg", ".gif"]))
    codec = {".mpg": ("mpeg1video", "yuv420p"), ".gif": ("gif", "rgb8")}.get(suffix, PLAIN)
    whole = folder / f"whole{suffix}"
    if not whole.exists():
        videos.write(whole, videos.flat(8), codec=codec[0], pixel_format=codec[1])
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(0, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"damaged{suffix}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        frames = read_frames(path, lambda n: [0, n - 1])
    except UnreadableVideo:
        return
    assert set(frames.images) == {0, frames.num_frames - 1}
