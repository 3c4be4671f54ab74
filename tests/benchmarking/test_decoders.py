"""The comparison of torchcodec's views with PyAV's, which is run by hand."""

import json

import decoders
import pytest
import torch

from tiny_job import drifting_images, write_video
from vidprune.video import PROTOCOLS, UnreadableVideo, Views

CPU = torch.device("cpu")


def views(level, frames=20):
    return Views(torch.full((1, 2, 3, 4, 4), level, dtype=torch.uint8), frames, ((0, 0),))


@pytest.mark.parametrize(
    ("theirs", "frames", "most", "mean", "same"),
    [(7, 20, 0, 0.0, True), (9, 20, 2, 2.0, True), (5, 20, 2, 2.0, True), (7, 19, 0, 0.0, False)],
)
def test_a_row_says_how_far_they_are_apart(monkeypatch, tmp_path, theirs, frames, most, mean, same):
    def read(path, protocol, *, decoder, device):
        return views(7) if decoder == "pyav" else views(theirs, frames)

    monkeypatch.setattr(decoders, "read_views", read)
    row = decoders.compared(tmp_path / "a.mp4", PROTOCOLS["single"], CPU, repeats=2)
    assert (row["most"], row["mean"], row["same_frames"]) == (most, mean, same)
    assert row["instead"] is None
    assert set(row["milliseconds"]) == {"pyav", "torchcodec"}


def test_what_cannot_be_read_is_told(monkeypatch, tmp_path):
    def read(path, protocol, *, decoder, device):
        raise UnreadableVideo(path, f"{decoder} cannot")

    monkeypatch.setattr(decoders, "read_views", read)
    row = decoders.compared(tmp_path / "a.mp4", PROTOCOLS["single"], CPU, repeats=1)
    assert row["refused"] == "pyav cannot"


def test_a_record_says_who_read_what(torchcodec, tmp_path, capsys):
    plain = write_video(tmp_path / "plain.mp4", drifting_images(0))
    other = write_video(tmp_path / "other.avi", drifting_images(0))
    output = tmp_path / "record.json"
    decoders.main([str(plain), str(other), "--repeats", "1", "--output", str(output)])
    record = json.loads(output.read_text())
    first, second = record["rows"]
    assert (first["file"], first["instead"], first["most"]) == ("plain.mp4", None, 0)
    assert second["instead"].endswith("not for torchcodec: its container is avi")
    assert second["most"] == 0
    assert record["environment"]["torchcodec"]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == record["rows"]
