"""The recipe for masked pre-training: what it hides, what it learns, and what it hands on."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

import vidprune
from vidprune.demo.clips import write_clips
from vidprune.layout import TokenGrid

pytest.importorskip("accelerate")
RECIPE = Path(__file__).parents[2] / "recipes" / "masked_pretraining" / "train.py"


@pytest.fixture(scope="module")
def recipe() -> dict:
    return runpy.run_path(str(RECIPE))


def run(recipe: dict, *options: str) -> None:
    before = sys.argv
    sys.argv = ["train.py", *options, "--workers", "0", "--size", "32"]
    try:
        recipe["main"]()
    finally:
        sys.argv = before


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def test_tubes_hide_the_same_places_in_every_frame(recipe: dict) -> None:
    torch.manual_seed(0)
    hidden = recipe["tube_mask"](5, TokenGrid(frames=4, rows=3, columns=10), 0.1)
    by_frame = hidden.view(5, 4, 30)
    assert (by_frame == by_frame[:, :1]).all()
    assert ((~hidden).sum(1) == 4 * 3).all()
    assert len({tuple(row.tolist()) for row in by_frame[:, 0]}) > 1


@pytest.mark.slow
def test_it_learns_goes_on_and_hands_its_encoder_on(recipe: dict, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", per_class=1, seed=5)
    (tmp_path / "clips" / "test.csv").rename(tmp_path / "clips" / "train.csv")
    options = ("--model", "demo", "--data", str(tmp_path / "clips"), "--batch-size", "6")
    options += ("--decoder-layers", "1", "--decoder-width", "32", "--plain-pixels")
    options += ("--save-every", "1", "--repeats", "1", "--learning-rate", "3e-3")
    run(recipe, *options, "--epochs", "20", "--output", str(tmp_path / "run"))
    found = losses(tmp_path / "run")
    assert found[-1] < 0.8 * found[0]
    demo, learned = vidprune.load("demo", size=32), vidprune.load(tmp_path / "run" / "model")
    assert learned.config.image_size == 32
    assert learned.config.id2label == demo.config.id2label
    name = "videomae.encoder.layer.3.intermediate.dense.weight"
    assert not torch.equal(demo.state_dict()[name], learned.state_dict()[name])
    assert torch.equal(demo.classifier.weight, learned.classifier.weight)
    listed = (tmp_path / "run" / "videos.txt").read_text().splitlines()
    assert len(listed) == 12
    # Nothing is left to do: the same command does it, and keeps what was learned.
    run(recipe, *options, "--epochs", "20", "--output", str(tmp_path / "run"))
    again = vidprune.load(tmp_path / "run" / "model").state_dict()
    assert all(torch.equal(again[name], value) for name, value in learned.state_dict().items())
    # Other videos are another run, and the list of what was learned from stays true.
    write_clips(tmp_path / "others", per_class=1, seed=6)
    (tmp_path / "others" / "test.csv").rename(tmp_path / "others" / "train.csv")
    others = [*options]
    others[others.index("--data") + 1] = str(tmp_path / "others")
    with pytest.raises(FileExistsError, match="videos"):
        run(recipe, *others, "--epochs", "20", "--output", str(tmp_path / "run"))
    assert (tmp_path / "run" / "videos.txt").read_text().splitlines() == listed
