"""What evaluation writes and shows beside its report."""

from dataclasses import asdict

import numpy as np
import pytest

from evaluation_job import VIDEOS, arguments, lasting, rows_of, run
from vidprune import cli
from vidprune.report import Progress


def test_parquet_holds_what_the_lines_hold(job, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(job, tmp_path, parquet=True)
    rows = parquet.read_table(tmp_path / "views.parquet").to_pylist()
    lines = rows_of(tmp_path)
    assert [list(row) for row in rows] == [list(line) for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert np.array_equal(row.pop("logits"), np.float32(line.pop("logits")))
        assert row == line


def test_tensorboard_shows_the_accuracy_so_far(job, tmp_path, capsys):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert cli.main([*arguments(job, tmp_path), "--tensorboard"]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"accuracy/top1", "accuracy/top5", "unreadable"} <= set(events.Tags()["scalars"])
    report = lasting(tmp_path)
    for name in ("top1", "top5"):
        last = events.Scalars(f"accuracy/{name}")[-1]
        assert last.step == VIDEOS
        assert last.value == pytest.approx(report[name], rel=1e-6)
    assert events.Scalars("unreadable")[-1].value == 1


def test_progress_counts_every_video_once(job, tmp_path):
    seen: list[Progress] = []
    run(job, tmp_path, observe=seen.append)
    assert [progress.done for progress in seen] == list(range(VIDEOS + 1))
    assert {progress.total for progress in seen} == {VIDEOS}
    assert [progress.unreadable for progress in seen] == [0] * 5 + [1] * 5
    assert asdict(seen[-1].accuracy).items() <= lasting(tmp_path).items()
    again: list[Progress] = []
    run(job, tmp_path, observe=again.append)
    assert [progress.done for progress in again] == [VIDEOS - 1, VIDEOS]


def test_the_command_says_what_it_found(job, tmp_path, capsys):
    assert cli.main(arguments(job, tmp_path)) == 0
    shown = capsys.readouterr()
    assert f"{lasting(tmp_path)['top1']:.2f} %" in shown.out
    assert "unreadable: 04.mp4: " in shown.err
    assert "9/9" in shown.err


def class_folders(job, tmp_path, names):
    """A folder for each name, holding the job's second clip, and arguments that evaluate them."""
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "clip.mp4").symlink_to(job / "01.mp4")
    changed = arguments(job, tmp_path / "run")
    changed[2] = str(tmp_path / "data")
    return changed


def test_class_folders_take_the_labels_of_the_names_they_bear(job, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("zero\none\nTwo steps\nthree\nfour\nfive\nsix\n")
    changed = class_folders(job, tmp_path, ["two_steps", "six"])
    assert cli.main([*changed, "--labels", str(tmp_path / "names.txt")]) == 0
    labels = {row["video"]: row["label"] for row in rows_of(tmp_path / "run")}
    assert labels == {"two_steps/clip.mp4": 2, "six/clip.mp4": 6}


@pytest.mark.parametrize(
    ("labels", "says"),
    [(True, "left, right is none of the model's classes"), (False, "holds 2 class folders")],
)
def test_class_folders_that_say_nothing_of_labels_are_refused(job, tmp_path, capsys, labels, says):
    (tmp_path / "names.txt").write_text("".join(f"class {n}\n" for n in range(7)))
    changed = class_folders(job, tmp_path, ["left", "right"])
    named = ["--labels", str(tmp_path / "names.txt")] if labels else []
    assert cli.main([*changed, *named]) == 2
    assert says in capsys.readouterr().err
