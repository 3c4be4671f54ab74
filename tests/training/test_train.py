"""Whole training runs on generated clips: what they leave, and that they take up a cut-off run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

import vidprune
from vidprune.cli import main
from vidprune.demo.clips import write_clips

pytest.importorskip("accelerate")

SHORT = ("--epochs", "2", "--warmup-epochs", "0", "--batch-size", "4", "--workers", "0")
PLAIN = ("--repeats", "1", "--operations", "0", "--erasing", "0", "--crop-area", "1", "1")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of twelve classes; the even ones train, the odd ones test."""
    folder = tmp_path_factory.mktemp("clips")
    rows = write_clips(folder, per_class=2, seed=77).read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(rows[::2]))
    (folder / "test.csv").write_text("\n".join(rows[1::2]))
    (folder / "labels.txt").write_text("\n".join(f"motion {number}" for number in range(12)))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VideoMAE of six small blocks over 4 x 4 x 4 tokens."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(3)
    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=8,
        tubelet_size=2,
        hidden_size=24,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=48,
        use_mean_pooling=True,
        num_labels=12,
        view_protocol={"sampling": "segment", "segments": 1, "crops": 1},
    )
    VideoMAEForVideoClassification(config).save_pretrained(folder)
    return folder


def train(clips: Path, small: Path, output: Path, *options: str) -> dict[str, Any]:
    words = ["train", "--data", str(clips), "--model", str(small), "--output", str(output)]
    assert main([*words, *SHORT, *options]) == 0
    return json.loads((output / "train.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return vidprune.load(folder / "model").state_dict()


def logged(output: Path, name: str) -> list[float]:
    lines = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_a_run_leaves_a_model_a_log_and_a_record(clips: Path, small: Path, tmp_path: Path) -> None:
    found = train(
        clips,
        small,
        tmp_path / "run",
        *("--validation", str(clips), "--reducer", "sta:r=4", "--labels"),
        str(clips / "labels.txt"),
    )
    assert [each["reducer"] for each in found["evaluations"]] == ["none", "sta:r=4"]
    assert found["num_videos"] == 12
    assert found["videos"] == [
        line.rpartition(" ")[0] for line in (clips / "train.csv").read_text().splitlines()
    ]
    assert len(found["epoch_seconds"]) == 2
    assert found["peak_memory_gib"] > 0
    assert len(logged(tmp_path / "run", "eval_top1")) == 2
    model = vidprune.load(tmp_path / "run" / "model")
    assert model.config.id2label[11] == "motion 11"
    assert model.config.view_protocol["sampling"] == "segment"


def test_a_run_shorter_than_evaluate_every_evaluates_what_it_leaves_alone(
    clips: Path, small: Path, tmp_path: Path
) -> None:
    options = ("--validation", str(clips), "--evaluate-every", "9")
    found = train(clips, small, tmp_path / "run", *options)
    assert [each["reducer"] for each in found["evaluations"]] == ["none"]
    assert [each.name for each in (tmp_path / "run" / "evaluations").iterdir()] == ["none"]
    assert logged(tmp_path / "run", "eval_top1") == []


def test_what_the_run_says_of_its_model_is_what_evaluate_says(
    clips: Path, small: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    found = train(clips, small, run, "--validation", str(clips), "--evaluate-with", "random:r=4")
    words = ["evaluate", "--data", str(clips), "--model", str(run / "model")]
    words += ["--reducer", "random:r=4", "--output", str(tmp_path / "again"), "--batch-size", "4"]
    assert main(words) == 0
    again = json.loads((tmp_path / "again" / "report.json").read_text())
    (reported,) = found["evaluations"]
    assert again["top1"] == reported["top1"]
    theirs = (tmp_path / "again" / "views.jsonl").read_text()
    assert theirs == (run / "evaluations" / "random-r=4" / "views.jsonl").read_text()


def test_a_small_set_is_learned_by_heart(clips: Path, small: Path, tmp_path: Path) -> None:
    options = ("--epochs", "60", "--learning-rate", "0.6", "--layer-decay", "1", "--no-flip")
    options += ("--mixup", "0", "--cutmix", "0", "--smoothing", "0", "--optimizer", "muon")
    train(clips, small, tmp_path / "run", *PLAIN, *options)
    losses = logged(tmp_path / "run", "loss")
    assert losses[0] > 2
    assert losses[-1] < 0.5


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    clips: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    from vidprune.training import trainer

    options = ("--optimizer", optimizer, "--learning-rate", "0.02", "--epochs", "3")
    options += ("--validation", str(clips))
    train(clips, small, tmp_path / "whole", *options)
    step, steps = trainer.VideoTrainer.training_step, []

    def cut_off(self: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        steps.append(None)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    monkeypatch.setattr(trainer.VideoTrainer, "training_step", cut_off)
    words = ["train", "--data", str(clips), "--model", str(small)]
    words += ["--output", str(tmp_path / "cut"), *SHORT, *options]
    assert main(words) == 130
    found = train(clips, small, tmp_path / "cut", *options)
    assert len(found["epoch_seconds"]) == 3, "the first epoch is not forgotten"
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert logged(tmp_path / "whole", "loss") == logged(tmp_path / "cut", "loss")


def test_a_checkpoint_that_was_cut_off_is_passed_over(
    clips: Path, small: Path, tmp_path: Path
) -> None:
    train(clips, small, tmp_path / "run", *PLAIN)
    whole = weights(tmp_path / "run")
    (tmp_path / "run" / "train.json").unlink()
    (tmp_path / "run" / "checkpoint-99").mkdir()
    train(clips, small, tmp_path / "run", *PLAIN)
    assert all(torch.equal(whole[name], now) for name, now in weights(tmp_path / "run").items())


def test_a_finished_run_is_read_and_not_done_again(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(clips, small, tmp_path / "run", "--validation", str(clips))
    capsys.readouterr()
    assert train(clips, small, tmp_path / "run", "--validation", str(clips)) == found
    assert "top-1 with none" in capsys.readouterr().out
    from vidprune.commands.evaluate import model_digest

    assert model_digest(vidprune.load(tmp_path / "run" / "model")) == found["model"]


def test_somebody_else_s_checkpoint_is_not_taken_up(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoint-15").mkdir(parents=True)
    words = ["train", "--data", str(clips), "--model", str(small), "--output"]
    assert main([*words, str(tmp_path / "run"), *SHORT]) == 2
    assert "holds checkpoint-15, which is of no run of train" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_a_rate_that_is_too_large_is_told(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(clips), "--model", str(small), "--output"]
    assert main([*words, str(tmp_path / "run"), *SHORT, "--learning-rate", "1e30"]) == 1
    assert "choose a smaller learning_rate" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_videos_none_of_which_can_be_read_are_an_error(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.csv").write_text("gone.mp4 0\nlost.mp4 11\n")
    words = ["train", "--data", str(tmp_path), "--model", str(small), "--output"]
    assert main([*words, str(tmp_path / "run"), *SHORT]) == 2
    assert "none of the 2 videos can be read, such as 'gone.mp4'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model").exists()


def test_validation_in_folders_is_labelled_as_the_model_s_classes(
    clips: Path, tmp_path: Path
) -> None:
    folders = tmp_path / "folders"
    for row in (clips / "test.csv").read_text().splitlines():
        file = clips / row.rpartition(" ")[0]
        (folders / file.parent.name).mkdir(parents=True, exist_ok=True)
        (folders / file.parent.name / file.name).symlink_to(file)
    words = ["train", "--data", str(clips), "--model", "demo", "--validation", str(folders)]
    words += ["--output", str(tmp_path / "run"), *SHORT, *PLAIN]
    assert main([*words, "--epochs", "1", "--learning-rate", "1e-9"]) == 0
    found = json.loads((tmp_path / "run" / "train.json").read_text())
    assert found["evaluations"][0]["top1"] > 80


def test_a_broken_video_is_named_and_the_rest_is_learned(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    names = (clips / "train.csv").read_text().splitlines()[:3]
    listing = [f"{clips}/{name}" for name in names] + [f"{tmp_path}/broken.mp4 2"]
    (tmp_path / "train.csv").write_text("\n".join(listing))
    words = ["train", "--data", str(tmp_path), "--model", str(small), "--output"]
    assert main([*words, str(tmp_path / "run"), *SHORT, "--batch-size", "1", "--new-head"]) == 1
    found = json.loads((tmp_path / "run" / "train.json").read_text())
    assert [video["path"] for video in found["unreadable"]] == [f"{tmp_path}/broken.mp4"]
    assert "broken.mp4" in capsys.readouterr().err
    assert all(torch.isfinite(weight).all() for weight in weights(tmp_path / "run").values())
    # As a kill during the last evaluation leaves it.
    (tmp_path / "run" / "train.json").unlink()
    shutil.rmtree(tmp_path / "run" / "model")
    assert main([*words, str(tmp_path / "run"), *SHORT, "--batch-size", "1", "--new-head"]) == 1
    again = json.loads((tmp_path / "run" / "train.json").read_text())
    assert again["unreadable"] == found["unreadable"]
    assert len(again["epoch_seconds"]) == len(found["epoch_seconds"])


def test_folders_name_the_classes(clips: Path, small: Path, tmp_path: Path) -> None:
    folders = tmp_path / "classes"
    for name in ("growing", "shrinking"):
        (folders / name).mkdir(parents=True)
        for file in (clips / name).iterdir():
            (folders / name / file.name).symlink_to(file)
    train(folders, small, tmp_path / "run")
    model = vidprune.load(tmp_path / "run" / "model")
    assert model.config.id2label == {0: "growing", 1: "shrinking"}
    assert model.classifier.out_features == 2


def test_folders_named_after_the_model_s_classes_keep_its_head(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(clips), "--model", "demo", "--output", str(tmp_path / "run")]
    (clips / "train.csv").rename(clips / "train.txt")
    try:
        assert main([*words, *SHORT, *PLAIN, "--epochs", "1", "--learning-rate", "1e-9"]) == 0
    finally:
        (clips / "train.txt").rename(clips / "train.csv")
    assert "new head" not in capsys.readouterr().err
    demo, tuned = vidprune.load("demo"), vidprune.load(tmp_path / "run" / "model")
    assert tuned.config.id2label == demo.config.id2label
    assert torch.allclose(tuned.classifier.weight, demo.classifier.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layer-decay", "0"), "layer_decay=0.0 must be above 0"),
        (("--epochs", "0"), "epochs=0 must be at least 1"),
        (("--crop-area", "0.5", "0.2"), "crop_area=(0.5, 0.2)"),
        (("--magnitude", "11"), "magnitude=11.0 must be between 0 and 10"),
        (("--smoothing", "1"), "smoothing=1.0 must be 0 or more and below 1"),
        (("--repeats", "0"), "repeats=0 must be at least 1"),
        (("--evaluate-every", "0"), "evaluate_every=0 must be at least 1"),
        (("--save-every", "-1"), "save_every=-1 must be at least 1"),
        (("--workers", "-1"), "workers=-1 must be 0"),
        (("--seed", "-1"), "seed=-1 must be 0 or more"),
        (("--epochs", "2", "--warmup-epochs", "2"), "must be below epochs=2"),
        (("--reducer", "sta:r=400"), "choose a smaller r"),
        (("--evaluate-with", "nothing"), "reducer 'nothing' is not known"),
    ],
)
def test_wrong_arguments_get_a_sentence(
    clips: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    words = ["train", "--data", str(clips), "--model", str(small), "--output", str(tmp_path / "o")]
    assert main([*words, "--validation", str(clips), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    # A start that failed claims nothing: the right command may follow.
    assert not (tmp_path / "o").exists()


def test_what_is_learned_is_not_tested_on(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", str(clips), "--model", str(small), "--output", str(tmp_path / "o")]
    assert main([*words, *SHORT, "--validation", str(clips / "train.csv")]) == 2
    assert "both trained on and evaluated on" in capsys.readouterr().err


def test_another_run_s_folder_is_left_alone(
    clips: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(clips, small, tmp_path / "run", *PLAIN)
    before = weights(tmp_path / "run")
    words = ["train", "--data", str(clips), "--model", str(small)]
    words += ["--output", str(tmp_path / "run"), *SHORT, *PLAIN, "--learning-rate", "0.1"]
    assert main(words) == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert all(torch.equal(before[name], now) for name, now in weights(tmp_path / "run").items())
    assert main([*words, "--restart"]) == 0
    assert not all(
        torch.equal(before[name], now) for name, now in weights(tmp_path / "run").items()
    )


@pytest.mark.slow
def test_two_processes_learn_as_one_with_twice_the_batch(
    clips: Path, small: Path, tmp_path: Path
) -> None:
    # AdamW divides a gradient by its own size: a rounding error of one near 0 shows in full.
    options = ("--mixup", "0", "--cutmix", "0", "--device", "cpu", "--repeats", "1")
    train(clips, small, tmp_path / "one", *options, "--batch-size", "6")
    words = ["train", "--data", str(clips), "--model", str(small), "--validation", str(clips)]
    words += ["--output", str(tmp_path / "two"), *SHORT, *options, "--batch-size", "3"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "vidprune", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "two" / "train.json").read_text())
    assert found["processes"] == 2
    assert found["evaluations"][0]["num_videos"] == 12
    assert logged(tmp_path / "two", "loss") == pytest.approx(
        logged(tmp_path / "one", "loss"), abs=0.02
    )
    before = vidprune.load(small).state_dict()
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    moved = sum((one[name] - before[name]).norm() for name in one)
    apart = sum((one[name] - two[name]).norm() for name in one)
    assert apart < 0.2 * moved


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(clips: Path, small: Path, tmp_path: Path) -> None:
    train(clips, small, tmp_path / "eager", "--reducer", "sta:r=4")
    train(clips, small, tmp_path / "compiled", "--reducer", "sta:r=4", "--compile")
    assert logged(tmp_path / "compiled", "loss") == pytest.approx(
        logged(tmp_path / "eager", "loss"), abs=1e-3
    )


def test_without_its_extra_it_says_what_to_install(
    clips: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else found(name)
    )
    words = ["train", "--data", str(clips), "--model", str(small), "--output"]
    assert main([*words, str(tmp_path / "run"), *SHORT]) == 2
    assert "train needs accelerate; install vidprune[train]" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
