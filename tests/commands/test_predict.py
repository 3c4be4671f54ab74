"""Predictions: in the order of the inputs, with errors in their places."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny_job
from tiny_job import CLASSES, write_checkpoint, write_list
from vidprune import cli
from vidprune.backbones.checkpoints import load
from vidprune.commands.predict import predict
from vidprune.inference import Classifier
from vidprune.prepare import ViewOptions, protocol_for
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
