"""What the command line says of good commands and of what goes wrong inside."""

import contextlib
import errno
import json
import sys
import warnings

import pytest

from good_command import call
from tiny_job import drifting_images, write_video
from vidprune import cli


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_the_good_command_is_good(job, capsys, verb):
    assert call(job, verb) == 0


def test_strict_is_a_failure_that_names_the_video(job, tmp_path, capsys):
    (tmp_path / "test.csv").write_text("gone.mp4 0\n")
    options = ("--data", str(tmp_path), "--output", str(tmp_path / "run"), "--strict")
    assert call(job, "evaluate", *options) == 1
    assert "gone.mp4: there is no such file" in capsys.readouterr().err.splitlines()[-1]


def test_what_nobody_foresaw_is_a_failure_in_one_line(job, capsys, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("something\nover\n  lines")

    monkeypatch.setattr("vidprune.prepare.load", fail)
    assert call(job, "predict") == 1
    said = capsys.readouterr().err
    assert said == "vidprune: RuntimeError: something over lines (see --debug)\n"


def test_an_empty_path_is_not_the_current_folder(job, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(job, "evaluate", "--output", "") == 2
    assert "argument --output: the path is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_with_a_way_out(job, capsys, monkeypatch):
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/views.jsonl")

    monkeypatch.setattr("vidprune.prepare.load", full)
    assert call(job, "predict") == 1
    said = capsys.readouterr().err
    assert said.startswith("vidprune: runs/views.jsonl: the disk is full")
    assert said.endswith("goes on from what is there\n")


def test_debug_shows_where_it_came_from(job):
    with pytest.raises(ValueError, match="r=-1"):
        call(job, "predict", "--reducer", "sta:r=-1", "--debug")


@pytest.mark.parametrize(("options", "heard"), [((), 0), (("--debug",), 1)])
def test_what_libraries_warn_of_is_for_debug(job, capsys, monkeypatch, options, heard):
    def warn(*arguments: object, **named: object) -> None:
        warnings.warn("a library's own words", stacklevel=1)
        raise ValueError("ours")

    monkeypatch.setattr("vidprune.prepare.load", warn)
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as caught, contextlib.suppress(ValueError):
        call(job, "predict", *options)
    assert len(caught) == heard


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_every_precision_runs(job, capsys, dtype):
    assert call(job, "predict", "--json", "--dtype", dtype) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert sum(guess["probability"] for guess in row["top"]) <= 1.0001


@pytest.mark.parametrize("name", ["[red]x[/red].mp4", ":smile:.mp4", "-a b!(c)@.mp4"])
def test_odd_names_are_shown_as_they_are(job, tmp_path, capsys, name):
    write_video(tmp_path / name, drifting_images(0))
    assert cli.main(["predict", str(tmp_path), "--model", f"{job}/model", "--workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert name in "".join(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)


QUICK = ["benchmark", "--model", "demo", "--reducer", "sta:r=16", "--no-alternatives"]


@pytest.mark.parametrize("inside", ["", "/new"])
def test_a_benchmark_is_refused_a_file_for_a_folder_before_anything_is_timed(
    inside, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("vidprune.commands.benchmark.benchmark", None)
    there = tmp_path / "file"
    there.write_text("mine")
    assert cli.main([*QUICK, "--output", f"{there}{inside}"]) == cli.USAGE
    said = capsys.readouterr().err
    assert f"output='{there}{inside}' leads through a file; name a folder" in said
    assert there.read_text() == "mine"


def test_a_benchmark_over_an_unreadable_video_fails_and_names_it_on_one_line(tmp_path, capsys):
    broken = tmp_path / "bro\nken\x1b[2J.mp4"
    broken.write_bytes(b"no video")
    options = ["--batch-size", "1", "--repeats", "2", "--workers", "0", "--video", str(broken)]
    assert cli.main([*QUICK, *options]) == cli.FAILURE
    said = [line for line in capsys.readouterr().err.splitlines() if "unreadable" in line]
    assert len(said) == 1
    assert "bro\\nken\\x1b[2J.mp4: " in said[0]


def test_how_many_processes_decode_is_said_alike() -> None:
    """One rule has one wording; where no model computes beside it there is another rule."""
    (verbs,) = (action.choices for action in cli.parser()._actions if action.dest == "verb")
    told = {
        name: action.help
        for name, verb in verbs.items()
        for action in verb._actions
        if "--workers" in action.option_strings
    }
    before = {told.pop(name) for name in ("train", "tune", "visualize")}
    assert {"predict", "embed", "evaluate", "curves", "reproduce", "benchmark"} <= set(told)
    assert len(set(told.values())) == len(before) == 1
    assert before != set(told.values())


STEERING = "\x1b[2J\x9b31m\x07a"


@pytest.mark.parametrize(
    "words",
    [
        ["predict", f"{STEERING}.txt", "--model", "demo", "--output", "out"],
        ["predict", "gone.mp4", "--model", f"./{STEERING}", "--output", "out"],
        ["predict", "clips", "--model", "demo", "--output", STEERING, "--workers", "0"],
        ["evaluate", "--data", STEERING, "--model", "demo", "--output", "out"],
        ["evaluate", "--data", "x", "--model", "demo", "--output", "out", STEERING],
    ],
)
def test_what_is_named_does_not_steer_the_terminal(tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clips" / "a.mp4", drifting_images(0))
    (tmp_path / "clips" / f"{STEERING}.tar.gz").touch()
    with contextlib.suppress(SystemExit):
        cli.main(words)
    told = capsys.readouterr()
    said = told.out + told.err
    assert "\\x1b[2J\\x9b31m\\x07a" in said.replace("\n", "")
    assert not set(said) & set("\x1b\x9b\x07")
