"""What another command left is kept beside what comes now."""

import json
from pathlib import Path

import pytest

from vidprune.cli import main
from vidprune.demo.clips import write_clips
from vidprune.earlier import set_aside


def texts(folder: Path) -> dict[str, str]:
    return {
        path.name: path.read_bytes().decode(errors="replace")
        for path in folder.iterdir()
        if path.is_file()
    }


def record(command: str) -> str:
    return json.dumps({"command": command})


def test_another_command_s_record_gets_a_number_with_what_is_called_like_it(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    (tmp_path / "curves.json").write_text(record("first"))
    (tmp_path / "curves.svg").write_text("drawn of the first")
    (tmp_path / "curves.1.svg").write_text("somebody's")
    (tmp_path / "other.json").write_text("other")
    set_aside(tmp_path / "curves.json", "second", told.append)
    assert texts(tmp_path) == {
        "curves.2.json": record("first"),
        "curves.2.svg": "drawn of the first",
        "curves.1.svg": "somebody's",
        "other.json": "other",
    }
    assert told == ["the curves.json that another command left there is curves.2.json now"]


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}"])
def test_a_record_of_nobody_knows_whom_is_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "curves.json").write_text(content)
    set_aside(tmp_path / "curves.json", "mine")
    assert texts(tmp_path) == {"curves.1.json": content}


def test_a_command_s_own_record_is_left(tmp_path: Path) -> None:
    set_aside(tmp_path / "curves.json", "mine")
    (tmp_path / "curves.json").write_text(record("mine"))
    set_aside(tmp_path / "curves.json", "mine")
    assert list(texts(tmp_path)) == ["curves.json"]


def test_curves_at_other_costs_keep_those_that_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over the same runs; the same command given again replaces its own."""
    write_clips(tmp_path / "clips", per_class=1, seed=5)
    words = ["curves", "--data", str(tmp_path / "clips"), "--model", "demo", "--reducer", "sta"]
    words += ["--no-alternatives", "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*words, "--at", "0.5"]) == 0
    first = (tmp_path / "out" / "curves.json").read_text()
    capsys.readouterr()
    for _ in range(2):
        assert main([*words, "--at", "0.3"]) == 0
    assert "another command left there is curves.1.json now" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (tmp_path / "out" / "curves.1.json").read_text() == first
    assert (tmp_path / "out" / "curves.1.svg").exists()
    assert not (tmp_path / "out" / "curves.2.json").exists()
    assert (tmp_path / "out" / "curves.json").read_text() != first


def test_a_benchmark_keeps_another_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", "--model", "demo", "--no-alternatives", "--batch-size", "1"]
    words += ["--repeats", "2", "--output", str(tmp_path)]
    assert main(words) == 0
    first = {name: texts(tmp_path)[f"benchmark.{name}"] for name in ("json", "csv", "md")}
    for _ in range(2):
        assert main([*words, "--reducer", "sta:r=16"]) == 0
    assert "another command left there is benchmark.1.json now" in capsys.readouterr().err
    assert {name: texts(tmp_path)[f"benchmark.1.{name}"] for name in first} == first
    assert not list(tmp_path.glob("benchmark.2.*"))
