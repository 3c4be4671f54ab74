"""Predictions: in the order of the inputs, with errors in their places."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_job
from tiny_checkpoints import CONFIGS
from tiny_checkpoints import tiny as checkpoint
from tiny_job import CLASSES, write_checkpoint, write_list
from vidprune import cli
from vidprune.backbones.checkpoints import load
from vidprune.backbones.registry import FAMILIES
from vidprune.commands.predict import predict
from vidprune.demo.clips import render, write_video
from vidprune.inference import Classifier, clip_key
from vidprune.prepare import ViewOptions, protocol_for, read_clip
from vidprune.pruned import prune
from vidprune.video import read_views

NAMES = tuple(f"motion {number}" for number in range(CLASSES))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `videos` 00.mp4 to 03.mp4, of which 01.mp4 is broken."""
    folder = tmp_path_factory.mktemp("job")
    id2label = dict(enumerate(NAMES))
    write_checkpoint(folder / "model", id2label=id2label)
    write_list(folder / "videos", videos=4, broken=1)
    return folder


def vidprune(job: Path, *videos: Path | str, options: tuple[str, ...] = ()) -> int:
    common = ("--model", str(job / "model"), "--device", "cpu", "--workers", "0")
    return cli.main(["predict", *map(str, videos), *common, *options])


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_object_per_input_in_order_with_errors_in_place(job, capsys):
    videos = [job / "videos" / name for name in ("03.mp4", "01.mp4", "gone.mp4", "00.mp4")]
    assert vidprune(job, *videos, options=("--json",)) == 1
    found = objects(capsys)
    assert [row["video"] for row in found] == [str(video) for video in videos]
    assert [set(row) for row in found] == [
        {"video", "top"},
        {"video", "error"},
        {"video", "error"},
        {"video", "top"},
    ]


def test_the_status_is_0_where_all_could_be_read(job, capsys):
    assert vidprune(job, job / "videos" / "00.mp4", options=("--json",)) == 0
    assert len(objects(capsys)) == 1


@pytest.mark.parametrize("way", ["folder", "glob"])
def test_folders_and_globs_stand_for_their_videos(job, capsys, way):
    meant = job / "videos" if way == "folder" else job / "videos" / "*.mp4"
    assert vidprune(job, meant, options=("--json",)) == 1
    names = [Path(str(row["video"])).name for row in objects(capsys)]
    assert names == ["00.mp4", "01.mp4", "02.mp4", "03.mp4"]


def test_a_video_named_twice_is_answered_twice(job, capsys):
    video = job / "videos" / "00.mp4"
    vidprune(job, video, video, options=("--json",))
    first, second = objects(capsys)
    assert first == second


def test_more_classes_than_there_are_is_all_of_them(job, capsys):
    vidprune(job, job / "videos" / "00.mp4", options=("--json", "--top-k", "100"))
    (row,) = objects(capsys)
    top = row["top"]
    assert sorted(guess["label"] for guess in top) == list(range(CLASSES))
    assert sum(guess["probability"] for guess in top) == pytest.approx(1)
    probabilities = [guess["probability"] for guess in top]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(guess["name"] == NAMES[guess["label"]] for guess in top)


@pytest.mark.parametrize("reducer", ["none", "sta:r=4"])
def test_a_probability_is_the_mean_over_the_views(job, reducer):
    model = prune(load(job / "model"), reducer)
    classifier = Classifier(model, protocol_for(model, ViewOptions()), batch_size=3)
    path = job / "videos" / "02.mp4"
    (found,) = predict(classifier, [path], top_k=CLASSES, workers=0)
    views = read_views(path, classifier.protocol).pixels
    logits = [classifier(view[None], torch.tensor([0])) for view in views]
    expected = torch.cat(logits).double().softmax(-1).mean(0)
    for guess in found.top:
        assert guess.probability == pytest.approx(expected[guess.label].item(), rel=1e-5)


def test_a_table_for_people(job, capsys):
    assert vidprune(job, job / "videos" / "00.mp4", job / "videos" / "01.mp4") == 1
    shown = capsys.readouterr().out
    assert "probability" in shown
    assert shown.count("motion") == 5


