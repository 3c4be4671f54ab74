"""Leaving out what nobody needs changes no pixel, and what cannot be trusted is read through."""

from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidprune.video import PROTOCOLS, UnreadableVideo, read_frames, read_views
from vidprune.video import decode as decoding
from vidprune.video import seeking as module
from vidprune.video.seeking import Stretch, route_to, stretches_for

# What reaches the first, both sides of a key frame, a run, and the last.
SCATTERED = (0, 1, 47, 48, 100, 101, 102, 330, 399)


@pytest.fixture
def eager(monkeypatch):
    """Seeks wherever it can, whatever that saves."""
    monkeypatch.setattr(module, "_LEAST_LEFT_OUT", 0)
    monkeypatch.setattr(module, "_LARGEST_SHARE", 100.0)
    monkeypatch.setattr(module, "_FRAMES_PER_SEEK", 0)


@pytest.fixture
def routes(monkeypatch):
    """The routes that were taken, None for each video that was read through."""
    taken = []

    def noted(*arguments):
        taken.append(route_to(*arguments))
        return taken[-1]

    monkeypatch.setattr(decoding, "route_to", noted)
    return taken


def read_through(path, chosen, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "route_to", lambda *arguments: None)
        return read_frames(path, lambda n: chosen)


def long_video(videos, path, *, codec="libx264", count=400, **options):
    """Of frames that move, so that each is another."""
    images = videos.flat(count, 96, 128)
    for number, image in enumerate(images):
        image[:, number % 128] = 255 - image[:, number % 128]
    return videos.write(path, images, codec=codec, pixel_format="yuv420p", **options)


@given(
    st.sets(st.integers(0, 199), min_size=1), st.sets(st.integers(1, 199)), st.sampled_from([1, 9])
)
@settings(max_examples=200, deadline=None)
def test_stretches_hold_what_is_wanted_and_cost_what_they_say(wanted, keys, seek):
    starts = sorted({0, *keys})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_FRAMES_PER_SEEK", seek)
        found = stretches_for(wanted, starts, 200)
    ranges = [range(each.start, each.last + 1) for each in found]
    held = [index for stretch in ranges for index in stretch]
    assert held == sorted(set(held))
    assert all(each.start in starts for each in found)
    if found:
        assert wanted <= set(held)
        assert len(held) + seek * len(found) <= 100
    else:
        least = {i for w in wanted for i in range(starts[bisect_right(starts, w) - 1], w + 1)}
        assert len(least) + seek * len(wanted) > 100


def test_a_stretch_goes_on_where_that_is_cheaper_than_to_seek():
    assert stretches_for([3, 12], [0, 5, 10], 400) == (Stretch(0, 12),)
    assert stretches_for([3, 38], [0, 5, 35], 400) == (Stretch(0, 3), Stretch(35, 38))


@pytest.mark.parametrize(
    ("name", "codec", "seeks"),
    [
        ("a.mp4", "libx264", True),
        ("a.mkv", "libx264", True),
        ("a.mp4", "libx265", True),
        ("a.webm", "libvpx-vp9", True),
        ("a.mkv", "libsvtav1", True),
        ("a.avi", "mpeg4", False),
        ("a.mpg", "mpeg1video", False),
        ("a.ts", "libx264", True),
    ],
)
def test_every_kind_of_file_gives_the_same_pixels(
    videos, tmp_path, eager, routes, monkeypatch, name, codec, seeks
):
    path = long_video(videos, tmp_path / name, codec=codec)
    found = read_frames(path, lambda n: SCATTERED)
    assert (routes[0] is not None) == seeks
    wanted = read_through(path, SCATTERED, monkeypatch)
    assert found.num_frames == wanted.num_frames == 400
    assert sorted(found.images) == list(SCATTERED)
    for index, image in wanted.images.items():
        assert np.array_equal(found.images[index], image), f"frame {index}"


def decoded(monkeypatch):
    """Counts the frames that come out."""
    counted = []
    for home, name in ((module, "_decoded"), (decoding, "_decoded")):
        real = getattr(home, name)

        def watched(*arguments, real=real):
            for each in real(*arguments):
                counted.append(each)
                yield each

        monkeypatch.setattr(home, name, watched)
    return counted


def test_of_a_long_video_little_is_decoded(videos, tmp_path, monkeypatch):
    path = long_video(videos, tmp_path / "a.mkv", codec="ffv1", count=1000)
    counted = decoded(monkeypatch)
    views = read_views(path, PROTOCOLS["single"])
    assert views.num_frames == 1000
    assert len(counted) < 100


