"""However often an evaluation is cut off, its numbers are the same, and no view is run twice."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from evaluation_job import KEYS, REDUCERS, Interrupted, one_threaded, run, same, script, stop_after
from vidprune.inference import clip_key
from vidprune.parallel import Process


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


def test_a_killed_process_loses_nothing_that_it_said_it_had(job, tmp_path, undisturbed, run_keys):
    command = [sys.executable, "-c", script(job, tmp_path, videos=3)]
    killed = subprocess.run(command, env=one_threaded(), capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run(job, tmp_path)
    assert run_keys == [clip_key(*key) for key in KEYS if key[0] > "02.mp4"]
    assert same(tmp_path, undisturbed("sta:r=4"))
