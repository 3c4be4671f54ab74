"""The command line: one sentence and the right exit status for whatever is wrong."""

import contextlib
import errno
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig
from transformers.utils import logging

import tiny_job
from tiny_job import drifting_images, write_checkpoint, write_list, write_video
from vidprune import cli

VERBS = tuple(cli.VERBS)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """As the command line finds it in a process of its own: transformers not yet imported."""
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good things to name (`model`, `test.csv`, `00.mp4`), and in `bad` what is wrong."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=2)
    bad = folder / "bad"
    for name in ("folder", "run"):
        (bad / name).mkdir(parents=True)
    for name, content in {
        "empty.csv": "\n# nothing\n",
        "line.csv": "00.mp4\n",
        "word.csv": "00.mp4 seven\n",
        "wide.csv": "00.mp4 0\n01.mp4 9\n",
        "config.json": "{",
        "names.txt": "one\ntwo\n",
        "file": "",
        "run/run.json": '{"reducer": "none"}',
        "foreign/views.jsonl": "{}\n",
    }.items():
        (bad / name).parent.mkdir(exist_ok=True)
        (bad / name).write_text(content)
    (bad / "latin.csv").write_bytes("é.mp4 0\n".encode("latin-1"))
    (bad / "random.pth").write_bytes(bytes(range(256)) * 9)
    (bad / "pickle.pth").write_bytes(pickle.dumps({"model": range(3)}))
    torch.save({"model": {"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}}, bad / "small.pth")
    torch.save({"head.weight": torch.zeros(3, 3)}, bad / "other.pth")
    ViTConfig().save_pretrained(bad / "vit")
    return folder


def wrong(
    argument: str, *options: str, status: int = 2, says: tuple[str, ...], verb: str = "both"
) -> object:
    return pytest.param(options, status, says, verb, id=argument)


# What is wrong, how the command is called ({job} is the folder above), the status, and what the
# one line on stderr says. Options given here come after the good ones and win over them.
WRONG = [
    wrong("reducer unknown", "--reducer", "best:r=8", says=("reducer 'best'", "none, sta, random")),
    wrong(
        "reducer option unknown", "--reducer", "sta:q=8", says=("sta has no option 'q'", "order")
    ),
    wrong(
        "reducer option without value", "--reducer", "sta:r", says=("option 'r'", "needs a value")
    ),
    wrong("reducer r missing", "--reducer", "sta", says=("r=None", "such as r=64")),
    wrong("reducer r negative", "--reducer", "sta:r=-1", says=("r=-1", "at least 0")),
    wrong(
        "reducer r too large",
        *("--reducer", "sta:r=16"),
        says=("cannot drop 16", "a group holds 16 tokens", "smaller r"),
    ),
    wrong(
        "reducer stages beyond the model",
        *("--reducer", "sta:r=2,blocks=0/8/16"),
        says=("0, 8, 16", "a model of 6 blocks", "choose other blocks"),
    ),
    wrong(
        "model missing", "--model", "{job}/no.pth", says=("no.pth does not exist", "config.json")
    ),
    wrong("model a folder without config", "--model", "{job}/bad/folder", says=("bad/folder",)),
    wrong(
        "model of another family",
        *("--model", "{job}/bad/vit"),
        status=1,
        says=("bad/vit", "family 'vit'", "videomae"),
    ),
    wrong(
        "original without arch", "--model", "{job}/bad/small.pth", says=("arch", "vit_base_patch")
    ),
    wrong(
        "arch unknown",
        *("--model", "{job}/bad/small.pth", "--arch", "vit_tiny"),
        says=("arch='vit_tiny'", "vit_small_patch16_224"),
    ),
    wrong(
        "arch beside a folder", "--arch", "vit_base_patch16_224", says=("is a folder", "omit arch")
    ),
    wrong(
        "arch that does not fit",
        *("--model", "{job}/bad/small.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("small.pth", "missing", "check arch"),
    ),
    wrong(
        "model of other tensors",
        *("--model", "{job}/bad/other.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("not a VideoMAE classifier", "head.weight"),
    ),
    wrong(
        "model of random bytes",
        *("--model", "{job}/bad/random.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("random.pth cannot be read", "state dict"),
    ),
    wrong(
        "model a pickle of something",
        *("--model", "{job}/bad/pickle.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("pickle.pth", "state dict"),
    ),
    wrong(
        "config not JSON",
        *("--model", "{job}/bad/small.pth", "--config", "{job}/bad/config.json"),
        says=("config=", "bad/config.json' is not the JSON object"),
    ),
    wrong(
        "config missing",
        *("--model", "{job}/bad/small.pth", "--config", "{job}/no.json"),
        says=("no.json' is no file",),
    ),
    wrong("config a folder", "--config", "{job}/bad/folder", says=("folder' is no file",)),
    wrong(
        "labels missing", "--labels", "{job}/no.txt", says=("labels='", "no.txt'", "kinetics400")
    ),
    wrong("labels a folder", "--labels", "{job}/bad/folder", says=("labels='", "kinetics400")),
    wrong(
        "labels too few", "--labels", "{job}/bad/names.txt", says=("labels holds 2", "7 classes")
    ),
    wrong("protocol unknown", "--protocol", "k700", says=("protocol='k700'", "k400, ssv2, ucf101")),
    wrong(
        "stride with segments",
        *("--protocol", "ssv2", "--stride", "2"),
        says=("stride is 2", "segment sampling", "sampling='dense'"),
    ),
    wrong("sampling unknown", "--sampling", "sparse", says=("--sampling", "'sparse'", "dense")),
    wrong("segments 0", "--segments", "0", says=("segments is 0", "1 or more")),
    wrong("crops negative", "--crops", "-1", says=("crops is -1", "1 or more")),
    wrong("stride 0", "--protocol", "k400", "--stride", "0", says=("stride is 0", "1 or more")),
    wrong("frames of half a tubelet", "--frames", "15", says=("frames=15", "multiple of 2")),
    wrong("frames 0", "--frames", "0", says=("frames=0", "positive multiple of 2")),
    wrong("size of half a patch", "--size", "36", says=("size=36", "multiple of 8")),
    wrong("batch size 0", "--batch-size", "0", says=("batch_size=0", "at least 1")),
    wrong("batch size a word", "--batch-size", "many", says=("--batch-size", "'many'")),
    wrong("workers negative", "--workers", "-1", says=("workers=-1", "or more")),
    wrong("device unknown", "--device", "gpu", says=("device='gpu'", "choose cpu, cuda")),
    wrong("device not there", "--device", "cuda:77", says=("device='cuda:77'", "leave it out")),
    wrong("dtype unknown", "--dtype", "int8", says=("--dtype", "'int8'", "bf16")),
    wrong("option unknown", "--fast", says=("--fast", "--help")),
    wrong("top-k 0", "--top-k", "0", says=("top_k=0", "at least 1"), verb="predict"),
    wrong("data missing", "--data", "{job}/no.csv", says=("data is", "no.csv'"), verb="evaluate"),
    wrong(
        "data empty", "--data", "{job}/bad/empty.csv", says=("no video is listed",), verb="evaluate"
    ),
    wrong(
        "data without videos",
        *("--data", "{job}/bad/folder"),
        says=("bad/folder: no class folder", "give a list file"),
        verb="evaluate",
    ),
    wrong(
        "data line without label",
        *("--data", "{job}/bad/line.csv"),
        says=("line.csv, line 1: '00.mp4' has no label", "path label"),
        verb="evaluate",
    ),
    wrong(
        "data label no number",
        *("--data", "{job}/bad/word.csv"),
        says=("word.csv, line 1", "'seven'", "whole number"),
        verb="evaluate",
    ),
    wrong(
        "data label outside the head",
        *("--data", "{job}/bad/wide.csv"),
        says=("label 9 of 01.mp4", "head's 7 classes (0 to 6)", "checkpoint"),
        verb="evaluate",
    ),
    wrong(
        "data not UTF-8",
        *("--data", "{job}/bad/latin.csv"),
        says=("latin.csv: byte 0 is not UTF-8", "save the list"),
        verb="evaluate",
    ),
    wrong(
        "output of another run",
        *("--output", "{job}/bad/run"),
        says=("bad/run belongs to another run", "reducer 'none', not", "choose another folder"),
        verb="evaluate",
    ),
    wrong(
        "output of another run, with scalars",
        *("--output", "{job}/bad/run", "--tensorboard"),
        says=("bad/run belongs to another run",),
        verb="evaluate",
    ),
    wrong(
        "output of nobody knows whom",
        *("--output", "{job}/bad/foreign"),
        says=("bad/foreign belongs to another run", "no run.json"),
        verb="evaluate",
    ),
    wrong(
        "output a file",
        *("--output", "{job}/bad/file"),
        says=("bad/file is a file", "name a folder"),
        verb="evaluate",
    ),
]


def call(job: Path, verb: str, *options: str) -> int:
    """The exit status of a good command, but for `options`."""
    command = {
        "predict": ["predict", f"{job}/00.mp4"],
        "evaluate": ["evaluate", "--data", f"{job}/test.csv", "--output", f"{job}/output"],
    }[verb]
    good = ["--model", f"{job}/model", "--reducer", "sta:r=4", "--device", "cpu", "--workers", "0"]
    try:
        return cli.main([*command, *good, *(option.format(job=job) for option in options)])
    except SystemExit as stopped:
        return int(stopped.code)


@pytest.mark.parametrize(("options", "status", "says", "verb"), WRONG)
def test_one_sentence_and_the_right_status(job, capsys, options, status, says, verb):
    before = sorted(job.rglob("*"))
    found = call(job, "predict" if verb == "both" else verb, *options)
    shown = capsys.readouterr()
    assert found == status, shown.err
    assert shown.out == ""
    assert re.fullmatch(r"vidprune: [^\n]+\n", shown.err)
    assert "Traceback" not in shown.err
    assert "(see --debug)" not in shown.err, "a sentence of ours, not a library's"
    for words in says:
        assert words in shown.err
    assert sorted(job.rglob("*")) == before


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


# --- in processes of their own ------------------------------------------------------------------


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("arguments", [[], *[[verb] for verb in VERBS]], ids=" ".join)
def test_help_needs_no_torch_and_is_there_at_once(arguments):
    code = f"""
import sys
from vidprune.cli import main
try:
    main({[*arguments, "--help"]!r})
except SystemExit as stopped:
    assert not stopped.code
print(sorted({{"torch", "transformers", "av", "numpy", "rich"}} & set(sys.modules)))
"""
    started = time.monotonic()
    process = start("-c", code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("usage: vidprune")
    assert out.splitlines()[-1] == "[]"
    assert time.monotonic() - started < 5


def test_a_wrong_command_in_a_process_says_one_line_and_no_more(job):
    command = ["predict", f"{job}/00.mp4", "--model", f"{job}/model", "--reducer", "sta:r=16"]
    process = start("-m", "vidprune", *command)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(r"vidprune: cannot drop 16 [^\n]+\n", err)


def test_a_reader_that_has_seen_enough_ends_it_quietly(job):
    videos = [f"{job}/00.mp4"] * 40
    process = start(
        *("-m", "vidprune", "predict", *videos, "--json", "--workers", "0", "--batch-size", "1"),
        *("--model", f"{job}/model", "--device", "cpu", "--top-k", "7"),
    )
    assert json.loads(process.stdout.readline())["video"] == f"{job}/00.mp4"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0


def interrupt_when(ready: Callable[[], bool], process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, which every process of a terminal's job hears; what stderr says then."""
    while not ready():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=60)[1]


def test_ctrl_c_ends_it_with_one_line_and_what_was_done_is_kept(job, tmp_path):
    listing = tmp_path / "test.csv"
    for number in range(300):
        (tmp_path / f"{number}.mp4").symlink_to(job / "00.mp4")
    listing.write_text("".join(f"{number}.mp4 0\n" for number in range(300)))
    output = tmp_path / "run"
    process = start(
        *("-m", "vidprune", "evaluate", "--data", str(listing), "--output", str(output)),
        *("--model", f"{job}/model", "--device", "cpu", "--workers", "2", "--batch-size", "1"),
        start_new_session=True,
    )
    journal = output / "views.jsonl"
    said = interrupt_when(lambda: journal.exists() and journal.stat().st_size > 1000, process)
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "vidprune: interrupted"
    assert "Traceback" not in said
    assert all(json.loads(line) for line in journal.read_text().splitlines())


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
