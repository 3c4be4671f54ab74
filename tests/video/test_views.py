"""The protocols' index arithmetic, against plain loops and against numbers worked by hand."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprune.video.views import (
    PROTOCOLS,
    Protocol,
    centred_indices,
    crop_offsets,
    dense_indices,
    segment_indices,
)

NUM_FRAMES = st.integers(1, 2000)


def dense_by_loops(n, segments, frames, stride):
    buffer = []
    index = 0
    while index < n:
        buffer.append(index)
        index += stride
    while len(buffer) < frames:
        buffer.append(buffer[-1])
    step = max((len(buffer) - frames) / (segments - 1), 0)
    return [buffer[int(k * step) : int(k * step) + frames] for k in range(segments)]


def segments_by_loops(n, frames):
    tick = n / float(frames)
    both = []
    for x in range(frames):
        both.append(int(tick / 2.0 + tick * x))
        both.append(int(tick * x))
    both.sort()
    return [[both[i] for i in range(2 * frames) if i % 2 == k] for k in range(2)]


def centred_by_loops(n, segments, frames, stride):
    taken = frames * stride
    average = (n - taken + 1) / float(segments)
    clips = []
    for k in range(segments):
        index = 0
        if n > taken - 1:
            index = int(k * average + average / 2.0)
        clip = []
        for _ in range(frames):
            while index >= n:
                index -= n
            clip.append(index)
            index += stride
        clips.append(clip)
    return clips


def as_lists(segments):
    return [list(segment) for segment in segments]


@given(NUM_FRAMES, st.integers(2, 11), st.integers(1, 40), st.integers(1, 9))
def test_dense_equals_the_loops(n, segments, frames, stride):
    indices = dense_indices(n, segments=segments, frames=frames, stride=stride)
    assert as_lists(indices) == dense_by_loops(n, segments, frames, stride)


@given(NUM_FRAMES, st.integers(1, 40))
def test_two_segments_equal_the_loops(n, frames):
    assert as_lists(segment_indices(n, segments=2, frames=frames)) == segments_by_loops(n, frames)


@given(NUM_FRAMES, st.integers(1, 11), st.integers(1, 40), st.integers(1, 9))
def test_centred_equals_the_loops(n, segments, frames, stride):
    indices = centred_indices(n, segments=segments, frames=frames, stride=stride)
    assert as_lists(indices) == centred_by_loops(n, segments, frames, stride)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 9), st.integers(0, 500))
def test_centred_clips_lie_within_a_video_that_is_long_enough(segments, frames, stride, extra):
    n = frames * stride + extra
    for clip in centred_indices(n, segments=segments, frames=frames, stride=stride):
        assert clip == tuple(range(clip[0], clip[0] + frames * stride, stride))
        assert clip[-1] + stride <= n


def test_kinetics_worked_by_hand():
    # 300 frames, every 4th: 75. Starts int(k * 59 / 4) = 0, 14, 29, 44, 59 of these.
    segments = PROTOCOLS["k400"].indices(300)
    assert [segment[0] for segment in segments] == [0, 56, 116, 176, 236]
    assert segments[4] == tuple(range(236, 300, 4))


def test_kinetics_short_video_repeats_the_last_sampled_frame():
    assert PROTOCOLS["k400"].indices(10) == ((0, 4) + (8,) * 14,) * 5


def test_something_something_worked_by_hand():
    # 24 frames: tick 1.5. Starts 0, 1, 3, 4, 6, ...; middles 0, 2, 3, 5, 6, ...
    first, second = PROTOCOLS["ssv2"].indices(24)
    assert first[:6] == (0, 1, 3, 4, 6, 7)
    assert second[:6] == (0, 2, 3, 5, 6, 8)


def test_videoswin_on_kinetics_worked_by_hand():
    # 300 frames: 300 - 63 = 237 starts, 59.25 each. Starts at 29.625, 88.875, 148.125, 207.375.
    clips = PROTOCOLS["videoswin-k400"].indices(300)
    assert [clip[0] for clip in clips] == [29, 88, 148, 207]
    assert clips[3] == tuple(range(207, 270, 2))
    assert len(clips[3]) == 32
    assert len(PROTOCOLS["videoswin-k400"].views) == 12


def test_videoswin_on_something_something_worked_by_hand():
    # 100 frames: 37 starts, the middle at 18.5.
    (clip,) = PROTOCOLS["videoswin-ssv2"].indices(100)
    assert (clip[0], clip[1], clip[-1], len(clip)) == (18, 20, 80, 32)
    assert len(PROTOCOLS["videoswin-ssv2"].views) == 3


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, (0,) * 32),
        (40, (*range(0, 40, 2), *range(0, 24, 2))),
        (41, (*range(0, 41, 2), *range(1, 23, 2))),
        (62, (*range(0, 62, 2), 0)),
        (63, tuple(range(0, 63, 2))),
        (64, tuple(range(0, 63, 2))),
        (65, tuple(range(1, 64, 2))),
    ],
)
def test_videoswin_takes_up_a_short_video_again(n, expected):
    assert PROTOCOLS["videoswin-ssv2"].indices(n) == (expected,)
    if n < 65:
        assert PROTOCOLS["videoswin-k400"].indices(n) == (expected,) * 4


def test_centred_clips_of_other_strides_worked_by_hand():
    # 7 frames, clips of 4: starts 0 to 3, two for each clip. 20 frames, clips of 12: starts 0 to 8.
    one, three = {"frames": 4, "stride": 1}, {"frames": 4, "stride": 3}
    assert centred_indices(7, segments=2, **one) == ((1, 2, 3, 4), (3, 4, 5, 6))
    assert centred_indices(20, segments=3, **three)[::2] == ((1, 4, 7, 10), (7, 10, 13, 16))


@given(st.integers(1, 2000))
def test_segment_sampling_is_within_a_frame_of_videoswins_uniform_one(n):
    (ours,) = dataclasses.replace(
        PROTOCOLS["videoswin-ssv2"], sampling="segment", stride=1
    ).indices(n)
    edges = [round((n - 1) / 32 * x) for x in range(33)]
    uniform = [(edges[x] + edges[x + 1]) // 2 for x in range(32)]
    assert all(abs(a - b) <= 1 for a, b in zip(ours, uniform, strict=True))


@given(NUM_FRAMES, st.integers(1, 40))
def test_a_single_segment_takes_the_middle_of_each_tick(n, frames):
    (only,) = segment_indices(n, segments=1, frames=frames)
    assert list(only) == [math.floor(n / frames / 2 + n / frames * x) for x in range(frames)]


@given(st.integers(64, 2000))
def test_a_single_dense_segment_is_the_middle_one(n):
    (only,) = PROTOCOLS["single"].indices(n)
    before, after = only[0] // 4, (n - 1 - only[-1]) // 4
    assert after - before in (0, 1)


@given(
    NUM_FRAMES,
    st.sampled_from(["dense", "segment", "centred"]),
    st.integers(1, 12),
    st.integers(1, 33),
    st.integers(1, 8),
)
def test_every_index_is_in_the_video_and_rises(n, sampling, segments, frames, stride):
    stride = 1 if sampling == "segment" else stride
    protocol = Protocol(sampling=sampling, segments=segments, crops=1, frames=frames, stride=stride)
    indices = protocol.indices(n)
    assert [len(segment) for segment in indices] == [frames] * segments
    if sampling != "centred" or n >= frames * stride:
        assert all(list(segment) == sorted(segment) for segment in indices)
    assert all(0 <= index < n for segment in indices for index in segment)
    assert protocol.needed(n) == tuple(sorted({i for segment in indices for i in segment}))


@pytest.mark.parametrize("name", PROTOCOLS)
def test_views_are_pairs_with_crops_varying_fastest(name):
    protocol = PROTOCOLS[name]
    expected = [(s, c) for s in range(protocol.segments) for c in range(protocol.crops)]
    assert list(protocol.views) == expected


@given(st.integers(1, 400), st.integers(0, 500), st.integers(2, 9), st.booleans())
def test_crops_lie_along_the_longer_side(size, extra, crops, portrait):
    height, width = (size + extra, size) if portrait else (size, size + extra)
    offsets = crop_offsets(height, width, size=size, crops=crops)
    along = [int(j * (extra / (crops - 1))) for j in range(crops)]
    assert list(offsets) == [(o, 0) if height >= width else (0, o) for o in along]


def test_crops_worked_by_hand():
    assert crop_offsets(224, 297, size=224, crops=3) == ((0, 0), (0, 36), (0, 73))
    assert crop_offsets(298, 224, size=224, crops=3) == ((0, 0), (37, 0), (74, 0))
    assert crop_offsets(224, 297, size=224, crops=1) == ((0, 36),)
    assert crop_offsets(225, 224, size=224, crops=2) == ((0, 0), (1, 0))
    assert crop_offsets(224, 225, size=224, crops=2) == ((0, 0), (0, 1))
    assert crop_offsets(224, 224, size=224, crops=2) == ((0, 0), (0, 0))


@given(st.integers(0, 500), st.integers(8, 300))
def test_three_crops_are_within_a_pixel_of_mmactions(extra, size):
    step = extra // 2
    theirs = [(0, 0), (0, step), (0, 2 * step)]
    ours = crop_offsets(size, size + extra, size=size, crops=3)
    assert extra == 0 or all(
        top == 0 and 0 <= left - other <= 1
        for (top, left), (_, other) in zip(ours, theirs, strict=True)
    )


def test_crops_want_a_resized_frame():
    with pytest.raises(ValueError, match=r"240 x 320 .* must be size = 224; resize"):
        crop_offsets(240, 320, size=224, crops=3)


@pytest.mark.parametrize("num_frames", [0, -1])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_video_without_frames_has_no_views(name, num_frames):
    with pytest.raises(ValueError, match=rf"num_frames is {num_frames}, but .* at least 1"):
        PROTOCOLS[name].indices(num_frames)


@pytest.mark.parametrize("field", ["segments", "crops", "frames", "stride", "size"])
@pytest.mark.parametrize("value", [0, -3, 1.5, "4", True, None])
def test_counts_are_whole_numbers_of_at_least_one(field, value):
    with pytest.raises(ValueError, match=rf"{field} is .*, but must be a whole number of 1 or"):
        dataclasses.replace(PROTOCOLS["k400"], **{field: value})


def test_unknown_sampling_is_refused_by_name():
    with pytest.raises(ValueError, match="sampling is 'sparse', but must be 'dense'"):
        Protocol(sampling="sparse", segments=1, crops=1)


def test_a_stride_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match=r"stride is 2, but segment sampling .* leave it at 1"):
        dataclasses.replace(PROTOCOLS["ssv2"], stride=2)


def test_a_preset_can_be_varied_field_by_field():
    protocol = dataclasses.replace(PROTOCOLS["k400"], segments=10, stride=2, frames=32)
    assert len(protocol.views) == 30
    assert all(len(segment) == 32 for segment in protocol.indices(100))
