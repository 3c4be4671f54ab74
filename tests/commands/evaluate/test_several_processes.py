"""Evaluation under torchrun, whoever of its processes is lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation_job import KEYS, arguments, lasting, one_threaded, run, same, script
from vidprune import cli
from vidprune.holding import held
from vidprune.inference import clip_key

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def torchrun(
    *command: str, processes: int = 2, timeout: int = 100
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, str(processes), *command],
        env=one_threaded(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_several_processes_find_what_one_finds(job, tmp_path, capsys, processes):
    found = tmp_path / "found"
    done = torchrun("-m", "vidprune", *arguments(job, found), processes=processes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    assert cli.main(arguments(job, tmp_path / "alone")) == 0
    alone = tmp_path / "alone"
    assert (alone / "views.jsonl").read_bytes() == (found / "views.jsonl").read_bytes()
    assert lasting(found) == lasting(alone) | {"processes": processes}
    assert sorted(found.glob("views*")) == [found / "views.jsonl"]


LOST = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import evaluation_job as job
from vidprune.parallel import ProcessLost, join

def observe(progress):
    if progress.done and os.environ["RANK"] == {lost!r}:
        os.kill(os.getpid(), signal.SIGKILL)

process = join()
# Whoever started them need not be told of a loss, as torchrun is: another machine may be gone.
if os.environ["RANK"] != {lost!r}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    job.run(Path({job!r}), Path({output!r}), process=process, observe=observe)
except ProcessLost as error:
    Path({output!r}, f"said-{{process.rank}}").write_text(str(error))
    sys.exit(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["0", "2"])
def test_a_lost_process_ends_the_others_with_a_sentence_and_loses_nothing(
    job, tmp_path, undisturbed, run_keys, lost
):
    path, output = tmp_path / "script.py", tmp_path / "run"
    tests = str(Path(__file__).parents[2])
    path.write_text(LOST.format(tests=tests, job=str(job), output=str(output), lost=lost))
    ended = torchrun(str(path), processes=4)
    assert ended.returncode != 0
    said = {file.name: file.read_text() for file in output.glob("said-*")}
    assert sorted(said) == [f"said-{rank}" for rank in range(4) if str(rank) != lost]
    for sentence in said.values():
        assert sentence.startswith("another of the 4 processes is gone, so process ")
        assert "the same command, with any number of processes, goes on from there" in sentence
    there = sum(len(file.read_bytes().splitlines()) for file in output.glob("views*.jsonl"))
    assert there > 0
    run(job, output)
    assert len(run_keys) == len(KEYS) - there
    for file in output.glob("said-*"):
        file.unlink()
    assert same(output, undisturbed("sta:r=4"))


@pytest.mark.slow
def test_two_killed_processes_are_taken_up_by_one(job, tmp_path, undisturbed, run_keys):
    path = tmp_path / "script.py"
    path.write_text(script(job, tmp_path / "run", videos=2))
    assert torchrun(str(path)).returncode != 0
    output = tmp_path / "run"
    there = {
        (row["video"], row["view"])
        for journal in output.glob("views*.jsonl")
        for row in map(json.loads, journal.read_bytes().splitlines()[:-1])
    }
    assert there
    run(job, output)
    assert not {clip_key(*key) for key in there} & set(run_keys)
    assert same(output, undisturbed("sta:r=4"))


@pytest.mark.slow
def test_two_processes_end_where_the_folder_is_anothers(job, tmp_path):
    (tmp_path / "run.json").write_text('{"reducer": "none"}')
    refused = torchrun("-m", "vidprune", *arguments(job, tmp_path))
    assert refused.returncode != 0
    assert "belongs to another run" in refused.stderr
    assert "is gone" not in refused.stderr


@pytest.mark.slow
def test_two_processes_end_where_another_command_is_at_work(job, tmp_path):
    with held(tmp_path):
        refused = torchrun("-m", "vidprune", *arguments(job, tmp_path))
    assert refused.returncode != 0
    assert "another command is at work there" in refused.stderr
    assert "is gone" not in refused.stderr
    assert not list(tmp_path.iterdir())
