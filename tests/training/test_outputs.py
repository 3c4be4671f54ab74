"""Which folders `train` takes, what it deletes there, and what it does where the disk is full."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

import vidprune
from tiny_job import drifting_images, write_list, write_video
from training.short_runs import words
from vidprune.cli import main
from vidprune.commands.evaluate import model_digest
from vidprune.training.full_disk import DiskFull, told_when_full

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos and a train.csv."""
    folder = tmp_path_factory.mktemp("listed")
    return write_list(folder, videos=3).rename(folder / "train.csv")


@pytest.fixture(scope="module")
def finished(listed: Path, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that came to its end, whose record each test leaves otherwise."""
    folder = tmp_path_factory.mktemp("finished")
    assert main(words(listed, small, folder)) == 0
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders with the names of what a run writes."""
    for number, name in enumerate(("evaluations", "model", "tensorboard")):
        write_video(tmp_path / "data" / name / "a.mp4", drifting_images(number))
    return tmp_path / "data"


def videos(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.mp4"))


@pytest.mark.parametrize("restart", [(), ("--restart",)])
@pytest.mark.parametrize(
    ("place", "relation"), [("data", "is"), ("data/run", "lies within"), (".", "holds")]
)
def test_an_output_among_class_folders_is_refused(
    folders: Path,
    small: Path,
    capsys: pytest.CaptureFixture[str],
    place: str,
    relation: str,
    restart: tuple[str, ...],
) -> None:
    before = sorted(folders.rglob("*"))
    output = folders.parent / place
    assert main(words(folders, small, output, "--new-head", *restart)) == 2
    assert f"{relation} {folders}, a folder of class folders" in capsys.readouterr().err
    assert sorted(folders.rglob("*")) == before
    assert not (folders.parent / "run.json").exists()


def test_an_output_among_the_folders_of_validation_is_refused_by_whatever_path(
    folders: Path, listed: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = folders.parent / "link"
    link.symlink_to(folders)
    options = ("--validation", str(folders))
    assert main(words(listed, small, link, *options)) == 2
    assert "a folder of class folders" in capsys.readouterr().err


def test_what_a_run_begins_with_does_not_lie_where_it_writes(
    folders: Path, listed: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folders / "train.csv").write_text("model/a.mp4 0\ntensorboard/a.mp4 1\n")
    assert main(words(folders, small, folders, "--restart")) == 2
    assert f"it begins with {folders / 'model'}, which lies in it" in capsys.readouterr().err
    assert len(videos(folders)) == 3
    model = shutil.copytree(small, folders / "model" / "small")
    assert main(words(listed, model, folders, "--restart")) == 2
    assert f"it begins with {model}" in capsys.readouterr().err
    assert model.exists()


@pytest.mark.parametrize("restart", [(), ("--restart",)])
@pytest.mark.parametrize("name", ["model", "evaluations", "tensorboard", "checkpoint-3"])
def test_a_folder_of_somebody_else_is_neither_deleted_nor_written_into(
    listed: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    restart: tuple[str, ...],
) -> None:
    theirs = tmp_path / "run" / name / "theirs.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    assert main(words(listed, small, tmp_path / "run", *restart)) == 2
    assert f"holds {name}, which is of no run of train" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
    assert theirs.read_text() == "precious"


@pytest.mark.parametrize("name", ["train.json", "log.jsonl", "run.json"])
def test_a_file_of_somebody_else_is_left_as_it_is(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_text("theirs")
    for options in ((), ("--restart",)):
        assert main(words(listed, small, tmp_path, *options)) == 2
        assert f"holds {name}, which is of no run of train" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_restart_deletes_its_own_run_alone(listed: Path, small: Path, tmp_path: Path) -> None:
    assert main(words(listed, small, tmp_path)) == 0
    for name in ("notes.txt", "report.json", "views.parquet"):
        (tmp_path / name).write_text("theirs")
    assert main(words(listed, small, tmp_path, "--seed", "1", "--restart")) == 0
    assert json.loads((tmp_path / "train.json").read_text())["recipe"]["schedule"]["seed"] == 1
    for name in ("notes.txt", "report.json", "views.parquet"):
        assert (tmp_path / name).read_text() == "theirs"


def test_a_run_of_evaluate_is_told_by_its_name(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = ["evaluate", "--data", str(listed), "--model", str(small)]
    assert main([*evaluation, "--output", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(words(listed, small, tmp_path)) == 2
    assert capsys.readouterr().err.endswith(
        f"vidprune: output {tmp_path} holds a run of evaluate; choose another folder, or restart "
        "(--restart) to discard it\n"
    )
    assert main(words(listed, small, tmp_path, "--restart")) == 0
    assert not (tmp_path / "views.jsonl").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"evaluations": [1]}'])
def test_a_broken_record_gets_a_sentence(
    listed: Path, small: Path, finished: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (finished / "train.json").write_text(content)
    assert main(words(listed, small, finished)) == 2
    assert "train.json is no record of a training run; take it away" in capsys.readouterr().err


def test_a_record_that_was_taken_away_is_made_again(
    listed: Path, small: Path, finished: Path
) -> None:
    (finished / "train.json").unlink()
    assert main(words(listed, small, finished)) == 0
    assert (finished / "train.json").exists()


def test_a_model_that_was_deleted_is_written_again_or_missed(
    listed: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(listed, small, tmp_path, "--reducer", "sta:r=4")) == 0
    found = json.loads((tmp_path / "train.json").read_text())
    shutil.rmtree(tmp_path / "model")
    assert main(words(listed, small, tmp_path, "--reducer", "sta:r=4")) == 0
    assert model_digest(vidprune.load(tmp_path / "model")) == found["model"]
    (tmp_path / "model" / "config.json").unlink()
    assert main(words(listed, small, tmp_path, "--reducer", "sta:r=4")) == 0
    assert model_digest(vidprune.load(tmp_path / "model")) == found["model"]
    capsys.readouterr()
    for path in (tmp_path / "model", *tmp_path.glob("checkpoint-*")):
        shutil.rmtree(path)
    assert main(words(listed, small, tmp_path, "--reducer", "sta:r=4")) == 2
    said = capsys.readouterr()
    assert "its model/ is gone" in said.err
    assert "restart (--restart) to train again" in said.err
    assert said.out == ""


def test_a_full_disk_gets_a_sentence_and_the_same_command_goes_on(
    listed: Path,
    small: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save = torch.save

    def full(content: Any, path: Any, *rest: Any, **named: Any) -> None:
        save(content, "/dev/full" if "optimizer" in str(path) else path, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        assert main(words(listed, small, tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"vidprune: output {tmp_path}: the disk is full (" in said
    assert "free some and give the same command again" in said
    # As it is where not even the state, which comes last, had a place.
    next(tmp_path.glob("checkpoint-*")).joinpath("trainer_state.json").write_text("{")
    assert main(words(listed, small, tmp_path)) == 0


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/some/file"), True),
        (SafetensorError("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 7 vs 5"), True),
        (RuntimeError("PytorchStreamReader failed: inline_container.cc"), False),
        (RuntimeError("unable to write to </torch_1>: No space left on device (28)"), False),
        (SafetensorError("header too large"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_only_a_full_disk_is_called_one(tmp_path: Path, error: Exception, full: bool) -> None:
    with pytest.raises(DiskFull if full else type(error)), told_when_full(tmp_path):
        raise error
