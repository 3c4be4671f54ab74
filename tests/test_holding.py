"""Two commands in one folder: the second is told, nothing is lost, no lock outlives its owner."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import evaluation_job as job
from tiny_job import write_checkpoint, write_list
from vidprune import cli
from vidprune.holding import LOCK, held
from vidprune.parallel import Process
from vidprune.runs import RunFolder

HOLDS = """
import sys, time
from pathlib import Path
from vidprune.holding import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that has the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_and_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    first = holder(tmp_path)
    try:
        with pytest.raises(FileExistsError, match=r"another command is at work there.*wait until"):
            held(tmp_path).__enter__()
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert not list(tmp_path.iterdir())


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path):
        pass


def test_of_processes_that_share_a_run_the_first_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(Process, "gather", lambda process, each: [*told, each])
    folders = [RunFolder(tmp_path / "run", Process(rank=rank, count=2)) for rank in (0, 1)]
    with folders[0].held(), folders[1].held():
        assert (tmp_path / "run" / LOCK).exists()
    with pytest.raises(FileExistsError, match="at work"), held(tmp_path / "run"):
        folders[0].held().__enter__()
    told.append(FileExistsError("the first was refused"))
    with pytest.raises(FileExistsError, match="the first was refused"):
        folders[1].held().__enter__()
    with pytest.raises(FileExistsError, match="the first was refused"):
        folders[1].claim({})


def commands(folder: Path) -> dict[str, list[str]]:
    model = ["--model", str(folder / "model"), "--device", "cpu", "--workers", "0"]
    data = ["--data", str(folder / "test.csv")]
    return {
        "evaluate": ["evaluate", *data, *model],
        "curves": ["curves", *data, *model, "--reducer", "sta", "--at", "0.7"],
        "predict": ["predict", str(folder / "00.mp4"), *model],
        "embed": ["embed", str(folder / "00.mp4"), *model],
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=2)
    return folder


@pytest.mark.parametrize("verb", ["evaluate", "curves", "predict", "embed"])
def test_every_command_keeps_to_it(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with held(tmp_path):
        words = [*commands(files)[verb], "--output", str(tmp_path), "--restart"]
        assert cli.main(words) == cli.USAGE
    assert "another command is at work there" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_finished_output_takes_the_same_command_again(
    files: Path, tmp_path: Path, verb: str
) -> None:
    words = [*commands(files)[verb], "--output", str(tmp_path)]
    assert cli.main(words) == 0
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert LOCK not in there
    assert cli.main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(there)


@pytest.mark.parametrize("verbs", [("evaluate", "predict"), ("predict", "evaluate")])
def test_answers_and_runs_do_not_share_a_folder(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verbs: tuple[str, str]
) -> None:
    first, second = ([*commands(files)[verb], "--output", str(tmp_path)] for verb in verbs)
    assert cli.main(first) == 0
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for more in ([], ["--restart"]):
        assert cli.main([*second, *more]) == cli.USAGE
        assert "do not share a folder; name another one" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there


def test_a_second_evaluation_loses_nothing_of_the_first(files: Path, tmp_path: Path) -> None:
    """It comes while the first is under way, and would throw all away."""
    refused = []

    def observe(progress: object) -> None:
        with pytest.raises(FileExistsError, match="at work"):
            job.run(files, tmp_path, restart=True)
        refused.append(progress)

    report = job.run(files, tmp_path, observe=observe)
    assert report is not None
    assert report.num_videos == 2
    assert len(refused) == 3
