"""What a search is not asked, and what it is not given: one sentence each, and nothing is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch

import vidprune
from vidprune.cli import main
from vidprune.commands.tune import Asked, Sighted, tune
from vidprune.holding import held
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.tuning.search import Budget
from vidprune.tuning.target import Target


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--drop-points", "1"], "counts top-1, which needs labels"),
        (["--gmacs", "3"], "gmacs=3 leaves nothing to save: the dense model takes 2.04"),
        (["--gmacs", "1", "--check-share", "1"], "check_share=1 must lie between 0 and 1"),
        (["--gmacs", "1", "--trials", "0"], "trials=0 must be at least 1"),
        (["--gmacs", "1", "--minutes", "0"], "--minutes 0 must be above 0"),
        (["--gmacs", "1", "--method", "newest"], "reducer 'newest' is not known"),
        (["--gmacs", "1", "--method", "sta:r=4"], "says r, which the search is to find"),
        (["--gmacs", "1", "--method", "none"], "method none drops nothing"),
        (["--gmacs", "1", "--seed", "-1"], "seed=-1 must lie between 0 and 4294967295"),
        (["--gmacs", "1", "--source", "("], "source='('"),
        (["--agreement", "99"], "cannot be shown by the 8 videos of the search"),
        (["--agreement", "100"], "no number of videos does"),
        (["--latency-ms", "9", "--by-content", "confidence"], "a budget by content has none"),
    ],
)
def test_bad_input_gets_a_sentence(
    videos: Path, tmp_path: Path, words: list[str], sentence: str, capsys: Any
) -> None:
    given = ["tune", "--data", *map(str, sorted(videos.rglob("*.mp4"))), "--model", "demo"]
    assert main([*given, *words, "--workers", "0", "--output", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err


def test_videos_that_are_not_there_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--data", str(tmp_path / "nothing"), "--model", "demo", "--gmacs", "1"]
    assert main([*words, "--workers", "0", "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "0 videos can be read and 1 not, such as" in said
    assert "there is no such file" in said


def test_a_folder_is_for_one_search_at_a_time(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tune", "--data", str(videos), "--model", "demo", "--gmacs", "1.5", "--trials", "1"]
    with held(tmp_path):
        assert main([*words, "--workers", "0", "--output", str(tmp_path)]) == 2
    assert "another command is at work there" in capsys.readouterr().err


def test_where_the_dense_model_s_answers_are_no_numbers_there_is_nothing_to_find(
    videos: Path, tmp_path: Path
) -> None:
    model = vidprune.load("demo")
    torch.nn.init.constant_(model.classifier.weight, float("nan"))
    sighted = [Sighted(str(path), path) for path in sorted(videos.rglob("*.mp4"))]
    asked = Asked(target=Target(kind="gmacs", value=1.1), budget=Budget(trials=1))
    with pytest.raises(ValueError, match=r"logits are not finite for 12 of 12 videos"):
        tune(
            model,
            protocol_for(model, ViewOptions()),
            sighted,
            asked,
            output=tmp_path,
            checkpoint="demo",
            workers=0,
        )
    assert not list(tmp_path.iterdir())
