"""Runs against each other: paired by name, on the same videos, with every figure recounted."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_job
from test_metrics import spearman_by_loops
from tiny_job import CLASSES, write_checkpoint, write_list
from vidprune import cli
from vidprune.commands.compare import compare
from vidprune.intervals import METHOD, mcnemar

VIDEOS, BROKEN = 9, 4
Scores = dict[str, list[list[float]]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


def evaluate(folder: Path, name: str, *options: str) -> Path:
    common = ("--data", f"{folder}/test.csv", "--output", f"{folder}/{name}", "--workers", "0")
    model = ("--model", f"{folder}/model", "--device", "cpu")
    assert cli.main(["evaluate", *common, *model, *options]) == 0
    return folder / name


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of `evaluate` on nine videos, one of them broken: 4 views, 4 pruned, 1 view."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=VIDEOS, broken=BROKEN)
    evaluate(folder, "dense")
    evaluate(folder, "pruned", "--reducer", "sta:r=8")
    evaluate(folder, "cheap", "--segments", "1", "--crops", "1")
    return folder


def softmax(logits: Any) -> np.ndarray:
    exponentials = np.exp(np.array(logits) - np.max(logits))
    return exponentials / exponentials.sum()


def scores_of(run: Path) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Probabilities and labels of a run, by numpy."""
    rows = [json.loads(line) for line in (run / "views.jsonl").read_text().splitlines()]
    labels = {row["video"]: row["label"] for row in rows}
    views = {n: [softmax(r["logits"]) for r in rows if r["video"] == n] for n in labels}
    return {name: np.mean(scores, 0) for name, scores in views.items()}, labels


def write_run(
    folder: Path, scores: Scores, *, labels: dict[str, int] | None = None, **changes: Any
) -> Path:
    """The folder of a run in which videos have these logits by view; None: it has no report."""
    folder.mkdir(parents=True)
    views = len(next(iter(scores.values()), [[]]))
    report = {
        "checkpoint": "tiny",
        "reducer": "none",
        "dtype": "float32",
        "protocol": {"segments": views},
        "gmacs_per_view": 2.5,
        "views_per_video": views,
        "num_videos": len(scores),
        "unreadable": [],
        "environment": {"device": "cpu", "cpu": "a processor"},
        "command": "vidprune evaluate",
    } | changes
    rows = [
        {"video": name, "view": view, "label": (labels or {}).get(name, 0), "logits": logits}
        for name, all_logits in scores.items()
        for view, logits in enumerate(all_logits)
    ]
    (folder / "run.json").write_text("{}")
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "views.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def one_hot(*classes: int) -> Scores:
    """One view of each video, with these classes on top of three."""
    return {f"{v}.mp4": [[float(c == k) for k in range(3)]] for v, c in enumerate(classes)}


