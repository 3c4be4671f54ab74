"""What an upload gets: an answer, or a sentence for whoever uploaded it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vidprune import load, prune, read_clip
from vidprune.app.answers import Clip, Limits, answer, read
from vidprune.demo.clips import write_clips
from vidprune.inference import clip_key
from vidprune.macs import gmacs_per_view
from vidprune.video.encode import write_video

LIMITS = Limits()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=5)
    return next(path for path in sorted(folder.rglob("*.mp4")))


def test_it_says_what_the_models_say(video: Path) -> None:
    found = answer(read(video, "demo", LIMITS), "random", 20)
    model = load("demo")
    pixels, keys = read_clip(video, model), torch.tensor([clip_key(video.name, 0)])
    names = model.config.id2label
    for shown, reducer in ((found.dense, None), (found.pruned, "random:r=20")):
        pruned = prune(model, reducer)
        with torch.no_grad():
            wanted = pruned(pixels, clip_keys=keys).logits.softmax(-1)[0]
        assert len(shown) == 5
        for name, probability in shown.items():
            label = next(number for number, each in names.items() if each == name)
            assert probability == pytest.approx(wanted[label].item(), abs=1e-5)
    figures = {what: (dense, pruned) for what, dense, pruned in found.figures}
    assert figures["tokens left"] == ("512", "232 of 512")
    cost = gmacs_per_view(prune(model, "random:r=20"))
    assert figures["GMACs per view"][1].startswith(f"{cost:.2f} (")
    assert "<script" in found.html
    assert found.picture.width > 600


def test_r_0_is_the_dense_model(video: Path) -> None:
    found = answer(read(video, "demo", LIMITS), "sta", 0)
    assert found.pruned == found.dense


def test_a_video_that_is_too_long_is_refused_with_both_lengths(tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    write_video(long, np.zeros((900, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"runs for 30 seconds; at most 20 are taken. Cut a part"):
        read(long, "demo", Limits(video_seconds=20))


@pytest.mark.parametrize("content", [b"", b"not a video" * 99])
def test_a_file_that_is_no_video_is_named_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"This file cannot be read as a video: .*Drop another"):
        read(path, "demo", LIMITS)


@pytest.mark.parametrize("name", ["upload_mib", "video_seconds"])
def test_limits_let_something_in(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        Limits(**{name: 0})


BROKEN = ("corrupt_20bytes__pixeltable.mp4", "corrupt_28of50__decord.mp4")
GOOD = ("one_frame_64x64_mpeg4__torchcodec.mp4", "rotated90_h264__torchcodec.mp4")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_clips_get_a_sentence(shared: Callable[[str], Path], name: str) -> None:
    with pytest.raises(ValueError, match="This file cannot be read as a video"):
        read(shared(f"clips/{name}"), "demo", LIMITS)


@pytest.mark.parametrize("name", GOOD)
def test_odd_clips_get_an_answer(shared: Callable[[str], Path], name: str) -> None:
    clip = read(shared(f"clips/{name}"), "demo", LIMITS)
    assert isinstance(clip, Clip)
    assert answer(clip, "sta", 8).pruned
