"""The demo's mechanics on a few clips; how good its model is, is measured elsewhere."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import tiny_job
from vidprune import cli
from vidprune.commands.demo import REDUCERS, RIVALS
from vidprune.demo.clips import CLASSES


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


def test_a_few_clips_give_a_table_and_a_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vidprune.commands.demo._BATCH_SIZE", 4)
    monkeypatch.setattr("vidprune.commands.demo._TIMED_BATCHES", 1)
    assert cli.main(["demo", "--output", str(tmp_path), "--per-class", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(CLASSES)} generated clips" in shown
    rows = json.loads((tmp_path / "demo.json").read_text())["rows"]
    assert all(f" {row['reducer']}" in shown for row in rows)
    picture = Image.open(tmp_path / "kept-tokens.png")
    assert (np.asarray(picture) == 255).all(-1).any()
    clips = sorted((tmp_path / "clips").rglob("*.mp4"))
    assert len(clips) == len(CLASSES)
    assert "random" in RIVALS
    # Dense, and for each reducer itself, its rivals, fewer frames and fewer pixels.
    assert len(rows) == 1 + len(REDUCERS) * (1 + len(RIVALS) + 2)
    assert len({(row["reducer"], row["frames"], row["size"]) for row in rows}) == len(rows)
    assert " 12 frames" in shown
    assert " 56 pixels" in shown


def test_no_clips_are_refused(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path), "--per-class", "0"]) == 2
    assert "per_class=0 must be at least 1" in capsys.readouterr().err