def strict_json(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# --- the numbers --------------------------------------------------------------------------------


def test_every_figure_is_that_of_the_views_by_numpy(job):
    found = compare([job / "dense", job / "pruned"])
    (dense, labels), (pruned, _) = scores_of(job / "dense"), scores_of(job / "pruned")
    right, kept = (
        np.array([scores[name].argmax() == labels[name] for name in labels])
        for scores in (dense, pruned)
    )
    first, second = found.runs
    assert found.num_videos == len(labels) == VIDEOS - 1
    assert found.num_classes == CLASSES
    assert (first.top1, second.top1) == (100 * right.mean(), 100 * kept.mean())
    assert second.change.points.value == pytest.approx(second.top1 - first.top1)
    assert second.change.lost == (right & ~kept).sum()
    assert second.change.gained == (kept & ~right).sum()
    same = [dense[name].argmax() == pruned[name].argmax() for name in labels]
    moved = [(dense[name] * np.log(dense[name] / pruned[name])).sum() for name in labels]
    orders = [spearman_by_loops(dense[name].tolist(), pruned[name].tolist()) for name in labels]
    assert 0 < np.mean(same) < 1, "an agreement that can be wrong"
    assert second.nearness.agreement.value == pytest.approx(100 * np.mean(same))
    assert second.nearness.kl_nats.value == pytest.approx(np.mean(moved))
    assert second.nearness.rank_correlation.value == pytest.approx(np.mean(orders))


def test_top_1_is_that_of_the_reports(job):
    for run in compare([job / "dense", job / "pruned", job / "cheap"]).runs:
        report = json.loads((Path(run.run) / "report.json").read_text())
        assert run.top1 == pytest.approx(report["top1"])


def test_a_run_with_fewer_views_stands_beside_pruned_ones_with_all_that_it_costs(job):
    dense, pruned, cheap = compare([job / "dense", job / "pruned", job / "cheap"]).runs
    assert (dense.change, dense.nearness) == (None, None)
    assert (dense.views_per_video, pruned.views_per_video, cheap.views_per_video) == (4, 4, 1)
    assert cheap.gmacs_per_view == dense.gmacs_per_view > pruned.gmacs_per_view
    assert cheap.gmacs_per_video == dense.gmacs_per_video / 4
    assert pruned.gmacs_per_video == 4 * pruned.gmacs_per_view
    assert cheap.nearness.kl_nats.value > 0
    assert (pruned.reducer, cheap.reducer) == ("sta:r=8", "none")
    assert "--segments 1" in cheap.command


def test_pairs_are_made_by_name_whatever_the_order(tmp_path):
    labels = {f"{video}.mp4": video % 3 for video in range(6)}
    scores = one_hot(0, 1, 2, 0, 2, 1)
    first = write_run(tmp_path / "a", scores, labels=labels)
    turned = dict(reversed(scores.items()))
    second = write_run(tmp_path / "b", turned, labels=labels)
    _, row = compare([first, second]).runs
    assert row.nearness.agreement.value == 100
    assert row.top1 == pytest.approx(100 * 4 / 6)
    assert (row.change.lost, row.change.gained) == (0, 0)


def test_what_was_lost_and_gained_goes_into_mcnemars_test(tmp_path):
    first = write_run(tmp_path / "a", one_hot(*[0] * 15, *[1] * 5))
    second = write_run(tmp_path / "b", one_hot(*[0] * 6, *[1] * 9, *[0] * 1, *[1] * 4))
    _, row = compare([first, second]).runs
    assert (row.change.lost, row.change.gained) == (9, 1)
    assert row.change.p_value == mcnemar(9, 1)
    assert row.change.points.value == -40
    assert -70 < row.change.points.low < -50 < -25 < row.change.points.high < 0
    _, back = compare([second, first]).runs
    assert (back.change.lost, back.change.gained) == (1, 9)


def test_views_come_from_all_journals_of_processes(tmp_path):
    scores = one_hot(0, 1, 2)
    first = write_run(tmp_path / "a", scores)
    second = write_run(tmp_path / "b", scores)
    lines = (second / "views.jsonl").read_text().splitlines(keepends=True)
    (second / "views.jsonl").write_text(lines[1])
    (second / "views.1.jsonl").write_text(lines[0] + lines[2])
    assert compare([first, second]).runs[1].nearness.agreement.value == 100


def test_logits_that_overflowed_are_misses_and_the_record_stays_json(tmp_path):
    scores = one_hot(0, 0, 0, 0)
    first = write_run(tmp_path / "a", scores)
    overflowed = scores | {"1.mp4": [[float("nan")] * 3]}
    second = write_run(tmp_path / "b", overflowed)
    everywhere = write_run(tmp_path / "c", {name: [[float("inf")] * 3] for name in scores})
    found = compare([first, second, everywhere])
    _, some, all_of_them = found.runs
    assert (some.top1, some.not_finite, some.nearness.not_finite) == (75, 1, 1)
    assert (some.change.lost, some.nearness.agreement.value) == (1, 75)
    assert some.nearness.kl_nats.value == 0
    assert (all_of_them.top1, all_of_them.nearness.kl_nats) == (0, None)
    assert strict_json(found.to_json()) == json.loads(json.dumps(asdict(found)))


# --- videos that cannot be read -----------------------------------------------------------------


def test_what_one_run_could_not_read_is_left_out_of_all_and_named(tmp_path):
    scores = one_hot(0, 0, 1, 1)
    first = write_run(tmp_path / "a", scores)
    fewer = {name: views for name, views in scores.items() if name != "3.mp4"}
    broken = [{"path": "3.mp4", "reason": "broken"}]
    second = write_run(tmp_path / "b", fewer, unreadable=broken)
    fewest = {name: views for name, views in fewer.items() if name != "0.mp4"}
    both = [{"path": "0.mp4", "reason": "broken"}, *broken]
    third = write_run(tmp_path / "c", fewest, unreadable=both)
    found = compare([first, second, third])
    assert (found.num_videos, sorted(found.left_out)) == (2, ["0.mp4", "3.mp4"])
    assert [run.top1 for run in found.runs] == [50, 50, 50]
    assert compare([first, second]).runs[0].top1 == pytest.approx(200 / 3)


def test_views_from_before_a_video_broke_are_no_video(tmp_path):
    scores = {name: views * 2 for name, views in one_hot(0, 1).items()}
    first = write_run(tmp_path / "a", scores)
    broken = [{"path": "1.mp4", "reason": "broken"}]
    half = scores | {"1.mp4": scores["1.mp4"][:1]}
    second = write_run(tmp_path / "b", half, num_videos=1, unreadable=broken)
    assert compare([first, second]).left_out == ("1.mp4",)


# --- the command --------------------------------------------------------------------------------


def test_the_record_as_json(job, capsys):
    assert cli.main(["compare", f"{job}/dense", f"{job}/pruned", "--json"]) == 0
    record = strict_json(capsys.readouterr().out)
    assert [run["run"] for run in record["runs"]] == [f"{job}/dense", f"{job}/pruned"]
    assert record["left_out"] == ["04.mp4"]
    assert record["command"] == f"vidprune compare {job}/dense {job}/pruned --json"
    assert record["intervals"] == METHOD
    change = record["runs"][1]["change"]
    assert change["points"]["low"] <= change["points"]["value"] <= change["points"]["high"]
    assert 0 <= change["p_value"] <= 1


def test_a_table_for_people(job, capsys):
    runs = [f"{job}/{name}" for name in ("dense", "pruned", "cheap")]
    assert cli.main(["compare", *runs]) == 0
    shown = capsys.readouterr()
    assert "8 videos, 7 classes, 1 unreadable left out" in shown.out
    assert "sta:r=8" in shown.out
    assert "4 x 0.0" in shown.out
    assert shown.err == ""


def test_overflow_is_said(tmp_path, capsys):
    first = write_run(tmp_path / "a", one_hot(0, 1))
    second = write_run(tmp_path / "b", one_hot(0) | {"1.mp4": [[float("nan")] * 3]})
    assert cli.main(["compare", str(first), str(second)]) == 0
    assert f"1 videos of {second} count as misses" in capsys.readouterr().err


def other_videos(folder: Path) -> None:
    write_run(folder, one_hot(0, 1, 1))


def other_labels(folder: Path) -> None:
    write_run(folder, one_hot(0, 1), labels={"1.mp4": 2})


def other_classes(folder: Path) -> None:
    write_run(folder, {name: [[1.0, 0.0]] for name in one_hot(0, 1)})


def nothing_there(folder: Path) -> None:
    folder.mkdir()


def no_report(folder: Path) -> None:
    (write_run(folder, one_hot(0, 1)) / "report.json").unlink()


def taken_up_again(folder: Path) -> None:
    write_run(folder, one_hot(0, 1), num_videos=1)


def half_a_video(folder: Path) -> None:
    scores = {name: views * 2 for name, views in one_hot(0, 1).items()}
    write_run(folder, scores | {"2.mp4": [[1.0, 0.0, 0.0]]})
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(report | {"num_videos": 2}))


