"""The command line in processes of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from vidprune import cli

VERBS = tuple(cli.VERBS)


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
