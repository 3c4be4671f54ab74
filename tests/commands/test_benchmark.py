"""What a benchmark compares, in which order, and what its record says. Speed is not judged here."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging

import tiny_job
from tiny_job import write_checkpoint, write_list
from vidprune.backbones.checkpoints import configuration, load
from vidprune.benchmarking import contest as contest_module
from vidprune.benchmarking import rates as rates_module
from vidprune.benchmarking import videos as benchmark_videos
from vidprune.benchmarking.end_to_end import race
from vidprune.benchmarking.report import Benchmark, BenchmarkRow
from vidprune.commands import benchmark as module
from vidprune.commands.agreement import agreement
from vidprune.commands.benchmark import Plan, Subject, benchmark, subjects, write
from vidprune.inference import Classifier
from vidprune.macs import costs, gmacs_per_view
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def small_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine does at best is measured on something small."""
    monkeypatch.setattr(rates_module, "_SIDE", 32)
    monkeypatch.setattr(rates_module, "_COPIED_BYTES", 2**16)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `small` and `videos` 00.mp4 to 03.mp4, of which 01.mp4 is broken."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_checkpoint(folder / "small", num_hidden_layers=3)
    write_list(folder / "videos", videos=4, broken=1)
    return folder


def make_plain(patch: pytest.MonkeyPatch) -> None:
    """No compiling, no second pass over videos: modes are names, passes are one."""
    eager = contest_module.forward_in
    patch.setattr(
        contest_module, "forward_in", lambda model, mode, keys: eager(model, "eager", keys)
    )
    patch.setattr(benchmark_videos, "race", partial(race, passes=1))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    make_plain(monkeypatch)


def plan(job: Path, **options: Any) -> Plan:
    settings: dict[str, Any] = {
        "models": (f"{job}/model",),
        "reducers": ("sta:r=8",),
        "against": ("random",),
        "batch_sizes": (2,),
        "repeats": 2,
        "workers": 0,
    }
    return Plan(**settings | options)


def videos(job: Path) -> tuple[Path, ...]:
    return tuple(job / "videos" / f"{number:02d}.mp4" for number in range(4))


def run(job: Path, **options: Any) -> Benchmark:
    return benchmark(plan(job, **options), device=CPU, command="vidprune benchmark")


# --- what is compared ---------------------------------------------------------------------------


def test_rivals_and_cheaper_dense_models_stand_beside_each_reducer(job: Path) -> None:
    checkpoint = f"{job}/model"
    found = subjects(plan(job, reducers=("sta:r=8", "sta:r=2")), checkpoint)
    dense = Subject(checkpoint, 16, 32)
    assert found[0] == dense
    assert found[1] == replace(dense, reducer="sta:r=8")
    matched = [subject for subject in found if subject.matched == "sta:r=8"]
    assert [subject.reducer for subject in matched] == ["random:r=8", "none", "none"]
    assert [(subject.frames, subject.size) for subject in matched] == [(16, 32), (8, 32), (16, 24)]
    assert {subject.matched for subject in found} == {None, "sta:r=8", "sta:r=2"}


def test_what_is_matched_costs_about_as_much(job: Path) -> None:
    config = configuration(f"{job}/model")
    wanted = costs(config, "sta:r=8").gmacs_per_view
    for subject in subjects(plan(job), f"{job}/model"):
        if subject.matched:
            shape = configuration(subject.checkpoint, frames=subject.frames, size=subject.size)
            assert costs(shape, subject.reducer).gmacs_per_view == pytest.approx(wanted, rel=0.2)


def test_a_rival_closes_the_gaps_that_the_reducer_closes() -> None:
    name, reducers = "swin3d_t", ("sta:r=256", "sta:r=320")
    asked = Plan(models=(name,), reducers=reducers, against=("random",), alternatives=False)
    found = {subject.matched: subject.reducer for subject in subjects(asked, name)}
    assert found == {None: "sta:r=320", "sta:r=256": "random:r=256", "sta:r=320": "random:r=320"}


def test_nothing_is_compared_twice(job: Path) -> None:
    asked = ("random:r=8", "random:seed=0,r=8", "sta:r=8", "none", "random:r=8")
    found = subjects(plan(job, reducers=asked, against=("random", "sta")), f"{job}/model")
    bare = [replace(subject, matched=None) for subject in found]
    assert len(set(bare)) == len(bare)
    assert found[0].reducer == "none"
    # What was asked for first is not called a rival.
    assert replace(found[0], reducer="random:r=8") in found
    assert [subject.reducer for subject in found].count("random:r=8") == 1
    assert not any("seed" in subject.reducer for subject in found)
    assert "none" not in {subject.matched for subject in found}