def test_no_class_at_all_is_refused(job):
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        list(predict(Classifier(load(job / "model"), None), [], top_k=0))


def test_names_given_beside_the_checkpoint_are_used(job, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"other {number}\n" for number in range(CLASSES)))
    video = job / "videos" / "00.mp4"
    vidprune(job, video, options=("--json", "--labels", str(names)))
    (row,) = objects(capsys)
    assert all(guess["name"] == f"other {guess['label']}" for guess in row["top"])


def test_every_shared_clip_is_answered(job, shared, capsys):
    folder = shared("clips")
    broken = {"corrupt_28of50__decord.mp4", "corrupt_20bytes__pixeltable.mp4"}
    options = ("--json", "--reducer", "sta:r=4", "--protocol", "ssv2")
    assert vidprune(job, folder, options=options) == 1
    found = {Path(str(row["video"])).name: row for row in objects(capsys)}
    assert len(found) == 18 + 1
    assert {name for name, row in found.items() if "error" in row} == broken
    assert all(len(row["top"]) == 5 for name, row in found.items() if name not in broken)


# From a file on disk to its classes, on every family.

# What each carries, on grids as small as those of `tiny_checkpoints`.
CASES: tuple[tuple[str, dict[str, str], str], ...] = (
    ("videomae", {}, "sta:r=2"),
    ("vivit", {}, "random:schedule=2/1"),
    ("vjepa2", {}, "tome:r=3"),
    ("timesformer", {}, "grid:schedule=1/1"),
    # It answers frame by frame.
    ("timesformer", {"attention_type": "space_only"}, "grid:schedule=1/1"),
    ("videoprism_vision_model", {}, "grid:schedule=1/,blocks=0/,places=random"),
    ("videoswin", {}, "sta:r=4"),
)
each_family = pytest.mark.parametrize(("family", "changes", "reducer"), CASES, ids=str)


def test_every_family_predicts_here() -> None:
    assert {family for family, _, _ in CASES} == FAMILIES.keys() == CONFIGS.keys()


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "moving left.mp4"
    write_video(path, render(0, 7, frames=40).frames)
    return path


@torch.no_grad()
def by_hand(model: Any, pixels: Tensor, clip: Path) -> list[float]:
    """Probabilities of the classes. (Some families answer frame by frame: their mean.)"""
    options = {"clip_keys": torch.tensor([clip_key(str(clip), 0)])}
    logits = model(pixels, **options if hasattr(model, "reducer") else {}).logits
    return logits.reshape(-1, logits.shape[-1]).mean(0).softmax(-1).tolist()


@pytest.fixture
def predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[float]]:
    """Probabilities of all classes, as the command prints them for a checkpoint in `tmp_path`."""

    def ask(clip: Path, reducer: str) -> list[float]:
        command = ["predict", str(clip), "--model", str(tmp_path), "--reducer", reducer, "--json"]
        assert cli.main([*command, "--top-k", "9", "--device", "cpu", "--workers", "0"]) == 0
        (row,) = objects(capsys)
        guesses = {guess["label"]: guess["probability"] for guess in row["top"]}
        return [guesses[label] for label in range(len(guesses))]

    return ask


@each_family
@pytest.mark.parametrize("source", ["generated", "shared"])
def test_a_checkpoint_of_every_family_predicts_as_by_hand(
    family, changes, reducer, source, request, tmp_path, predicted
):
    clip = request.getfixturevalue(source)
    if source == "shared":
        clip = clip("clips/ssv2_pouring_mpeg4_360x240__rlt.mp4")
    model = checkpoint(family, **changes)
    model.save_pretrained(tmp_path)
    pixels = read_clip(clip, load(tmp_path))
    dense, pruned = by_hand(model, pixels, clip), by_hand(prune(model, reducer), pixels, clip)
    assert predicted(clip, "none") == pytest.approx(dense, rel=1e-4)
    assert predicted(clip, reducer) == pytest.approx(pruned, rel=1e-4)
    assert pruned != pytest.approx(dense, rel=1e-3), "what goes leaves a mark"
