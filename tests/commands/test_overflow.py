"""Models whose logits are no numbers, jobs of which nothing is left: said, and no success."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_job
from tiny_job import write_checkpoint, write_list
from vidprune import cli


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, whose logits overflow, and a list of two videos."""
    folder = tmp_path_factory.mktemp("overflow")
    write_checkpoint(folder / "model")
    weights = load_file(folder / "model" / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], torch.nan)
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    write_list(folder, videos=2)
    return folder


def evaluate(job: Path, output: Path) -> int:
    options = ["--data", f"{job}/test.csv", "--model", f"{job}/model", "--output", str(output)]
    with tiny_job.one_thread():
        return cli.main(["evaluate", *options, "--workers", "0", "--device", "cpu"])


def test_logits_that_overflow_are_misses_and_are_named(job, tmp_path, capsys):
    assert evaluate(job, tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["top1"], report["num_videos"]) == (0.0, 2)
    assert report["not_finite"] == ["00.mp4", "01.mp4"]
    assert "2 videos count as misses because their logits are not finite" in capsys.readouterr().err


def test_a_prediction_of_no_numbers_is_an_error_and_valid_json(job, capsys):
    video = f"{job}/00.mp4"
    options = ["--model", f"{job}/model", "--workers", "0", "--device", "cpu", "--json"]
    assert cli.main(["predict", video, *options]) == 1
    row = json.loads(capsys.readouterr().out)
    assert row["video"] == video
    assert "not finite" in row["error"]
    assert "top" not in row


def test_a_job_of_which_no_video_can_be_read_is_a_failure(job, tmp_path, capsys):
    shutil.copytree(job, tmp_path / "job")
    for name in ("00.mp4", "01.mp4"):
        (tmp_path / "job" / name).write_bytes(b"no video")
    assert evaluate(tmp_path / "job", tmp_path / "run") == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["top1"], report["num_videos"], len(report["unreadable"])) == (None, 0, 2)