def test_without_alternatives_dense_is_alone(job: Path) -> None:
    found = subjects(plan(job, alternatives=False), f"{job}/model")
    assert [subject.reducer for subject in found] == ["none", "sta:r=8", "random:r=8"]
    name = "vit_base_patch16_224"
    assert len(subjects(Plan(models=(name,), reducers=(), alternatives=False), name)) == 1


@pytest.mark.parametrize(
    ("model", "smaller"),
    [
        ("vit_base_patch16_224", "vit_small_patch16_224"),
        ("vit_huge_patch16_224", "vit_large_patch16_224"),
        ("vit_small_patch16_224", None),
    ],
)
def test_the_next_smaller_architecture_is_an_alternative(model: str, smaller: str | None) -> None:
    found = subjects(Plan(models=(model,), reducers=()), model)
    assert [subject.checkpoint for subject in found] == [model, *([smaller] if smaller else [])]


def test_a_smaller_model_can_be_named(job: Path) -> None:
    found = subjects(plan(job, smaller=f"{job}/small"), f"{job}/model")
    assert found[-1] == Subject(f"{job}/small", 16, 32)
    assert found[-1].matched is None


def test_frames_and_size_are_those_asked_for(job: Path) -> None:
    found = subjects(plan(job, frames=8, size=24, reducers=("sta:r=2",)), f"{job}/model")
    assert (found[0].frames, found[0].size) == (8, 24)


# --- the record ---------------------------------------------------------------------------------


