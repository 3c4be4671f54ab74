"""The record of an evaluation."""

import json
from dataclasses import fields

from vidprune.report import Report

REPORT = Report(
    top1=None,
    top5=None,
    num_videos=0,
    unreadable=({"path": "ü.mp4", "reason": "no such file"},),
    not_finite=(),
    gmacs_per_view=1.5,
    views_per_video=15,
    videos_per_second=None,
    reducer="none",
    checkpoint="c",
    protocol={"segments": 5},
    data="d",
    dtype="float32",
    batch_size=8,
    processes=1,
    environment={"torch": "2"},
    command="vidprune evaluate",
    date="2026-01-01",
)


def test_json_holds_every_field():
    text = REPORT.to_json()
    record = json.loads(text)
    assert set(record) == {field.name for field in fields(Report)}
    assert record["unreadable"] == [{"path": "ü.mp4", "reason": "no such file"}]
    assert record["top1"] is None
    assert text.endswith("}\n")
