"""The committed records, read back."""

import json
from pathlib import Path
from typing import Any

from vidprune.benchmarking.report import Benchmark

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def benchmark_record(name: str) -> Benchmark:
    return Benchmark.from_json((RESULTS / name / "benchmark.json").read_text(encoding="utf-8"))


def report_record(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found