def foreign_report(folder: Path) -> None:
    (write_run(folder, one_hot(0, 1)) / "report.json").write_text('{"top1": 3}')


def broken_report(folder: Path) -> None:
    (write_run(folder, one_hot(0, 1)) / "report.json").write_text("{")


def no_logits(folder: Path) -> None:
    row = {"video": "0.mp4", "view": 0, "label": 0}
    (write_run(folder, one_hot(0, 1)) / "views.jsonl").write_text(json.dumps(row) + "\n")


def a_logit_short(folder: Path) -> None:
    rows = [
        {"video": "0.mp4", "view": 0, "label": 0, "logits": [1.0, 0.0, 0.0]},
        {"video": "1.mp4", "view": 0, "label": 1, "logits": [1.0, 0.0]},
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (write_run(folder, one_hot(0, 1)) / "views.jsonl").write_text("".join(lines))


def nothing_readable(folder: Path) -> None:
    broken = [{"path": name, "reason": "broken"} for name in one_hot(0, 1)]
    write_run(folder, {}, unreadable=broken)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (other_videos, ("different videos", "'2.mp4' is only in", "runs of one list")),
        (other_labels, ("'1.mp4' differently, 0 and 2", "runs of one list")),
        (other_classes, ("predict 3 and 2 classes", "one set of classes")),
        (nothing_there, ("holds no run.json", "--output")),
        (no_report, ("is not finished", "no report.json", "evaluate command again")),
        (taken_up_again, ("not finished", "counts 1 videos", "views of 2", "again")),
        (half_a_video, ("is not finished", "evaluate command again")),
        (foreign_report, ("not the record of an evaluation", "--restart")),
        (broken_report, ("not the record of an evaluation", "--restart")),
        (no_logits, ("view 0 of '0.mp4' has no logits", "--restart")),
        (a_logit_short, ("view 0 of '1.mp4' has 2 logits where others have 3", "--restart")),
        (nothing_readable, ("share no video", "unreadable")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("first", [True, False])
def test_what_cannot_be_compared_is_refused_in_one_sentence(tmp_path, capsys, make, says, first):
    good = write_run(tmp_path / "good", one_hot(0, 1))
    make(tmp_path / "bad")
    runs = [str(good), str(tmp_path / "bad")]
    assert cli.main(["compare", *(runs if not first else runs[::-1])]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert "see --debug" not in shown.err
    if make in (other_labels, other_classes) and first:
        says = says[1:]
    for words in says:
        assert words in shown.err


@pytest.mark.parametrize("runs", [[], ["one"]])
def test_one_run_is_nothing_to_compare(runs, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *runs])
    assert stopped.value.code == 2
    assert "required: RUN" in capsys.readouterr().err
