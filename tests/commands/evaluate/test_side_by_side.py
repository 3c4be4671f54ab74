"""Several reducers of one model over one pass."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation_job import BROKEN, REDUCERS, VIDEOS, VIEWS, classifier, same
from vidprune.commands.evaluate import evaluate_each
from vidprune.inference import Classifier
from vidprune.pruned import prune, unprune
from vidprune.reducers.spec import describe, parse
from vidprune.report import Report
from vidprune.video import Protocol, UnreadableVideo, read_list, read_views


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos in the order in which they are decoded."""
    names: list[str] = []

    def read(path: Path, protocol: Protocol, **how: Any) -> Any:
        names.append(path.name)
        return read_views(path, protocol, **how)

    monkeypatch.setattr("vidprune.reading.read_views", read)
    return names


def run_each(job: Path, output: Path, **options: Any) -> dict[Path, Report]:
    """The three reducers over the same weights."""
    first = classifier(job, "none")
    dense = unprune(first.model)
    return evaluate_each(
        {
            output / reducer.replace(":", "-"): Classifier(
                prune(dense, reducer), first.protocol, batch_size=3
            )
            for reducer in REDUCERS
        },
        read_list(job / "test.csv"),
        **{"checkpoint": "tiny", "data": "test.csv", "workers": 0} | options,
    )


def test_reducers_side_by_side_decode_once_and_say_what_each_says_alone(
    job: Path, tmp_path: Path, undisturbed: Callable[[str], Path], decoded: list[str]
) -> None:
    whole = {reducer: undisturbed(reducer) for reducer in REDUCERS}
    decoded.clear()
    reports = run_each(job, tmp_path)
    assert decoded == [sample.path.name for sample in read_list(job / "test.csv")]
    assert [report.reducer for report in reports.values()] == [
        describe(parse(reducer)) for reducer in REDUCERS
    ]
    for output, alone in zip(reports, whole.values(), strict=True):
        assert same(output, alone)
    assert all(report.videos_per_second is None for report in reports.values())


def test_reducers_that_have_come_unequally_far_each_go_on(
    job: Path, tmp_path: Path, undisturbed: Callable[[str], Path], decoded: list[str]
) -> None:
    """One has all of its videos, one the first video, one nothing."""
    whole = {reducer: undisturbed(reducer) for reducer in REDUCERS}
    shutil.copytree(whole["none"], tmp_path / "none")
    shutil.copytree(whole["sta:r=4"], tmp_path / "sta-r=4")
    views = tmp_path / "sta-r=4" / "views.jsonl"
    views.write_text("".join(views.read_text().splitlines(keepends=True)[:VIEWS]))
    decoded.clear()
    reports = run_each(job, tmp_path)
    for output, alone in zip(reports, whole.values(), strict=True):
        assert same(output, alone)
    # What cannot be read is tried again by each.
    assert decoded.count(f"{BROKEN:02d}.mp4") == 3
    assert decoded.count("00.mp4") == 1
    assert decoded.count(f"{VIDEOS - 1:02d}.mp4") == 2


def test_a_folder_of_another_run_is_refused_before_any_reducer_runs(
    job: Path, tmp_path: Path, undisturbed: Callable[[str], Path], decoded: list[str]
) -> None:
    shutil.copytree(undisturbed("none"), tmp_path / "random-r=4")
    decoded.clear()
    with pytest.raises(FileExistsError, match=r"random-r=4 belongs to another run"):
        run_each(job, tmp_path)
    assert not decoded


def test_classifiers_that_cannot_share_a_pass_are_refused_and_lose_nothing(
    job: Path, tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    shutil.copytree(undisturbed("none"), tmp_path / "none")
    before = (tmp_path / "none" / "views.jsonl").read_bytes()
    with pytest.raises(ValueError, match="give them one batch_size"):
        evaluate_each(
            {
                tmp_path / "none": classifier(job, "none"),
                tmp_path / "sta": classifier(job, "sta:r=4", batch_size=2),
            },
            read_list(job / "test.csv"),
            checkpoint="tiny",
            data="test.csv",
            restart=True,
        )
    assert (tmp_path / "none" / "views.jsonl").read_bytes() == before


def test_side_by_side_too_a_strict_run_stops_at_what_cannot_be_read(
    job: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableVideo, match=f"{BROKEN:02d}.mp4"):
        run_each(job, tmp_path, strict=True)
    # What was done until then is there, alike for all.
    kept = [(tmp_path / name / "views.jsonl").read_text() for name in ("none", "sta-r=4")]
    assert [text.count("\n") for text in kept] == [kept[0].count("\n")] * 2
    assert 0 < kept[0].count("\n") <= BROKEN * VIEWS


def test_side_by_side_restart_forgets_what_is_there(
    job: Path, tmp_path: Path, decoded: list[str]
) -> None:
    run_each(job, tmp_path)
    decoded.clear()
    run_each(job, tmp_path)
    assert decoded == [f"{BROKEN:02d}.mp4"], "tried again, and nothing else"
    decoded.clear()
    run_each(job, tmp_path, restart=True)
    assert len(decoded) == VIDEOS
