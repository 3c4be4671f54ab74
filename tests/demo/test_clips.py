"""The demo's clips: the class lies in time alone, and the files are what a video data set looks
like."""

import av
import numpy as np
import pytest

from vidprune.demo.clips import CLASSES, render, write_clips
from vidprune.video.encode import write_video

FORWARD = range(0, len(CLASSES), 2)  # every even class is followed by its reverse


@pytest.mark.parametrize("motion", range(len(CLASSES)))
def test_same_arguments_give_the_same_clip(motion):
    first, second = render(motion, 5), render(motion, 5)
    assert first.frames.shape == (16, 64, 64, 3)
    assert first.frames.dtype == np.uint8
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, render(motion, 6).frames)


@pytest.mark.parametrize("motion", FORWARD)
def test_a_class_played_backwards_is_its_pair(motion):
    forward, backward = render(motion, 3), render(motion + 1, 3)
    assert np.array_equal(forward.frames[::-1], backward.frames)
    assert np.array_equal(forward.actors[::-1], backward.actors)
    assert np.allclose(forward.flow[::-1], -backward.flow)


def test_other_sizes_and_lengths():
    clip = render(6, 0, frames=8, size=96)
    assert clip.frames.shape == (8, 96, 96, 3)
    assert clip.flow.shape == (8, 96, 96, 2)


@pytest.mark.parametrize("motion", [-1, len(CLASSES)])
def test_an_unknown_class_is_refused(motion):
    with pytest.raises(ValueError, match="index into CLASSES"):
        render(motion, 0)


@pytest.mark.parametrize(
    ("name", "axis", "sign"),
    [("moving left", 0, -1), ("moving right", 0, 1), ("moving up", 1, -1), ("moving down", 1, 1)],
)
def test_movers_go_where_their_class_says(name, axis, sign):
    clip = render(CLASSES.index(name), 11)
    velocity = clip.flow[clip.actors > 0.5].mean(0)
    assert 1.0 < sign * velocity[axis] < 1.6
    assert abs(velocity[1 - axis]) < 1e-3


def test_flow_says_where_pixels_go():
    clip = render(CLASSES.index("moving right"), 4)
    rows, columns = np.nonzero(clip.actors[7] == 1)
    step = clip.flow[7][rows, columns, 0].mean()
    moved = np.array(
        [clip.frames[8][rows, np.clip(columns + whole, 0, 63)] for whole in range(-3, 4)], float
    )
    differences = np.abs(moved - clip.frames[7][rows, columns]).mean((1, 2))
    assert abs(differences.argmin() - 3 - step) < 0.75


def _circulation(clip):
    """Mean of (offset from the actor's centre) x (velocity): positive for a clockwise turn on the
    screen."""
    rows, columns = np.mgrid[:64, :64]
    weight = clip.actors / clip.actors.sum((1, 2), keepdims=True)
    right = columns - (weight * columns).sum((1, 2), keepdims=True)
    down = rows - (weight * rows).sum((1, 2), keepdims=True)
    return (weight * (right * clip.flow[..., 1] - down * clip.flow[..., 0])).sum((1, 2)).mean()


def test_turning_growing_and_fading_have_their_sign():
    def render_named(name):
        return render(CLASSES.index(name), 21)

    assert _circulation(render_named("rotating clockwise")) > 1
    assert _circulation(render_named("rotating counter-clockwise")) < -1
    for grows in ("growing", "appearing"):
        seen = render_named(grows).actors.sum((1, 2))
        assert seen[-1] > 1.5 * seen[0]


def _spread(clip):
    """Distance in pixels between first and last frame's root-mean-square extents of the actors."""
    rows, columns = np.mgrid[:64, :64]
    extents = []
    for weight in (clip.actors[0] / clip.actors[0].sum(), clip.actors[-1] / clip.actors[-1].sum()):
        places = np.stack([rows, columns])
        centre = (weight * places).sum((1, 2))[:, None, None]
        extents.append(np.sqrt((weight * (places - centre) ** 2).sum()))
    return extents[1] - extents[0]


def test_approaching_actors_come_together():
    assert np.mean([_spread(render(CLASSES.index("approaching"), seed)) for seed in range(8)]) < -5


def _frame_statistics(frames):
    """What one frame tells at a glance: lightness, colourfulness, contrast, and the middle of
    colour."""
    pixels = frames.astype(float)
    colourful = np.ptp(pixels, axis=-1)
    rows, columns = np.mgrid[:64, :64]
    total = colourful.sum()
    return (
        pixels.mean(),
        colourful.mean(),
        pixels.std(),
        (colourful * columns).sum() / total,
        (colourful * rows).sum() / total,
    )


def test_single_frames_look_alike_in_every_class():
    """Means over clips of one random frame each differ between classes by no more than chance
    allows."""
    rng = np.random.default_rng(0)
    clips = 40
    table = np.array(
        [
            [
                _frame_statistics(render(motion, 1000 * motion + seed).frames[rng.integers(16)])
                for seed in range(clips)
            ]
            for motion in FORWARD
        ]
    )
    error = table.std((0, 1)) / clips**0.5
    assert (np.abs(table.mean(1) - table.mean((0, 1))) < 4 * error).all()


def _decode(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_clip_survives_the_encoder(tmp_path):
    frames = render(0, 8).frames
    write_video(tmp_path / "clip.mp4", frames)
    decoded = _decode(tmp_path / "clip.mp4")
    assert decoded.shape == frames.shape
    lightness = np.array([0.299, 0.587, 0.114])
    difference = np.abs(decoded @ lightness - frames @ lightness)
    assert difference.mean() < 4


def test_written_folder_and_its_list(tmp_path):
    listing = write_clips(tmp_path / "clips", per_class=2, seed=9)
    assert listing == tmp_path / "clips" / "test.csv"
    rows = [line.split(" ") for line in listing.read_text().splitlines()]
    assert [int(label) for _, label in rows] == [
        motion for motion in range(len(CLASSES)) for _ in range(2)
    ]
    assert rows[0] == ["moving_left/000.mp4", "0"]
    assert rows[-1] == ["vanishing/001.mp4", "11"]
    for path, label in rows:
        assert path.split("/")[0] == CLASSES[int(label)].replace(" ", "_")
        assert len(_decode(listing.parent / path)) == 16


def test_files_are_the_same_bytes_every_time(tmp_path):
    """Otherwise the demo's figures move from run to run."""
    for folder in ("a", "b"):
        write_clips(tmp_path / folder, per_class=2, seed=3)
    first, second = (sorted((tmp_path / folder).rglob("*.mp4")) for folder in ("a", "b"))
    assert len(first) == 2 * len(CLASSES)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