def test_a_short_one_is_read_through(videos, tmp_path, routes):
    path = long_video(videos, tmp_path / "a.mp4", count=100)
    read_frames(path, lambda n: [3])
    assert routes == [None]


def test_a_start_in_the_middle_of_a_group_is_not_believed(videos, tmp_path, eager, monkeypatch):
    """Were a packet called a key frame that is none, its frame would be wrong or missing."""
    path = long_video(videos, tmp_path / "a.mp4")
    real = module.keys_by_stamp
    keys = {}

    def all_keys(video):
        keys.update(dict.fromkeys(real(video), True))
        return keys

    monkeypatch.setattr(module, "keys_by_stamp", all_keys)
    found = read_frames(path, lambda n: [0, 30, 201])
    wanted = read_through(path, [0, 30, 201], monkeypatch)
    assert len(keys) == 400
    assert all(np.array_equal(found.images[i], image) for i, image in wanted.images.items())


def test_a_timestamp_that_no_frame_has_is_not_believed(
    videos, tmp_path, eager, routes, monkeypatch
):
    """Whoever counted on from there would take each frame for the one before it."""
    path = long_video(videos, tmp_path / "a.mp4")
    real = module.keys_by_stamp

    def forged(video):
        keys = real(video)
        moved = sorted(keys)[10]
        del keys[moved]
        return keys | {moved + 1: True}

    monkeypatch.setattr(module, "keys_by_stamp", forged)
    found = read_frames(path, lambda n: [12])
    assert routes[0].stretches == (Stretch(10, 12),)
    wanted = read_through(path, [12], monkeypatch)
    assert np.array_equal(found.images[12], wanted.images[12])


def test_another_number_of_packets_than_announced_is_read_through(
    videos, tmp_path, eager, routes, monkeypatch
):
    path = long_video(videos, tmp_path / "a.mkv", codec="ffv1", count=60)
    monkeypatch.setattr(decoding, "announced_frames", lambda video: 61)
    found = read_frames(path, lambda n: [n - 3])
    assert routes[0] is None
    assert sorted(found.images) == [57]


def broken_in_the_middle(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    return path


# Not FFV1: what FFmpeg puts where a slice of it is lost depends on what the memory held before.
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_what_is_broken_where_somebody_looks_is_reported_as_ever(
    videos, tmp_path, eager, monkeypatch, codec
):
    path = broken_in_the_middle(long_video(videos, tmp_path / "a.mkv", codec=codec, count=60))
    outcomes = []
    for through in (False, True):
        try:
            with monkeypatch.context() as patched:
                if through:
                    patched.setattr(decoding, "route_to", lambda *arguments: None)
                images = read_frames(path, range).images
            outcomes.append({index: image.tobytes() for index, image in images.items()})
        except UnreadableVideo as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]


def test_a_file_cut_short_is_reported_though_nobody_needs_its_end(videos, tmp_path, eager):
    path = long_video(videos, tmp_path / "a.mp4", options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UnreadableVideo, match=r"cut short|the stream breaks"):
        read_frames(path, lambda n: [0])


def test_real_clips_give_the_same_pixels(shared, eager, routes, monkeypatch):
    """Every codec and container there is; of the broken ones the same sentence."""
    for path in sorted(shared("clips").iterdir()):
        if path.suffix == ".md":
            continue
        outcomes = []
        for patched in (False, True):
            with monkeypatch.context() as context:
                if patched:
                    context.setattr(decoding, "route_to", lambda *arguments: None)
                try:
                    found = read_frames(path, lambda n: sorted({0, n // 3, n // 2, n - 1}))
                    outcomes.append((found.num_frames, sorted(found.images)))
                    outcomes.append([found.images[i].tobytes() for i in sorted(found.images)])
                except UnreadableVideo as error:
                    outcomes.append(error.reason)
        assert outcomes[: len(outcomes) // 2] == outcomes[len(outcomes) // 2 :], path.name
    sought = sum(route is not None for route in routes)
    assert sought >= 5


def test_threads_change_nothing(videos, tmp_path, eager):
    path = long_video(videos, tmp_path / "a.mp4")
    one, many = (read_frames(path, lambda n: SCATTERED, threads=t) for t in (1, 4))
    assert all(np.array_equal(one.images[i], many.images[i]) for i in SCATTERED)
