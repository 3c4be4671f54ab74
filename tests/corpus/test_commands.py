"""predict and embed over many videos, as a user runs them; killed, and on Ray."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

import vidprune
from vidprune.assembly import Assembly
from vidprune.cli import main
from vidprune.corpus.answers import Question
from vidprune.corpus.on_ray import OnRay
from vidprune.demo.clips import write_clips
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.video.guarded import Limits

OPTIONS = ("--model", "demo", "--reducer", "sta:r=2", "--shard-size", "5")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_clips(folder / "clips", per_class=1, seed=77)
    (folder / "clips" / "broken.mp4").write_text("no video")
    (folder / "clips" / "empty.webm").touch()
    return folder


def table(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(folder).to_pylist()
    return found


@pytest.fixture(scope="module")
def alone(corpus: Path) -> list[dict[str, Any]]:
    clips, output = str(corpus / "clips"), str(corpus / "alone")
    assert main(["predict", clips, *OPTIONS, "--output", output, "--workers", "0"]) == 1
    return table(corpus / "alone")


def test_answers_are_those_of_predict(
    corpus: Path, alone: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(alone) == 14
    assert main(["predict", str(corpus / "clips"), *OPTIONS[:4], "--json", "--workers", "0"]) == 1
    for line, row in zip(capsys.readouterr().out.splitlines(), alone, strict=True):
        told = json.loads(line)
        assert told["video"] == row["video"]
        assert told.get("error") == row["error"]
        assert [guess["label"] for guess in told.get("top", ())] == (row["labels"] or [])
        assert [guess["probability"] for guess in told.get("top", ())] == pytest.approx(
            row["probabilities"] or []
        )
        assert row["model"].startswith("demo ")
        assert row["reducer"] == "sta:r=2"


def test_decoders_beside_the_model_change_nothing(
    corpus: Path, alone: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(corpus / "clips"), *OPTIONS, "--output", str(corpus / "two")]
    assert main([*words, "--workers", "2"]) == 1
    out, err = capsys.readouterr()
    assert "14 videos in 3 shards, 2 with an error" in out
    assert "0 of 14 videos" in err
    assert table(corpus / "two") == alone


def test_embed_gives_vectors(corpus: Path) -> None:
    words = ["embed", str(corpus / "clips" / "growing"), "--model", "demo", "--reducer", "sta:r=2"]
    assert main([*words, "--output", str(corpus / "vectors"), "--each-view"]) == 0
    (row,) = table(corpus / "vectors")
    assert len(row["embedding"]) == 128
    assert row["view"] == 0


def command(corpus: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    words = ["predict", str(corpus / "clips"), *OPTIONS, "--output", str(output), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "vidprune", *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_command_goes_on_where_it_was(
    corpus: Path, alone: list[dict[str, Any]], tmp_path: Path, seed: int
) -> None:
    """The whole session of it, decoder and all, as if the machine were gone."""
    chance, kills = random.Random(seed), 0
    while True:
        process = command(corpus, tmp_path / "out", "--workers", "0")
        wanted = len(list(tmp_path.glob("out/part-*"))) + 1
        deadline = time.monotonic() + 120
        # Killed somewhere after it has a shard more, so that it ends at last.
        while len(list(tmp_path.glob("out/part-*"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.4))
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 1
    assert table(tmp_path / "out") == alone
    assert kills >= 1


@pytest.mark.slow
def test_ray_says_the_same(
    corpus: Path,
    alone: list[dict[str, Any]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one of its own, though another is named in the surroundings."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    words = ["predict", str(corpus / "clips"), *OPTIONS, "--output", str(tmp_path / "out"), "--ray"]
    assert main([*words, "--decoders", "2"]) == 1
    out, err = capfd.readouterr()
    assert "14 videos in 3 shards, 2 with an error" in out
    assert "WARNING" not in err
    assert "log level" not in err
    assert table(tmp_path / "out") == alone
    for number in (0, 2):
        (tmp_path / "out" / f"part-{number:08d}.parquet").unlink()
    assert main(words) == 1
    assert table(tmp_path / "out") == alone


def test_ray_that_is_not_there_is_said(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["predict", str(corpus / "clips"), *OPTIONS, "--output", str(tmp_path), "--ray"]
    assert main(words) == 1
    assert "pip install 'vidprune[corpus]'" in capsys.readouterr().err


def test_a_folder_of_another_job_is_kept(
    corpus: Path, alone: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus / "alone", tmp_path / "out")
    words = ["predict", str(corpus / "clips"), "--model", "demo", "--reducer", "sta:r=3"]
    assert main([*words, "--shard-size", "5", "--output", str(tmp_path / "out")]) == 2
    assert "reducer 'sta:r=2', not 'sta:r=3'" in capsys.readouterr().err
    assert table(tmp_path / "out") == alone


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--ray", "--workers", "2"], "--workers is for a job without Ray"),
        (["--ray", "--device", "cuda:1"], "--device cuda:1 is for a job without Ray"),
        (["--decoders", "2"], "--decoders is for Ray"),
        (["--json"], "--json is for a job without --output"),
        (["--models", "2"], "--models is for Ray"),
        (["--ray", "--decoders", "0"], "decoders=0 must be at least 1"),
        (["--top-k", "0"], "top_k=0 must be at least 1"),
        (["--shard-size", "0"], "--shard-size 0 must be at least 1"),
        (["--decode-seconds", "0"], "--decode-seconds 0 must be above 0"),
        (["--decode-gib", "nan"], "--decode-gib nan must be above 0"),
        (["--fetch-seconds", "-1"], "--fetch-seconds -1 must be above 0"),
        (["--fetch-gib", "0"], "--fetch-gib 0 must be above 0"),
        (["--workers", "-1"], "--workers -1 must be 0"),
        (["--address", "127.0.0.1:1"], "address='127.0.0.1:1' does not answer"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    given = ["predict", str(corpus / "clips"), "--model", "demo", "--output", str(tmp_path / "out")]
    assert main([*given, *words]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("out/part-*"))


@pytest.mark.parametrize(
    ("output", "says"), [("", "the path is empty"), ("memory://x", "is gone when the command ends")]
)
def test_answers_must_outlive_the_command(
    corpus: Path, capsys: pytest.CaptureFixture[str], output: str, says: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(corpus / "clips"), "--model", "demo", "--output", output])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--ray", "--restart", "--each-view", "--remote"])
def test_options_of_jobs_need_an_output(
    corpus: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert main(["predict", str(corpus / "clips"), "--model", "demo", option]) == 2
    assert f"{option} is for answers that go into a folder; add --output" in capsys.readouterr().err


def test_a_budget_by_content_is_handed_over_by_the_dozen(tmp_path: Path) -> None:
    """Each hand-over fills up a batch of every setting; one that the checkpoint records counts."""
    budget = "confidence:sta:r=33@0.5@none"
    vidprune.prune(vidprune.load("demo"), budget).save_pretrained(tmp_path)
    counts = []
    for source, reducer in (("demo", "sta:r=4"), ("demo", budget), (str(tmp_path), None)):
        assembly = Assembly(source=source, reducer=reducer, batch_size=4)
        limits = Limits(seconds=1, gib=1)
        protocol = protocol_for(vidprune.load("demo"), ViewOptions())
        engine = OnRay(
            assembly=assembly,
            protocol=protocol,
            question=Question(kind="classes"),
            limits=limits,
            fetch=limits,
        )
        counts.append(engine._videos_at_once())
    assert counts == [4, 64, 64]