def test_rows_are_every_combination_with_dense_first_in_each_contest(
    job: Path, plain: None
) -> None:
    models = (f"{job}/model", f"{job}/small")
    found = run(
        job,
        models=models,
        dtypes=("fp32", "bf16"),
        batch_sizes=(3, 1),
        modes=("eager", "graph"),
        alternatives=False,
    )
    contests: dict[int, list[BenchmarkRow]] = {}
    for row in found.rows:
        contests.setdefault(row.contest, []).append(row)
    wanted = [(m, d, b) for m in models for d in ("fp32", "bf16") for b in (3, 1)]
    assert list(contests) == list(range(len(wanted)))
    for rows, (checkpoint, dtype, batch) in zip(contests.values(), wanted, strict=True):
        assert {(row.setting.dtype, row.setting.batch_size) for row in rows} == {(dtype, batch)}
        assert [row.setting.mode for row in rows] == ["eager", "graph"] * (len(rows) // 2)
        assert [(row.setting.checkpoint, row.setting.reducer) for row in rows[:4]] == [
            *[(checkpoint, "none")] * 2,
            *[(checkpoint, "sta:r=8")] * 2,
        ]
        assert len({row.setting for row in rows}) == len(rows) == 6


def test_the_record_says_what_was_done(job: Path, plain: None) -> None:
    found = run(job)
    dense, sta, *_ = found.rows
    model = load(f"{job}/model")
    assert dense.gmacs_per_view == dense.gmacs_dense == gmacs_per_view(model)
    assert sta.gmacs_per_view == gmacs_per_view(prune(model, "sta:r=8"))
    assert (dense.tokens, sta.tokens) == ((), costs(model, "sta:r=8").tokens)
    for row in found.rows:
        assert row.speed is not None
        assert len(row.speed.latencies_ms) == found.repeats == 2
        assert row.speed.account_ms is not None
        assert sum(row.speed.account_ms.values()) == pytest.approx(row.speed.latency_p50_ms)
        assert (row.end_to_end, row.nearness) == (None, None)
    assert dense.speed is not None
    assert dense.speed.speed_up == 1
    assert (found.videos, found.unreadable) == (0, ())
    assert found.environment["torch"] == torch.__version__
    assert found.command == "vidprune benchmark"


def test_models_of_one_shape_share_their_weights(job: Path, monkeypatch: Any) -> None:
    seen: list[Any] = []

    class Seen(contest_module.Candidate):
        def __init__(self, model: Any, *rest: Any) -> None:
            super().__init__(model, *rest)
            seen.append(model)

    loaded: list[tuple[Any, ...]] = []

    def note(*arguments: Any, **options: Any) -> Any:
        loaded.append((*arguments, *options.values()))
        return load(*arguments, **options)

    monkeypatch.setattr(module, "Candidate", Seen)
    monkeypatch.setattr(module, "load", note)
    run(job, batch_sizes=(1, 2), dtypes=("fp32", "bf16"))
    # 16 frames of 32 pixels, 8 frames, 24 pixels; once in each dtype, whatever the batch.
    assert len({id(model.dense) for model in seen}) == len(loaded) == len(set(loaded)) == 3 * 2
    assert {model.dtype for model in seen} == {torch.float32, torch.bfloat16}


def test_the_dense_model_may_win_in_any_mode(job: Path, plain: None, monkeypatch: Any) -> None:
    held: list[tuple[int, list[bool]]] = []
    hold = module.contest

    def note(candidates: Any, *, dense: int, repeats: int) -> Any:
        held.append((dense, [candidate.model.reducer is None for candidate in candidates]))
        return hold(candidates, dense=dense, repeats=repeats)

    monkeypatch.setattr(module, "contest", note)
    run(job, modes=("blocks", "eager", "graph"), alternatives=False)
    assert held == [(3, [True] * 3 + [False] * 6)]


def test_what_is_there_so_far_is_shown_after_each_contest(job: Path, plain: None) -> None:
    grown: list[Benchmark] = []
    heard: list[str] = []
    asked = plan(job, batch_sizes=(2, 1))
    found = benchmark(asked, device=CPU, tell=heard.append, observe=grown.append)
    assert [len(record.rows) for record in grown] == [5, 10]
    assert grown[-1] == found
    assert grown[0].rows == found.rows[:5]
    contests = [f"{job}/model, fp32, batch {size}" for size in (2, 1)]
    assert heard == ["what the machine does at best", *contests]
    assert set(found.rates) == {"fp32"}


def test_one_candidate_that_fails_is_a_row_with_a_reason(job: Path, monkeypatch: Any) -> None:
    forward_in = contest_module.forward_in

    def broken(model: Any, mode: str, keys: Any) -> Any:
        def fail(pixels: Any) -> Any:
            raise RuntimeError("no room")

        random = model.reducer is not None and "clip_keys" in model.reducer.needs
        return fail if random else forward_in(model, mode, keys)

    monkeypatch.setattr(contest_module, "forward_in", broken)
    found = run(job, videos=videos(job))
    reasons = [row.reason for row in found.rows]
    assert reasons == [None, None, "RuntimeError: no room", None, None, None]
    failed = found.rows[2]
    assert (failed.speed, failed.end_to_end, failed.nearness) == (None, None, None)
    assert Benchmark.from_json(found.to_json()) == found


# --- videos -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filmed(job: Path) -> Benchmark:
    with pytest.MonkeyPatch.context() as patch:
        make_plain(patch)
        return run(job, videos=videos(job), batch_sizes=(1, 3, 2), modes=("eager", "graph"))


def test_end_to_end_is_taken_once_at_the_largest_batch_and_in_the_first_mode(
    filmed: Benchmark,
) -> None:
    ran = [row for row in filmed.rows if row.end_to_end]
    assert {(row.setting.batch_size, row.setting.mode) for row in ran} == {(3, "eager")}
    # All that was timed there, and the dense model on fewer views.
    assert len(ran) == 5 + 1
    assert {row.contest for row in ran} == {1}
    assert filmed.videos == 3
    assert [video["path"][-6:] for video in filmed.unreadable] == ["01.mp4"]


def test_nearness_stands_in_every_row_of_the_same_model(filmed: Benchmark) -> None:
    assert len(filmed.rows) == 3 * 2 * 5 + 1
    near: dict[tuple[Any, ...], set[Any]] = {}
    for row in filmed.rows:
        own = row.setting
        near.setdefault((own.reducer, own.frames, own.size, own.views), set()).add(row.nearness)
    assert near.pop(("none", 16, 32, None)) == {None}
    assert len(near) == 5
    assert all(len(found) == 1 and None not in found for found in near.values())


def test_fewer_views_stand_at_the_end_of_their_contest(filmed: Benchmark) -> None:
    rows = [row for row in filmed.rows if row.contest == 1]
    assert [row.setting.views for row in rows] == [None] * 10 + [2]
    added = rows[-1]
    assert (added.setting.reducer, added.setting.matched) == ("none", "sta:r=8")
    assert (added.speed, added.reason) == (None, None)
    assert added.gmacs_per_video == 2 * added.gmacs_dense
    assert Benchmark.from_json(filmed.to_json()) == filmed


def test_nearness_is_what_agreement_says(job: Path, plain: None) -> None:
    found = run(job, videos=videos(job), alternatives=False)
    model = load(f"{job}/model")
    protocol = protocol_for(model, ViewOptions())
    classifiers = [
        Classifier(prune(model, text), protocol, batch_size=2, device=CPU)
        for text in ("none", "sta:r=8", "random:r=8")
    ]
    wanted = agreement(classifiers, videos(job), checkpoint="", workers=0)
    assert [row.nearness for row in found.rows] == [row.nearness for row in wanted.rows]
    assert found.unreadable == wanted.unreadable
    assert found.videos == wanted.num_videos


def test_timings_are_kept_before_videos_are_run(job: Path, plain: None) -> None:
    grown: list[Benchmark] = []
    asked = plan(job, videos=(*videos(job), videos(job)[0]))
    found = benchmark(asked, device=CPU, observe=grown.append)
    assert [len(record.rows) for record in grown] == [5, 6]
    assert [row.speed for row in grown[0].rows] == [row.speed for row in found.rows[:5]]
    assert grown[0].videos == 0
    assert found.videos == 3, "one that is named twice counts once"


def test_each_model_is_compared_with_itself(job: Path, plain: None) -> None:
    """A smaller model is an alternative to the first, and dense where it is its own turn."""
    asked = (f"{job}/model", f"{job}/small")
    found = run(job, models=asked, smaller=f"{job}/small", videos=videos(job), reducers=())
    near = {
        (row.contest, Path(row.setting.checkpoint).name): row.nearness is not None
        for row in found.rows
    }
    assert near == {(0, "model"): False, (0, "small"): True, (1, "small"): False}


# --- encoders without a head --------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(job: Path) -> str:
    """The checkpoint of the job's model without its head."""
    load(f"{job}/model", head=False).save_pretrained(job / "encoder")
    return f"{job}/encoder"


def test_encoders_are_timed(job: Path, encoder: str) -> None:
    found = run(job, models=(encoder,), reducers=("sta:r=8", "tome:r=8"), alternatives=False)
    wanted = ["none", "sta:r=8", "random:r=8", "tome:r=8"]
    assert [row.setting.reducer for row in found.rows][:4] == wanted
    for row in found.rows:
        assert row.speed is not None
        assert row.gmacs_dense == costs(load(encoder)).gmacs_per_view


def test_a_rival_costs_what_the_encoder_costs_without_a_head(job: Path, encoder: str) -> None:
    asked = plan(job, models=(encoder,))
    for subject in subjects(asked, encoder):
        config = configuration(encoder, frames=subject.frames, size=subject.size)
        model = load(encoder, frames=subject.frames, size=subject.size)
        assert costs(config, subject.reducer) == costs(model, subject.reducer)


@pytest.mark.parametrize("as_the_smaller", [False, True])
def test_an_encoder_over_videos_is_refused_before_anything_is_loaded(
    job: Path, encoder: str, monkeypatch: Any, as_the_smaller: bool
) -> None:
    monkeypatch.setattr(module, "load", None)
    asked: Any = {"smaller": encoder} if as_the_smaller else {"models": (encoder,)}
    with pytest.raises(ValueError, match=r"encoder is an encoder without a head.*leave the videos"):
        run(job, **asked, videos=videos(job))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtypes": ("fp8",)}, "dtypes holds 'fp8', which is not known; choose from fp32"),
        ({"modes": ("fast",)}, "modes holds 'fast', which is not known; choose from eager"),
        ({"repeats": 1}, "repeats=1 must be at least 2"),
        ({"batch_sizes": (2, 0)}, r"batch_size=0 must be at least 1"),
        ({"protocol": "k600"}, "protocol='k600' is not known; choose one of k400"),
        ({"workers": -1}, "workers=-1 must be 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(job: Path, options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plan(job, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reducers": ("best:r=8",)}, "reducer 'best' is not known"),
        ({"reducers": ("sta:r=99",)}, "cannot drop 99"),
        ({"against": ("random:r=8",)}, "given twice"),
        ({"models": ("nowhere/", "demo")}, "nowhere/ does not exist"),
        ({"frames": 3}, "frames=3 must be a positive multiple of 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    job: Path, monkeypatch: Any, options: Any, says: str
) -> None:
    monkeypatch.setattr(module, "load", None)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        run(job, **options)


def test_files_are_left_in_the_folder(job: Path, plain: None, tmp_path: Path) -> None:
    found = run(job, videos=videos(job))
    write(found, tmp_path / "new" / "folder")
    paths = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in paths] == [f"benchmark.{kind}" for kind in ("csv", "json", "md")]
    text, _, page = (path.read_text(encoding="utf-8") for path in paths)
    assert len(text.splitlines()) == 1 + len(found.rows)
    assert json.loads(paths[1].read_text())["videos"] == 3
    names: Sequence[str] = ("sta:r=8", "random:r=8", "8 frames", "24 pixels", "2 of 4 views")
    assert all(name in page for name in names)
