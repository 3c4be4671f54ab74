"""Slips in the arguments and lists of `train`, and weights and videos that are no good."""

import json
from pathlib import Path

import pytest
import torch

from tiny_job import CLASSES, drifting_images, write_list, write_video
from training.short_runs import words
from vidprune.cli import main
from vidprune.training.clips import Clips
from vidprune.training.trainer import VideoTrainer

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and a train.csv, whose largest label is the model's."""
    folder = tmp_path_factory.mktemp("listed")
    write_list(folder, videos=3)
    (folder / "train.csv").write_text(f"00.mp4 0\n01.mp4 1\n02.mp4 {CLASSES - 1}\n")
    return folder / "train.csv"


def train(data: Path, small: Path, output: Path, *options: str) -> int:
    return main(words(data, small, output, *options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--learning-rate", "inf"), "learning_rate=inf must be above 0, and finite"),
        (("--learning-rate", "nan"), "learning_rate=nan must be above 0, and finite"),
        (("--clip-gradients", "inf"), "clip_gradients=inf must be above 0, and finite"),
        (("--weight-decay", "nan"), "weight_decay=nan must be 0 or more, and finite"),
        (("--weight-decay", "inf"), "weight_decay=inf must be 0 or more, and finite"),
        (("--warmup-epochs", "nan"), "warmup_epochs=nan must be 0 or more, and finite"),
        (("--mixup", "nan"), "mixup=nan must be 0 (none) or more, and finite"),
        (("--mixup", "inf"), "mixup=inf must be 0 (none) or more, and finite"),
        (("--cutmix", "nan"), "cutmix=nan must be 0 (none) or more, and finite"),
        (("--smoothing", "nan"), "smoothing=nan must be 0 or more and below 1"),
        (("--layer-decay", "nan"), "layer_decay=nan must be above 0 and at most 1"),
        (("--magnitude", "nan"), "magnitude=nan must be between 0 and 10"),
        (("--erasing", "nan"), "erasing=nan is a probability"),
        (("--crop-area", "nan", "1"), "crop_area=(nan, 1.0) must be"),
        (("--seed", "9" * 23), f"seed={'9' * 23} must be 0 or more and at most 4294967295"),
        (("--seed", "4294967296"), "seed=4294967296 must be 0 or more and at most 4294967295"),
        (("--epochs", "9" * 20), f"epochs={'9' * 20} must be at least 1 and at most 1000000"),
        (("--batch-size", "9" * 20), "batch_size=99999999999999999999 must be at least 1 and"),
        (("--evaluate-with", "sta:r=4"), "evaluate_with='sta:r=4' needs videos to evaluate on"),
    ],
)
def test_a_slip_gets_a_sentence_and_claims_nothing(
    listed: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    assert train(listed, small, tmp_path / "o", *options) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_weights_that_the_last_update_broke_are_not_saved(
    listed: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = VideoTrainer.training_step

    def breaking(self: VideoTrainer, *arguments: object, **named: object) -> torch.Tensor:
        loss = step(self, *arguments, **named)
        for parameter in self.model.parameters():
            parameter.grad.fill_(torch.nan)
        return loss

    monkeypatch.setattr(VideoTrainer, "training_step", breaking)
    # One update: the loss before it is a number.
    assert train(listed, small, tmp_path / "run", "--batch-size", "3") == 1
    said = capsys.readouterr().err
    assert "the weights are no finite numbers at epoch 1.00" in said
    assert "choose a smaller learning_rate" in said
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("side", ["data", "validation"])
def test_a_label_beyond_any_head_is_named(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], side: str
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a.mp4 0\nb.mp4 999999999999\n")
    data = wrong if side == "data" else listed
    assert train(data, small, tmp_path / "o", "--validation", str(wrong)) == 2
    said = capsys.readouterr().err
    assert f"label 999999999999 of b.mp4 in {wrong} asks for a head of 1000000000000" in said
    assert "labels must be below 100000" in said
    assert not (tmp_path / "o").exists()


def test_training_on_nothing_stops_after_one_epoch_and_can_be_mended(
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, seen = Clips.__getitem__, []
    monkeypatch.setattr(Clips, "__getitem__", lambda self, i: seen.append(i) or read(self, i))
    (tmp_path / "train.csv").write_text(f"00.mp4 0\n01.mp4 {CLASSES - 1}\n")
    assert train(tmp_path, small, tmp_path / "run", "--epochs", "5") == 2
    assert "none of the 2 videos can be read, such as '00.mp4'" in capsys.readouterr().err
    assert sorted(seen) == [0, 1]
    # Nothing is left to go on from, which would begin an epoch later.
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    write_list(tmp_path, videos=2)
    assert train(tmp_path, small, tmp_path / "run", "--epochs", "5") == 0
    found = json.loads((tmp_path / "run" / "train.json").read_text())
    assert (len(found["epoch_seconds"]), found["unreadable"]) == (5, [])


def test_unreadable_videos_of_validation_are_named_once(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = write_list(tmp_path, videos=2, broken=1)
    options = ("--validation", str(validation), "--evaluate-with", "none", "sta:r=4")
    assert train(listed, small, tmp_path / "run", *options) == 1
    said = capsys.readouterr().err
    assert said.count("unreadable: 01.mp4: ") == 1
    # A finished run says it again.
    assert train(listed, small, tmp_path / "run", *options) == 1
    assert "unreadable: 01.mp4: " in capsys.readouterr().err


def test_a_path_that_no_file_can_have_is_an_unreadable_video(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = tmp_path / "train.csv", [f"{letter * 300}.mp4" for letter in "ab"]
    data.write_text(f"{names[0]} 1\n{listed.parent}/00.mp4 {CLASSES - 1}\n")
    validation = ("--validation", str(data.with_name("test.csv")))
    data.with_name("test.csv").write_text(f"{names[1]} 1\n{listed.parent}/01.mp4 0\n")
    assert train(data, small, tmp_path / "run", *validation) == 1
    said = capsys.readouterr().err
    assert said.count("unreadable: ") == 2
    found = json.loads((tmp_path / "run" / "train.json").read_text())
    assert [each["path"] for each in found["unreadable"]] == names[:1]


def test_a_class_folder_without_videos_is_refused_unless_classes_are_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("fall", "rise")):
        write_video(tmp_path / "data" / name / "a.mp4", drifting_images(number))
    (tmp_path / "data" / "lost").mkdir()
    assert train(tmp_path / "data", small, tmp_path / "run") == 2
    assert "the folder of class 'lost' holds no video" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    (tmp_path / "labels.txt").write_text("fall\nlost\nrise\n")
    named = ("--labels", str(tmp_path / "labels.txt"))
    assert train(tmp_path / "data", small, tmp_path / "run", *named) == 0
