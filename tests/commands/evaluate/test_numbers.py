"""Evaluation gives honest numbers, and says what is wrong."""

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from evaluation_job import KEYS, REDUCERS, VIDEOS, VIEWS, classifier, lasting, rows_of, run
from tiny_job import CLASSES
from vidprune.backbones.checkpoints import load
from vidprune.commands.evaluate import evaluate
from vidprune.inference import Classifier, clip_key
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.report import Report
from vidprune.video import UnreadableVideo, read_list, read_views


@pytest.mark.parametrize("reducer", REDUCERS)
def test_accuracy_is_that_of_the_views_by_numpy(undisturbed, reducer):
    output = undisturbed(reducer)
    scores: dict[str, list[Any]] = {}
    labels = {}
    for row in rows_of(output):
        logits = np.array(row["logits"])
        exponentials = np.exp(logits - logits.max())
        scores.setdefault(row["video"], []).append(exponentials / exponentials.sum())
        labels[row["video"]] = row["label"]
    order = {name: np.argsort(-np.mean(views, 0)).tolist() for name, views in scores.items()}
    ranks = np.array([order[name].index(label) for name, label in labels.items()])
    report = lasting(output)
    assert report["top1"] == pytest.approx(100 * np.mean(ranks < 1))
    assert report["top5"] == pytest.approx(100 * np.mean(ranks < 5))
    assert 0 < report["top5"] < 100, "an accuracy that can be wrong"


@pytest.mark.parametrize("reducer", REDUCERS)
def test_logits_are_those_of_the_model_on_each_view(job, undisturbed, reducer):
    model = prune(load(job / "model"), reducer)
    protocol = protocol_for(model, ViewOptions())
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    rows = rows_of(undisturbed(reducer))
    assert [(row["video"], row["view"]) for row in rows] == KEYS
    for row in rows[::3]:
        clip = read_views(job / row["video"], protocol).pixels[row["view"]]
        keys = {"clip_keys": torch.tensor([clip_key(row["video"], row["view"])])}
        with torch.no_grad():
            pixels = ((clip.float() / 255 - mean) / std)[None]
            logits = model(pixels, **keys if reducer != "none" else {}).logits[0]
        torch.testing.assert_close(torch.tensor(row["logits"]), logits, rtol=1e-4, atol=1e-4)
        assert (row["segment"], row["crop"]) == protocol.views[row["view"]]
        assert row["label"] == int(row["video"][:2]) % CLASSES


def test_the_report_says_what_was_done(undisturbed):
    report = json.loads((undisturbed("sta:r=4") / "report.json").read_text())
    assert set(report) == {field.name for field in fields(Report)}
    assert (report["num_videos"], report["views_per_video"]) == (VIDEOS - 1, VIEWS)
    assert [video["path"] for video in report["unreadable"]] == ["04.mp4"]
    assert report["unreadable"][0]["reason"]
    assert (report["reducer"], report["checkpoint"]) == ("sta:r=4", "tiny")
    assert report["videos_per_second"] > 0
    assert report["environment"]["torch"] == torch.__version__
    dense = json.loads((undisturbed("none") / "report.json").read_text())
    assert 0 < report["gmacs_per_view"] < dense["gmacs_per_view"]


def test_pruning_changes_the_views(undisturbed):
    logits = [[row["logits"] for row in rows_of(undisturbed(reducer))] for reducer in REDUCERS]
    assert logits[0] != logits[1] != logits[2] != logits[0]


def test_strict_stops_at_the_first_unreadable_video(job, tmp_path):
    with pytest.raises(UnreadableVideo, match=r"04\.mp4"):
        run(job, tmp_path / "run", strict=True)
    assert not (tmp_path / "run" / "report.json").exists()
    done = [(row["video"], row["view"]) for row in rows_of(tmp_path / "run")]
    assert done == KEYS[: len(done)]


def test_a_label_outside_the_head_is_refused_before_anything_is_written(job, tmp_path):
    listing = job / "wide.csv"
    listing.write_text("00.mp4 6\n01.mp4 7\n")
    with pytest.raises(ValueError, match=r"label 7 of 01\.mp4 is outside the head's 7 classes"):
        evaluate(
            classifier(job, "none"),
            read_list(listing),
            output=tmp_path / "run",
            checkpoint="tiny",
            data="wide.csv",
        )
    assert not (tmp_path / "run").exists()


def test_videos_of_which_none_can_be_read_have_no_accuracy(job, tmp_path):
    (job / "none.csv").write_text("04.mp4 0\ngone.mp4 1\n")
    report = evaluate(
        classifier(job, "none"),
        read_list(job / "none.csv"),
        output=tmp_path,
        checkpoint="tiny",
        data="none.csv",
        parquet=True,
    )
    assert (report.top1, report.top5, report.num_videos) == (None, None, 0)
    assert [video["path"] for video in report.unreadable] == ["04.mp4", "gone.mp4"]
    assert report.videos_per_second is None


def test_logits_that_are_not_numbers_are_no_hits(job, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Classifier, "start", lambda self, clips, keys: torch.full((len(clips), 7), torch.nan)
    )
    report = run(job, tmp_path)
    assert (report.top1, report.top5) == (0.0, 0.0)
