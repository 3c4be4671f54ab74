"""A benchmark's record made up for the tests: one model, two batch sizes, with videos."""

from dataclasses import replace
from typing import Any

from vidprune.benchmarking.report import Benchmark, BenchmarkRow, EndToEnd, Setting, Speed
from vidprune.intervals import Interval
from vidprune.metrics import Nearness

# Reducer, frames, size, checkpoint, what it is matched to, and its share of the dense GMACs.
SUBJECTS = (
    ("none", 16, 224, "big", None, 1.0),
    ("sta:r=16", 16, 224, "big", None, 0.8),
    ("none", 12, 224, "big", "sta:r=16", 0.75),
    ("random:r=17", 16, 224, "big", "sta:r=16", 0.79),
    ("random:r=15,fold=true", 16, 224, "big", "sta:r=16", 0.81),
    ("sta:r=128", 16, 224, "big", None, 0.3),
    ("random:r=131", 16, 224, "big", "sta:r=128", 0.29),
    ("random:r=125,fold=true", 16, 224, "big", "sta:r=128", 0.31),
    ("none", 16, 112, "big", "sta:r=128", 0.25),
    ("sta:r=8", 16, 224, "big", None, 0.9),
    ("none", 16, 224, "small", None, 0.35),
)
DENSE_GMACS, DENSE_MS, VIEWS = 180.0, 400.0, 15


def record(
    *, modes: tuple[str, ...] = ("eager",), batches: tuple[int, ...] = (1, 8), videos: bool = True
) -> Benchmark:
    """A contest for each batch size; videos at the last one, in the first mode."""
    rows: list[BenchmarkRow] = []
    for contest, batch in enumerate(batches):
        last = videos and batch == batches[-1]
        own = [
            row(subject, contest, batch, mode, raced=last and mode == modes[0], near=videos)
            for subject in SUBJECTS
            for mode in modes
        ]
        rows += own + ([fewer_views(own[0], "sta:r=128", 5)] if last else [])
    return Benchmark(
        rows=tuple(rows),
        repeats=20,
        videos=40 if videos else 0,
        unreadable=(),
        environment={"device": "cpu", "cpu": "A CPU", "cpu_threads": 3, "torch": "2.99"},
        command="vidprune benchmark",
        date="2026-01-02T03:04:05+00:00",
    )


def row(
    subject: tuple[Any, ...], contest: int, batch: int, mode: str, *, raced: bool, near: bool
) -> BenchmarkRow:
    reducer, frames, size, checkpoint, matched, share = subject
    setting = Setting(
        checkpoint=checkpoint,
        frames=frames,
        size=size,
        reducer=reducer,
        matched=matched,
        dtype="bf16",
        batch_size=batch,
        mode=mode,
    )
    return BenchmarkRow(
        setting=setting,
        gmacs_per_view=share * DENSE_GMACS,
        gmacs_dense=DENSE_GMACS,
        tokens=(),
        speed=speed(share, reducer, mode),
        end_to_end=end_to_end(share, VIEWS) if raced else None,
        nearness=nearness(share) if near and subject is not SUBJECTS[0] else None,
        contest=contest,
    )


def speed(share: float, reducer: str, mode: str) -> Speed:
    """Eager takes as much longer as a quarter of the time; a reducer takes 20 ms."""
    taken = (DENSE_MS * share + (20 if reducer != "none" else 0)) * (1.25 if mode == "eager" else 1)
    gain = DENSE_MS / taken
    return Speed(
        clips_per_second=1000 / taken,
        latency_p50_ms=taken,
        latency_p95_ms=taken,
        latencies_ms=(taken,),
        spread=0.01,
        peak_memory_mib=None,
        speed_up=gain,
        speed_up_low=0.95 * gain,
        speed_up_high=1.1 * gain,
        efficiency=gain * share,
        account_ms=None,
        selection_share=None,
        bound_ms=1.25 * DENSE_MS * share if mode == "eager" else None,
    )


def end_to_end(share: float, views: int) -> EndToEnd:
    return EndToEnd(
        videos_per_second=2 / share,
        decoding_videos_per_second=7.0,
        model_videos_per_second=3 / share,
        views_per_video=views,
        seconds=(20 * share, 16 * share, 25 * share),
    )


def nearness(share: float) -> Nearness:
    return Nearness(
        agreement=Interval(value=100 * share, low=100 * share - 5, high=min(100, 100 * share + 4)),
        kl_nats=Interval(value=0.1 / share - 0.1, low=0.0, high=0.2 / share),
        rank_correlation=None,
        not_finite=0,
    )


def fewer_views(dense: BenchmarkRow, matched: str, views: int) -> BenchmarkRow:
    return replace(
        dense,
        setting=replace(dense.setting, matched=matched, views=views),
        speed=None,
        end_to_end=end_to_end(views / VIEWS, views),
        nearness=nearness(views / VIEWS),
    )
