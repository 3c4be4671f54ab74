"""The record of a benchmark, there and back."""

import csv
import io
import json
from dataclasses import fields, replace
from typing import Any

import pytest

from vidprune.benchmarking.rates import Rates
from vidprune.benchmarking.report import Benchmark, BenchmarkRow, EndToEnd, Setting, Speed
from vidprune.intervals import Interval
from vidprune.metrics import Nearness

DENSE = Setting(
    checkpoint="ü,model",
    frames=16,
    size=224,
    reducer="none",
    matched=None,
    dtype="bf16",
    batch_size=8,
    mode="eager",
)
SPEED = Speed(
    clips_per_second=10.5,
    latency_p50_ms=100.0,
    latency_p95_ms=120.0,
    latencies_ms=(100.0, 99.5, 120.25),
    spread=0.1,
    peak_memory_mib=None,
    speed_up=1.5,
    speed_up_low=1.4,
    speed_up_high=1.7,
    efficiency=0.9,
    account_ms={"linear": 60.0, "rest": 40.0},
    selection_share=0.0,
    bound_ms=80.0,
)
END_TO_END = EndToEnd(
    videos_per_second=3.0,
    decoding_videos_per_second=4.0,
    model_videos_per_second=5.0,
    views_per_video=15,
    seconds=(1.0, 2.0),
)
NEARNESS = Nearness(
    agreement=Interval(value=90.0, low=80.0, high=95.0),
    kl_nats=Interval(value=0.1, low=None, high=None),
    rank_correlation=None,
    not_finite=1,
)
ROWS = (
    BenchmarkRow(
        setting=DENSE,
        gmacs_per_view=180.5,
        gmacs_dense=180.5,
        tokens=(),
        speed=SPEED,
        end_to_end=END_TO_END,
    ),
    BenchmarkRow(
        setting=replace(DENSE, reducer="sta:r=64,order=FBF"),
        gmacs_per_view=96.5,
        gmacs_dense=180.5,
        tokens=(1056, 800, 672),
        reason="OutOfMemoryError: no room",
        nearness=NEARNESS,
        contest=1,
    ),
    BenchmarkRow(
        setting=replace(DENSE, matched="sta:r=64,order=FBF", views=8),
        gmacs_per_view=180.5,
        gmacs_dense=180.5,
        tokens=(),
        end_to_end=replace(END_TO_END, views_per_video=8),
        nearness=NEARNESS,
        contest=1,
    ),
)
BENCHMARK = Benchmark(
    rows=ROWS,
    repeats=3,
    videos=10,
    unreadable=({"path": "ü.mp4", "reason": "no such file"},),
    environment={"torch": "2", "cpu_threads": 2},
    command="vidprune benchmark",
    date="2026-01-01",
    rates={"fp32": Rates(matmul_gmacs_per_second=100.5, copy_gib_per_second=20.0)},
)


def test_json_gives_the_record_back() -> None:
    assert Benchmark.from_json(BENCHMARK.to_json()) == BENCHMARK


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": ()},
        {"rows": (replace(ROWS[0], speed=replace(SPEED, account_ms=None, speed_up=None)),)},
        {"unreadable": (), "videos": 0},
        {"rows": (replace(ROWS[1], nearness=replace(NEARNESS, agreement=None)),)},
    ],
)
def test_json_gives_records_with_gaps_back(changes: dict[str, Any]) -> None:
    record = replace(BENCHMARK, **changes)
    assert Benchmark.from_json(record.to_json()) == record


def test_json_holds_every_field_and_is_json() -> None:
    text = BENCHMARK.to_json()
    record = json.loads(text, parse_constant=pytest.fail)
    assert set(record) == {field.name for field in fields(Benchmark)}
    assert set(record["rows"][0]) == {field.name for field in fields(BenchmarkRow)}
    assert record["rows"][2]["setting"]["views"] == 8
    assert text.endswith("}\n")


def test_records_from_before_there_were_views_or_rates_can_still_be_read() -> None:
    record = json.loads(BENCHMARK.to_json())
    del record["rates"]
    for row in record["rows"]:
        del row["setting"]["views"], row["contest"]
    found = Benchmark.from_json(json.dumps(record))
    assert [row.setting.views for row in found.rows] == [None] * 3
    assert found.rows[0] == ROWS[0]
    assert found.rates == {}


def table(record: Benchmark) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(record.to_csv())))


def test_csv_has_a_line_per_row_and_names_of_what_is_nested() -> None:
    dense, failed, fewer = table(BENCHMARK)
    assert dense["setting.checkpoint"] == "ü,model"
    assert float(dense["speed.latency_p50_ms"]) == 100
    assert float(dense["speed.account_ms.linear"]) == 60
    assert dense["speed.latencies_ms"] == "100.0 99.5 120.25"
    assert float(dense["end_to_end.videos_per_second"]) == 3
    assert dense["reason"] == dense["nearness.not_finite"] == dense["setting.views"] == ""
    assert failed["tokens"] == "1056 800 672"
    assert failed["reason"] == "OutOfMemoryError: no room"
    assert failed["speed.latency_p50_ms"] == failed["end_to_end.seconds"] == ""
    assert float(failed["nearness.agreement.high"]) == 95
    assert failed["nearness.kl_nats.low"] == failed["nearness.rank_correlation"] == ""
    assert (fewer["setting.views"], fewer["setting.matched"]) == ("8", "sta:r=64,order=FBF")


def test_csv_has_every_column_in_every_line() -> None:
    lines = table(BENCHMARK)
    assert all(list(line) == list(lines[0]) for line in lines)
    assert all(None not in line.values() for line in lines)
    assert not {"speed", "end_to_end", "nearness", "setting"} & set(lines[0])


# --- what follows from the figures --------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "swallowed"),
    [
        (0.9, 1.1, True),
        (1.0, 1.2, True),
        (0.8, 1.0, True),
        (1.01, 1.2, False),
        (0.8, 0.99, False),
        (None, None, False),
    ],
)
def test_a_gain_is_swallowed_where_its_quartiles_lie_around_one(
    low: float | None, high: float | None, swallowed: bool
) -> None:
    assert replace(SPEED, speed_up_low=low, speed_up_high=high).swallowed is swallowed


def test_over_the_bound_is_the_median_over_it() -> None:
    assert SPEED.over_bound == pytest.approx(1.25)
    assert replace(SPEED, bound_ms=None).over_bound is None


@pytest.mark.parametrize(
    ("decoding", "model", "bound_by"), [(4.0, 5.0, "decoding"), (5.0, 4.0, "model")]
)
def test_the_slower_half_is_what_bounds(decoding: float, model: float, bound_by: str) -> None:
    found = replace(END_TO_END, decoding_videos_per_second=decoding, model_videos_per_second=model)
    assert found.bound_by == bound_by


def test_a_video_costs_what_all_its_views_cost() -> None:
    assert [row.gmacs_per_video for row in ROWS] == [15 * 180.5, None, 8 * 180.5]
