"""Files that end before their container says so."""

import pytest

from vidprune.video import truncation
from vidprune.video.decode import read_frames
from vidprune.video.opening import UnreadableVideo

KINDS = {
    ".mkv": {},
    ".avi": {},
    ".webm": {"codec": "libvpx-vp9", "pixel_format": "yuv420p"},
    # The index at the front, as in files made for streaming: a cut then leaves it whole.
    ".mp4": {
        "codec": "libx264",
        "pixel_format": "yuv420p",
        "options": {"movflags": "faststart"},
    },
}


@pytest.fixture(params=KINDS)
def whole(request, videos, tmp_path):
    images = videos.noise(16, 48, 64)
    return videos.write(tmp_path / f"whole{request.param}", images, **KINDS[request.param])


def missing_bytes(path):
    with open(path, "rb") as file:
        missing = truncation.missing_bytes(file)
        assert file.tell() == 0
        return missing


def cut(path, length):
    shorter = path.with_stem(f"cut{length}")
    shorter.write_bytes(path.read_bytes()[:length])
    return shorter


def test_a_whole_file_misses_nothing(whole):
    assert missing_bytes(whole) == 0
    assert read_frames(whole, range).num_frames == 16


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_cut_file_is_unreadable_and_says_so(whole, share):
    size = whole.stat().st_size
    shorter = cut(whole, int(size * share))
    assert missing_bytes(shorter) == size - int(size * share)
    with pytest.raises(UnreadableVideo, match=r"cut short|the stream breaks"):
        read_frames(shorter, range)


def test_a_cut_that_ffmpeg_does_not_notice_is_reported_with_both_figures(videos, tmp_path):
    whole = videos.write(tmp_path / "whole.mkv", videos.noise(16, 48, 64))
    shorter = cut(whole, whole.stat().st_size // 2)
    missing = whole.stat().st_size - shorter.stat().st_size
    decodes = len(videos.decode_naively(shorter))
    assert 0 < decodes < 16
    with pytest.raises(UnreadableVideo) as caught:
        read_frames(shorter, range)
    assert caught.value.reason == (
        f"the file is cut short: {missing} bytes that its container announces are missing "
        f"({decodes} frames decode)"
    )


@pytest.mark.parametrize("junk", [b"\0" * 64, b"appended by somebody" * 9])
def test_bytes_that_somebody_appended_do_no_harm(whole, junk):
    whole.write_bytes(whole.read_bytes() + junk)
    assert missing_bytes(whole) == 0


def test_files_of_unknown_length_miss_nothing(videos, tmp_path):
    live = videos.write(tmp_path / "live.mkv", videos.noise(4), options={"live": "1"})
    programme = videos.write(
        tmp_path / "a.mpg", videos.flat(4), codec="mpeg1video", pixel_format="yuv420p"
    )
    for path in (live, programme):
        assert missing_bytes(path) == 0
        assert read_frames(path, range).num_frames == 4
    unfinished = videos.write(tmp_path / "a.avi", videos.noise(4))
    data = unfinished.read_bytes()
    unfinished.write_bytes(data[:4] + b"\xff" * 4 + data[8:])
    assert missing_bytes(unfinished) == 0


@pytest.mark.parametrize("length", range(0, 64, 5))
def test_stumps_are_no_trouble(whole, length):
    assert missing_bytes(cut(whole, length)) >= 0


def test_real_clips_miss_nothing(shared):
    for path in shared("clips").iterdir():
        if not path.name.startswith("corrupt_20"):
            assert missing_bytes(path) == 0, path.name
