"""Rows over videos: which views each takes, and how near each comes to dense on all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel
from transformers.utils import logging

import tiny_job
from tiny_job import write_checkpoint, write_list
from vidprune.backbones.checkpoints import load
from vidprune.benchmarking import videos as module
from vidprune.benchmarking.contest import Candidate
from vidprune.benchmarking.end_to_end import Entrant
from vidprune.benchmarking.report import BenchmarkRow, Setting, Speed
from vidprune.benchmarking.videos import over_videos
from vidprune.inference import Unreadable
from vidprune.metrics import nearness
from vidprune.pruned import prune
from vidprune.video import PROTOCOLS

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_checkpoint(folder / "fewer-classes", num_labels=3)
    write_list(folder / "videos", videos=4, broken=1)
    return folder


@pytest.fixture
def videos(job: Path) -> list[Path]:
    return [job / "videos" / f"{number:02d}.mp4" for number in range(4)]


@pytest.fixture
def raced(monkeypatch: pytest.MonkeyPatch) -> list[Entrant]:
    """Everyone who takes part, noted; nobody is run a second time."""
    seen: list[Entrant] = []
    race = module.race

    def note(entrants: Sequence[Entrant], *arguments: Any, **options: Any) -> Any:
        seen.extend(entrants)
        return race(entrants, *arguments, passes=1, **options)

    monkeypatch.setattr(module, "race", note)
    return seen


def row(model: PreTrainedModel, dense: float, **changes: Any) -> tuple[BenchmarkRow, Candidate]:
    found = Candidate(model, "eager", 5, CPU)
    frames, _, size, _ = found.run.shape[1:]
    setting: dict[str, Any] = {
        "checkpoint": "model",
        "frames": frames,
        "size": size,
        "reducer": "none",
        "matched": None,
        "dtype": "fp32",
        "batch_size": 5,
        "mode": "eager",
    }
    gmacs = found.costs.gmacs_per_view
    return (
        BenchmarkRow(
            setting=Setting(**setting | changes),
            gmacs_per_view=gmacs,
            gmacs_dense=dense or gmacs,
            tokens=found.costs.tokens,
            speed=_SPEED,
        ),
        found,
    )


_SPEED = Speed(
    clips_per_second=1.0,
    latency_p50_ms=1.0,
    latency_p95_ms=1.0,
    latencies_ms=(1.0,),
    spread=0.0,
    peak_memory_mib=None,
    speed_up=1.0,
    speed_up_low=1.0,
    speed_up_high=1.0,
    efficiency=1.0,
    account_ms=None,
    selection_share=None,
    bound_ms=None,
)


def field(job: Path, *reducers: str) -> tuple[list[BenchmarkRow], list[Candidate]]:
    """The dense model and reducers, all of one checkpoint."""
    model = load(job / "model")
    first = row(prune(model, None), 0)
    gmacs = first[0].gmacs_per_view
    others = [row(prune(model, text), gmacs, reducer=text) for text in reducers]
    rows, candidates = zip(first, *others, strict=True)
    return list(rows), list(candidates)


def test_each_row_gets_its_speed_and_its_nearness(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=8", "random:r=8")
    found, unreadable = over_videos(rows, candidates, videos, workers=0, fewer_views=False)
    assert [replace(row, end_to_end=None, nearness=None) for row in found] == rows
    assert all(row.end_to_end and row.end_to_end.views_per_video == 4 for row in found)
    assert found[0].nearness is None
    assert all(row.nearness for row in found[1:])
    assert found[1].nearness != found[2].nearness
    assert unreadable == [Unreadable(str(videos[1]), unreadable[0].reason)]


def test_a_reducer_that_drops_nothing_is_as_near_as_can_be(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=0")
    found, _ = over_videos(rows, candidates, videos, workers=0)
    assert len(found) == 2
    near = found[1].nearness
    assert near is not None
    assert near.kl_nats is not None
    assert near.agreement is not None
    assert (near.agreement.value, near.kl_nats.value) == (100, 0)


def test_nearness_is_to_the_answers_of_the_dense_model(
    job: Path, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, candidates = field(job, "random:r=8")
    answers: list[Any] = []
    race = module.race

    def note(*arguments: Any, **options: Any) -> Any:
        finishes, unreadable = race(*arguments, passes=1, **options)
        answers.extend(finish.probabilities for finish in finishes)
        return finishes, unreadable

    monkeypatch.setattr(module, "race", note)
    found, _ = over_videos(rows, candidates, videos, workers=0)
    dense, *others = answers
    assert [row.nearness for row in found] == [None, *(nearness(dense, it) for it in others)]


# --- fewer views --------------------------------------------------------------------------------


def test_for_each_reducer_the_dense_model_takes_as_many_views_as_cost_the_same(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=8", "sta:r=2")
    found, _ = over_videos(rows, candidates, videos, workers=0)
    shares = [row.gmacs_per_view / row.gmacs_dense for row in rows[1:]]
    counts = [round(4 * share) for share in shares]
    assert counts == [2, 3]
    fewer = found[len(rows) :]
    assert [row.setting.views for row in fewer] == counts
    assert [row.setting.matched for row in fewer] == ["sta:r=8", "sta:r=2"]
    for added, entrant in zip(fewer, raced[len(rows) :], strict=True):
        assert added.speed is None
        assert added.reason is None
        assert added.setting == replace(
            rows[0].setting, matched=added.setting.matched, views=added.setting.views
        )
        assert added.gmacs_per_view == rows[0].gmacs_per_view
        assert added.end_to_end is not None
        assert added.end_to_end.views_per_video == added.setting.views == len(entrant.views)
        assert entrant.classifier is raced[0].classifier
        assert added.nearness is not None
    assert raced[len(rows)].views == (0, 3)


@pytest.mark.parametrize(
    ("reducers", "matched", "added"),
    [
        (("sta:r=8", "random:r=8"), None, 1),
        (("sta:r=8",), "tome:r=8", 0),
        (("sta:r=0",), None, 0),
    ],
)
def test_what_needs_no_row_of_its_own_gets_none(
    job: Path,
    videos: list[Path],
    raced: list[Entrant],
    reducers: tuple[str, ...],
    matched: str | None,
    added: int,
) -> None:
    """The same number of views once, none for rivals, none where all views cost as little."""
    rows, candidates = field(job, *reducers)
    rows[1:] = [replace(r, setting=replace(r.setting, matched=matched)) for r in rows[1:]]
    found, _ = over_videos(rows, candidates, videos, workers=0)
    assert len(found) == len(rows) + added
    assert [row.setting.matched for row in found[len(rows) :]] == [*reducers[:added]]


def test_fewer_views_can_be_left_out(job: Path, videos: list[Path], raced: list[Entrant]) -> None:
    rows, candidates = field(job, "sta:r=8")
    assert len(over_videos(rows, candidates, videos, workers=0, fewer_views=False)[0]) == 2


# --- which views --------------------------------------------------------------------------------


def test_every_model_takes_views_of_its_own_frames_and_size(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job)
    for changes in ({"size": 24}, {"frames": 8}):
        other = row(prune(load(job / "model", **changes), None), rows[0].gmacs_dense)
        rows.append(other[0])
        candidates.append(other[1])
    found, _ = over_videos(rows, candidates, videos, workers=0)
    shapes = [(e.classifier.protocol.frames, e.classifier.protocol.size) for e in raced]
    assert shapes == [(16, 32), (16, 24), (8, 32)]
    assert all(e.classifier.protocol.sampling == "segment" for e in raced)
    assert all(row.nearness for row in found[1:])


@pytest.mark.parametrize(
    ("checkpoint", "frames", "stride"),
    [("model", 8, 8), ("model", 12, 5), ("another", 8, 4), ("model", 16, 4)],
)
def test_fewer_frames_of_the_same_model_speak_of_the_same_time(
    job: Path,
    videos: list[Path],
    raced: list[Entrant],
    checkpoint: str,
    frames: int,
    stride: int,
) -> None:
    rows, candidates = field(job)
    model = prune(load(job / "model", frames=frames), None)
    other = row(model, rows[0].gmacs_dense, checkpoint=checkpoint, matched="sta:r=8")
    over_videos([*rows, other[0]], [*candidates, other[1]], videos, protocol="k400", workers=0)
    dense, found = (entrant.classifier.protocol for entrant in raced)
    assert dense == replace(PROTOCOLS["k400"], size=32)
    assert found == replace(PROTOCOLS["k400"], size=32, frames=frames, stride=stride)


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_model_of_other_classes_is_near_to_nothing(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job)
    other = row(prune(load(job / "fewer-classes"), None), 0, checkpoint="fewer-classes")
    found, _ = over_videos([*rows, other[0]], [*candidates, other[1]], videos, workers=0)
    assert found[1].end_to_end is not None
    assert found[1].nearness is None


def test_what_could_not_be_timed_is_not_run(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=8", "random:r=8")
    candidates[1].reason = "RuntimeError: no room"
    found, _ = over_videos(rows, candidates, videos, workers=0, fewer_views=False)
    assert found[1] == rows[1]
    assert len(raced) == 2
    assert found[2].nearness is not None


def test_without_the_dense_model_there_is_nothing_to_be_near_to(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=8", "random:r=8")
    candidates[0].reason = "RuntimeError: no room"
    found, _ = over_videos(rows, candidates, videos, workers=0)
    assert [row.nearness for row in found] == [None] * 3
    assert [row.end_to_end is not None for row in found] == [False, True, True]


def test_where_nothing_runs_nothing_is_decoded(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job)
    candidates[0].reason = "RuntimeError: no room"
    assert over_videos(rows, candidates, videos) == (rows, [])
    assert raced == []


def test_where_no_video_can_be_read_rows_stay_as_they_are(
    job: Path, videos: list[Path], raced: list[Entrant]
) -> None:
    rows, candidates = field(job, "sta:r=8")
    found, unreadable = over_videos(rows, candidates, videos[1:2], workers=0)
    assert found == rows
    assert [video.name for video in unreadable] == [str(videos[1])]
