"""The comparison of torchcodec's frames with PyAV's, which is run by hand."""

import importlib

import decoders
import numpy as np
import pytest

from tiny_job import drifting_images, write_video

LOADS = True
try:
    importlib.import_module("torchcodec")
except (ImportError, OSError, RuntimeError):
    # Not there, or without FFmpeg's libraries.
    LOADS = False


def read(frames, *, plus=0):
    images = {at: np.full((2, 3, 3), at + plus, dtype=np.uint8) for at in range(frames)}
    return frames, images, 5.0


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (read(4), "4 frames, off by 0, 0.0000 in the mean; 5 ms, 5 ms"),
        (read(4, plus=2), "4 frames, off by 2, 2.0000 in the mean; 5 ms, 5 ms"),
        (read(3), "4 frames (2, 3, 3), 3 frames (2, 3, 3)"),
        ("it breaks", "refused by torchcodec: it breaks"),
    ],
)
def test_a_line_says_how_far_they_are_apart(theirs, says):
    assert decoders.compared(read(4), theirs) == says


def test_what_neither_reads_is_told_of_both(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    ours = decoders.told(lambda: decoders.by_pyav(tmp_path / "no.mp4"))
    said = decoders.compared(ours, "nor I")
    assert said.startswith("refused by PyAV: it cannot be opened as a video")
    assert said.endswith("by torchcodec: nor I")


@pytest.mark.parametrize("frames", [1, 299, 300, 301, 1000])
def test_frames_are_spread_over_the_whole_video(frames):
    chosen = decoders.some(frames)
    assert len(chosen) <= decoders.MOST
    assert chosen[0] == 0
    assert frames - chosen[-1] <= -(-frames // decoders.MOST)
    assert decoders.some(0) == []


@pytest.mark.skipif(not LOADS, reason="needs torchcodec and FFmpeg's shared libraries")
def test_torchcodec_gives_the_frames_of_a_plain_video(tmp_path, capsys):
    video = write_video(tmp_path / "plain.mp4", drifting_images(0))
    decoders.main([str(video)])
    assert "plain.mp4: 20 frames, off by 0, 0.0000 in the mean" in capsys.readouterr().out
