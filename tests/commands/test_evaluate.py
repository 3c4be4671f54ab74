"""Evaluation end to end: honest numbers, and the same ones however often a run is cut off."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import tiny_job
from tiny_job import CLASSES, write_checkpoint, write_list
from vidprune import cli
from vidprune.backbones.checkpoints import load
from vidprune.commands.evaluate import evaluate, evaluate_each, model_digest
from vidprune.inference import Classifier, clip_key
from vidprune.macs import gmacs_per_view
from vidprune.parallel import Process
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune, unprune
from vidprune.reducers.spec import describe, parse
from vidprune.report import Progress, Report
from vidprune.video import Protocol, UnreadableVideo, read_list, read_views

VIDEOS, BROKEN, VIEWS = 9, 4, 4
GOOD = [f"{number:02d}.mp4" for number in range(VIDEOS) if number != BROKEN]
KEYS = [(name, view) for name in GOOD for view in range(VIEWS)]
REDUCERS = ("none", "sta:r=4", "random:r=4")
# What two runs of one job may differ in.
OF_THE_MOMENT = {"command", "date", "videos_per_second"}


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module", autouse=True)
def counted_once() -> Iterator[None]:
    """Counting arithmetic takes longer than these runs; all have models of one shape."""
    known: dict[str, float] = {}

    def count(model: PreTrainedModel) -> float:
        reducer = describe(model.reducer)
        if reducer not in known:
            known[reducer] = gmacs_per_view(model)
        return known[reducer]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vidprune.commands.evaluate.gmacs_per_view", count)
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `test.csv`: nine videos, of which one is broken."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=VIDEOS, broken=BROKEN)
    return folder


@pytest.fixture(scope="module")
def undisturbed(job: Path) -> Callable[[str], Path]:
    """The output of a whole run with a reducer, made once."""

    def run_once(reducer: str) -> Path:
        output = job / f"whole-{reducer.replace(':', '-')}"
        if not output.exists():
            run(job, output, reducer)
        return output

    return run_once


def classifier(
    job: Path, reducer: str, *, batch_size: int = 3, compiled: bool = False
) -> Classifier:
    model = load(job / "model")
    protocol = protocol_for(model, ViewOptions())
    return Classifier(prune(model, reducer), protocol, batch_size=batch_size, compiled=compiled)


def run(job: Path, output: Path, reducer: str = "sta:r=4", **options: Any) -> Report | None:
    names = {"checkpoint": "tiny", "data": "test.csv", "workers": 0}
    samples = read_list(job / "test.csv")
    return evaluate(classifier(job, reducer), samples, output=output, **names | options)


def rows_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "views.jsonl").read_bytes().splitlines()]


def lasting(output: Path) -> dict[str, Any]:
    """What a report says apart from when, how fast and by which words."""
    report = json.loads((output / "report.json").read_text())
    return {name: value for name, value in report.items() if name not in OF_THE_MOMENT}


def same(output: Path, other: Path) -> bool:
    ours, theirs = ((folder / "views.jsonl").read_bytes() for folder in (output, other))
    return ours == theirs and lasting(output) == lasting(other)


def stop_after(videos: int) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        if progress.done >= videos:
            raise Interrupted

    return observe


@pytest.fixture
def run_keys(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clip keys of all views that go through a model from here on."""
    seen: list[int] = []
    start = Classifier.start

    def count(self: Classifier, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        seen.extend(clip_keys)
        return start(self, clips, clip_keys)

    monkeypatch.setattr(Classifier, "start", count)
    return seen


# --- the numbers --------------------------------------------------------------------------------


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


# --- what goes wrong ----------------------------------------------------------------------------


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


# --- cut off and taken up again -----------------------------------------------------------------


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("videos", [0, 1, 5, 8, 9])
def test_a_run_cut_off_goes_on_without_repeating_a_view(
    job, tmp_path, undisturbed, run_keys, reducer, videos
):
    whole = undisturbed(reducer)
    run_keys.clear()
    with pytest.raises(Interrupted):
        run(job, tmp_path, reducer, observe=stop_after(videos))
    # What a batch holds beyond the view that was just written was run, but not kept.
    kept = (tmp_path / "views.jsonl").read_bytes().count(b"\n") if videos else 0
    run_keys.clear()
    report = run(job, tmp_path, reducer)
    assert len(run_keys) == len(KEYS) - kept
    assert run_keys == [clip_key(*key) for key in KEYS[kept:]]
    assert same(tmp_path, whole)
    assert (report.videos_per_second is None) == (kept == len(KEYS))


def test_cut_off_again_and_again_in_the_middle_of_videos_and_lines(
    job, tmp_path, undisturbed, run_keys
):
    whole = (undisturbed("random:r=4") / "views.jsonl").read_bytes()
    run(job, tmp_path, "random:r=4")
    for cut in range(0, len(whole), len(whole) // 7):
        (tmp_path / "views.jsonl").write_bytes(whole[:cut])
        run_keys.clear()
        run(job, tmp_path, "random:r=4")
        assert run_keys == [clip_key(*key) for key in KEYS[whole[:cut].count(b"\n") :]]
        assert same(tmp_path, undisturbed("random:r=4"))


def test_a_finished_run_runs_nothing_again(job, tmp_path, undisturbed, run_keys):
    run(job, tmp_path)
    before = (tmp_path / "views.jsonl").read_bytes()
    run_keys.clear()
    report = run(job, tmp_path)
    assert run_keys == []
    assert (tmp_path / "views.jsonl").read_bytes() == before
    assert report.unreadable[0]["path"] == "04.mp4"


def test_a_finished_run_looked_at_elsewhere_still_says_where_it_ran(job, tmp_path, monkeypatch):
    first = run(job, tmp_path)
    there = {"device": "another", "cpu": "one"}
    monkeypatch.setattr("vidprune.commands.evaluate.environment", lambda device: there)
    again = run(job, tmp_path, command="later")
    assert again == first
    views = tmp_path / "views.jsonl"
    views.write_text("".join(views.read_text().splitlines(keepends=True)[:-1]))
    more = run(job, tmp_path, command="later")
    assert (more.environment, more.command, more.top1) == (there, "later", first.top1)


def test_restart_runs_everything_again(job, tmp_path, run_keys):
    run(job, tmp_path)
    run_keys.clear()
    run(job, tmp_path, restart=True)
    assert len(run_keys) == len(KEYS)


def test_decoding_beside_the_model_changes_nothing(job, tmp_path, undisturbed):
    run(job, tmp_path, "random:r=4", workers=2)
    assert same(tmp_path, undisturbed("random:r=4"))


def test_a_share_of_several_processes_is_taken_up_by_another_number(
    job, tmp_path, undisturbed, run_keys, monkeypatch
):
    with pytest.raises(Interrupted):
        run(job, tmp_path, observe=stop_after(2))
    with monkeypatch.context() as patched:
        patched.setattr(Process, "wait_for_all", lambda self: None)
        patched.setattr(Process, "gather", lambda self, item: [item])
        for rank in (1, 2):
            assert run(job, tmp_path, process=Process(rank=rank, count=3)) is None
    run_keys.clear()
    run(job, tmp_path)
    # The first process, of one, had done videos 0 and 1; of three, the others did all but 0, 3, 6.
    assert run_keys == [clip_key(*key) for key in KEYS if key[0] in ("03.mp4", "06.mp4")]
    assert same(tmp_path, undisturbed("sta:r=4"))
    assert sorted(tmp_path.glob("views*")) == [tmp_path / "views.jsonl"]


@pytest.mark.parametrize(("local_count", "workers"), [(1, 8), (3, 0), (50, 0)])
def test_processes_of_one_machine_share_its_cores(job, tmp_path, monkeypatch, local_count, workers):
    """And where few are left to a model, it decodes in between."""
    asked = []

    def classify(classifiers: object, requests: object, *, workers: int) -> Iterator[None]:
        asked.append(workers)
        return iter(())

    monkeypatch.setattr("vidprune.commands.evaluate.usable_cores", lambda: 8)
    monkeypatch.setattr("vidprune.commands.evaluate.classify_with_each", classify)
    run(job, tmp_path, workers=None, process=Process(local_count=local_count))
    assert asked == [workers]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos in the order in which they are decoded."""
    names: list[str] = []

    def read(path: Path, protocol: Protocol) -> Any:
        names.append(path.name)
        return read_views(path, protocol)

    monkeypatch.setattr("vidprune.inference.read_views", read)
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
    with pytest.raises(ValueError, match="give them one protocol and one batch size"):
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


def test_attention_of_another_kind_makes_another_run(job: Path, tmp_path: Path) -> None:
    run(job, tmp_path)
    assert "attention" not in json.loads((tmp_path / "run.json").read_text())
    eager = classifier(job, "sta:r=4")
    eager.model.set_attn_implementation("eager")
    given = {"output": tmp_path, "checkpoint": "tiny", "data": "test.csv"}
    with pytest.raises(FileExistsError, match="made with attention None, not 'eager'"):
        evaluate(eager, read_list(job / "test.csv"), **given)
    report = evaluate(eager, read_list(job / "test.csv"), **given, restart=True)
    assert report is not None
    assert report.attention == "eager"
    with pytest.raises(FileExistsError, match="made with attention 'eager', not None"):
        run(job, tmp_path)


def test_a_compiled_model_makes_another_run(job: Path, tmp_path: Path) -> None:
    """Its last bits are others."""
    run(job, tmp_path)
    assert "compiled" not in json.loads((tmp_path / "run.json").read_text())
    compiled = classifier(job, "sta:r=4", compiled=True)
    with pytest.raises(FileExistsError, match="made with compiled None, not True"):
        evaluate(
            compiled,
            read_list(job / "test.csv"),
            output=tmp_path,
            checkpoint="tiny",
            data="test.csv",
        )


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from commands import test_evaluate as job
from vidprune.parallel import join

def observe(progress):
    if progress.done >= {videos}:
        rank = os.environ.get("RANK", "0")
        name = "views.jsonl" if rank == "0" else f"views.{{rank}}.jsonl"
        with (Path({output!r}) / name).open("a") as journal:
            journal.write('{{"video": "a line cut o')
        os.kill(os.getpid(), signal.SIGKILL)

job.run(Path({job!r}), Path({output!r}), process=join(), observe=observe)
"""


def script(job: Path, output: Path, *, videos: int) -> str:
    tests = str(Path(__file__).parents[1])
    return SCRIPT.format(tests=tests, job=str(job), output=str(output), videos=videos)


def one_threaded() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def test_a_killed_process_loses_nothing_that_it_said_it_had(job, tmp_path, undisturbed, run_keys):
    command = [sys.executable, "-c", script(job, tmp_path, videos=3)]
    killed = subprocess.run(command, env=one_threaded(), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run(job, tmp_path)
    assert run_keys == [clip_key(*key) for key in KEYS if key[0] > "02.mp4"]
    assert same(tmp_path, undisturbed("sta:r=4"))


# --- several processes --------------------------------------------------------------------------

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def arguments(job: Path, output: Path) -> list[str]:
    return [
        "evaluate",
        *("--data", str(job / "test.csv"), "--model", str(job / "model"), "--output", str(output)),
        *("--reducer", "sta:r=4", "--batch-size", "3", "--workers", "0", "--device", "cpu"),
    ]


def torchrun(
    *command: str, processes: int = 2, timeout: int = 100
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, str(processes), *command],
        env=one_threaded(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_several_processes_find_what_one_finds(job, tmp_path, capsys, processes):
    found = tmp_path / "found"
    done = torchrun("-m", "vidprune", *arguments(job, found), processes=processes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top-1") == 1
    assert cli.main(arguments(job, tmp_path / "alone")) == 0
    alone = tmp_path / "alone"
    assert (alone / "views.jsonl").read_bytes() == (found / "views.jsonl").read_bytes()
    assert lasting(found) == lasting(alone) | {"processes": processes}
    assert sorted(found.glob("views*")) == [found / "views.jsonl"]


LOST = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from commands import test_evaluate as job
from vidprune.parallel import ProcessLost, join

def observe(progress):
    if progress.done and os.environ["RANK"] == {lost!r}:
        os.kill(os.getpid(), signal.SIGKILL)

process = join()
# Whoever started them need not be told of a loss, as torchrun is: another machine may be gone.
if os.environ["RANK"] != {lost!r}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    job.run(Path({job!r}), Path({output!r}), process=process, observe=observe)
except ProcessLost as error:
    Path({output!r}, f"said-{{process.rank}}").write_text(str(error))
    sys.exit(1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["0", "2"])
def test_a_lost_process_ends_the_others_with_a_sentence_and_loses_nothing(
    job, tmp_path, undisturbed, run_keys, lost
):
    path, output = tmp_path / "script.py", tmp_path / "run"
    tests = str(Path(__file__).parents[1])
    path.write_text(LOST.format(tests=tests, job=str(job), output=str(output), lost=lost))
    ended = torchrun(str(path), processes=4)
    assert ended.returncode != 0
    said = {file.name: file.read_text() for file in output.glob("said-*")}
    assert sorted(said) == [f"said-{rank}" for rank in range(4) if str(rank) != lost]
    for sentence in said.values():
        assert sentence.startswith("another of the 4 processes is gone, so process ")
        assert "the same command, with any number of processes, goes on from there" in sentence
    there = sum(len(file.read_bytes().splitlines()) for file in output.glob("views*.jsonl"))
    assert there > 0
    run(job, output)
    assert len(run_keys) == len(KEYS) - there
    for file in output.glob("said-*"):
        file.unlink()
    assert same(output, undisturbed("sta:r=4"))


@pytest.mark.slow
def test_two_killed_processes_are_taken_up_by_one(job, tmp_path, undisturbed, run_keys):
    path = tmp_path / "script.py"
    path.write_text(script(job, tmp_path / "run", videos=2))
    assert torchrun(str(path)).returncode != 0
    output = tmp_path / "run"
    there = {
        (row["video"], row["view"])
        for journal in output.glob("views*.jsonl")
        for row in map(json.loads, journal.read_bytes().splitlines()[:-1])
    }
    assert there
    run(job, output)
    assert not {clip_key(*key) for key in there} & set(run_keys)
    assert same(output, undisturbed("sta:r=4"))


@pytest.mark.slow
def test_two_processes_end_where_the_folder_is_anothers(job, tmp_path):
    (tmp_path / "run.json").write_text('{"reducer": "none"}')
    refused = torchrun("-m", "vidprune", *arguments(job, tmp_path))
    assert refused.returncode != 0
    assert "belongs to another run" in refused.stderr


# --- whose folder it is -------------------------------------------------------------------------


def test_a_folder_of_another_run_is_refused(job, undisturbed):
    output = undisturbed("sta:r=4")
    before = (output / "views.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="belongs to another run") as caught:
        run(job, output, reducer="none")
    assert "reducer 'sta:r=4', not 'none'" in str(caught.value)
    assert (output / "views.jsonl").read_bytes() == before


def test_a_checkpoint_is_known_by_its_content_and_not_by_its_path(job, undisturbed):
    output = undisturbed("sta:r=4")
    before = (output / "views.jsonl").read_bytes()
    assert run(job, output, checkpoint="elsewhere").checkpoint == "elsewhere"
    assert (output / "views.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 4},
        {"layer_norm_eps": 1e-3},
        {"image_mean": [0.1, 0.1, 0.1], "image_std": [1.0, 1.0, 1.0]},
    ],
)
def test_models_of_equal_weights_are_told_apart(job, tmp_path, change):
    same_weights = load(write_checkpoint(tmp_path, **change))
    assert model_digest(same_weights) != model_digest(load(job / "model"))


def test_models_of_another_fixed_table_are_told_apart(job):
    ours, other = load(job / "model"), load(job / "model")
    other.videomae.embeddings.position_embeddings += 1
    assert model_digest(other) != model_digest(ours)


def test_models_of_other_positions_are_told_apart(job):
    digests = {
        model_digest(load(job / "model", frames=8, positions=rule))
        for rule in ("interpolate", "recompute")
    }
    assert len(digests) == 2


def test_a_model_is_itself_wherever_it_lies_and_however_its_classes_are_called(job, tmp_path):
    ours = load(job / "model")
    names = [f"class {number}" for number in range(CLASSES)]
    moved = load(write_checkpoint(tmp_path / "moved"), labels=names)
    assert model_digest(moved) == model_digest(ours) == model_digest(prune(ours, "sta:r=4"))


def test_a_run_in_8_bits_is_another_run_and_says_so(job, tmp_path, undisturbed):
    pytest.importorskip("torchao")
    protocol = protocol_for(load(job / "model"), ViewOptions())

    def in_8_bits() -> Classifier:
        return Classifier(prune(load(job / "model", quantize="int8"), None), protocol, batch_size=3)

    samples = read_list(job / "test.csv")
    names = {"checkpoint": "tiny", "data": "test.csv", "workers": 0}
    with pytest.raises(FileExistsError, match="quantized None, not 'int8'"):
        evaluate(in_8_bits(), samples, output=undisturbed("none"), **names)
    report = evaluate(in_8_bits(), samples, output=tmp_path, **names)
    assert (report.quantized, report.num_videos) == ("int8", VIDEOS - 1)
    assert json.loads((tmp_path / "run.json").read_text())["quantized"] == "int8"
    assert "quantized" not in json.loads((undisturbed("none") / "run.json").read_text())
    before = (tmp_path / "views.jsonl").read_bytes()
    evaluate(in_8_bits(), samples, output=tmp_path, **names)
    assert (tmp_path / "views.jsonl").read_bytes() == before
    with pytest.raises(FileExistsError, match="quantized 'int8', not None"):
        run(job, tmp_path, reducer="none")


def test_models_in_8_bits_are_told_apart_by_what_their_weights_are_made_of(job):
    pytest.importorskip("torchao")
    ours, again, other = (load(job / "model", quantize="int8") for _ in range(3))
    other.videomae.encoder.layer[0].output.dense.weight.scale.mul_(2)
    assert model_digest(again) == model_digest(ours) == model_digest(prune(ours, "sta:r=4"))
    assert len({*map(model_digest, (ours, other, load(job / "model")))}) == 3


# --- beside the report --------------------------------------------------------------------------


def test_parquet_holds_what_the_lines_hold(job, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(job, tmp_path, parquet=True)
    rows = parquet.read_table(tmp_path / "views.parquet").to_pylist()
    lines = rows_of(tmp_path)
    assert [list(row) for row in rows] == [list(line) for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert np.array_equal(row.pop("logits"), np.float32(line.pop("logits")))
        assert row == line


def test_tensorboard_shows_the_accuracy_so_far(job, tmp_path, capsys):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert cli.main([*arguments(job, tmp_path), "--tensorboard"]) == 0
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert {"accuracy/top1", "accuracy/top5", "unreadable"} <= set(events.Tags()["scalars"])
    report = lasting(tmp_path)
    for name in ("top1", "top5"):
        last = events.Scalars(f"accuracy/{name}")[-1]
        assert last.step == VIDEOS
        assert last.value == pytest.approx(report[name], rel=1e-6)
    assert events.Scalars("unreadable")[-1].value == 1


def test_progress_counts_every_video_once(job, tmp_path):
    seen: list[Progress] = []
    run(job, tmp_path, observe=seen.append)
    assert [progress.done for progress in seen] == list(range(VIDEOS + 1))
    assert {progress.total for progress in seen} == {VIDEOS}
    assert [progress.unreadable for progress in seen] == [0] * 5 + [1] * 5
    assert asdict(seen[-1].accuracy).items() <= lasting(tmp_path).items()
    again: list[Progress] = []
    run(job, tmp_path, observe=again.append)
    assert [progress.done for progress in again] == [VIDEOS - 1, VIDEOS]


def test_the_command_says_what_it_found(job, tmp_path, capsys):
    assert cli.main(arguments(job, tmp_path)) == 0
    shown = capsys.readouterr()
    assert f"{lasting(tmp_path)['top1']:.2f} %" in shown.out
    assert "unreadable: 04.mp4: " in shown.err
    assert "9/9" in shown.err


def class_folders(job, tmp_path, names):
    """A folder for each name, holding the job's second clip, and arguments that evaluate them."""
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "clip.mp4").symlink_to(job / "01.mp4")
    changed = arguments(job, tmp_path / "run")
    changed[2] = str(tmp_path / "data")
    return changed


def test_class_folders_take_the_labels_of_the_names_they_bear(job, tmp_path, capsys):
    (tmp_path / "names.txt").write_text("zero\none\nTwo steps\nthree\nfour\nfive\nsix\n")
    changed = class_folders(job, tmp_path, ["two_steps", "six"])
    assert cli.main([*changed, "--labels", str(tmp_path / "names.txt")]) == 0
    labels = {row["video"]: row["label"] for row in rows_of(tmp_path / "run")}
    assert labels == {"two_steps/clip.mp4": 2, "six/clip.mp4": 6}


@pytest.mark.parametrize(
    ("labels", "says"),
    [(True, "left, right is none of the model's classes"), (False, "holds 2 class folders")],
)
def test_class_folders_that_say_nothing_of_labels_are_refused(job, tmp_path, capsys, labels, says):
    (tmp_path / "names.txt").write_text("".join(f"class {n}\n" for n in range(7)))
    changed = class_folders(job, tmp_path, ["left", "right"])
    named = ["--labels", str(tmp_path / "names.txt")] if labels else []
    assert cli.main([*changed, *named]) == 2
    assert says in capsys.readouterr().err
