"""Writes the tables of the README and the docs from the committed records and the test matrix.

    python benchmarks/tables.py          # rewrite what has changed, and draw the plots
    python benchmarks/tables.py --check  # exit with 1 where something would change

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
import runpy
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import beyond_tables
import content_tables
import corpus_tables
import curve_tables
import deployment_tables
import quantized_tables
import training_tables
from account_tables import account, attention, compiled, gap, levers, over_bound, waiting
from clip_tables import accuracy, demo, demo_model, looks, looks_time, positions, reproduced
from gpu_tables import (
    gpu_account,
    gpu_headline,
    gpu_kernels,
    gpu_small_batches,
    on_gpu,
    on_gpu_base,
)
from records import RESULTS, ROOT, benchmark_record
from speed_tables import (
    FAMILIES,
    SETTINGS,
    costs_table,
    decoders,
    families,
    from_files,
    matched,
    sweep,
    videoswin_costs,
    videoswin_speed,
)

from vidprune.benchmarking.plots import draw
from vidprune.benchmarking.report import Benchmark
from vidprune.benchmarking.table import markdown

__all__ = ["FAMILIES", "PAGES", "TABLES", "main", "texts"]

_PLACE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def support() -> str:
    """Which reducers work on which models, and how far: from the tables that the tests run over."""
    table: str = runpy.run_path(str(ROOT / "tests" / "matrix.py"))["support_table"]()
    return table


TABLES: dict[str, Callable[[], str]] = {
    "support": support,
    "demo": demo,
    "demo-model": demo_model,
    "positions": positions,
    "costs": costs_table,
    "videoswin-costs": videoswin_costs,
    "videoswin-speed": videoswin_speed,
    "families": families,
    "sweep": sweep,
    "input": from_files,
    "decoders": decoders,
    "levers": levers,
    "compiled": compiled,
    "quantized": quantized_tables.quantized,
    "quantized-speed": quantized_tables.quantized_speed,
    "account": account,
    "over-bound": over_bound,
    "gap": gap,
    "waiting": waiting,
    "attention": attention,
    "fuzz": corpus_tables.fuzz,
    "kills": corpus_tables.kills,
    "corpus-rates": corpus_tables.rates,
    "corpus-memory": corpus_tables.memory,
    "corpus-plan": corpus_tables.plan,
    "gpu": on_gpu,
    "gpu-base": on_gpu_base,
    "gpu-small-batches": gpu_small_batches,
    "gpu-headline": gpu_headline,
    "gpu-account": gpu_account,
    "gpu-kernels": gpu_kernels,
    "looks": looks,
    "looks-time": looks_time,
    "accuracy-demo": partial(accuracy, "demo"),
    "accuracy-videoswin": partial(accuracy, "videoswin"),
    "accuracy-jhmdb": partial(accuracy, "jhmdb"),
    "reproduced": partial(reproduced, "table2"),
    **curve_tables.TABLES,
    **content_tables.TABLES,
    **beyond_tables.TABLES,
    **deployment_tables.TABLES,
    **training_tables.TABLES,
    **{
        f"matched-{size}-{dtype}-{batch}": partial(matched, size, dtype, batch)
        for size, dtype, batch in SETTINGS
    },
}
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "recipes" / "demo_model" / "README.md",
)


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']]()}{place[3]}", text)


def texts() -> dict[Path, str]:
    """What every page, and the copies of every record for reading, should hold."""
    found = {page: rewritten(page.read_text(encoding="utf-8")) for page in PAGES}
    for path in sorted(RESULTS.rglob("benchmark.json")):
        record = Benchmark.from_json(path.read_text(encoding="utf-8"))
        found[path.with_suffix(".csv")] = record.to_csv()
        found[path.with_suffix(".md")] = markdown(record)
    return found


def draw_plots() -> None:
    """The plots of docs/benchmarks.md, from the demo's record, and of docs/curves.md."""
    with TemporaryDirectory() as folder:
        draw(benchmark_record("demo"), Path(folder))
        for name in ("agreement", "throughput"):
            shutil.copy(f"{folder}/{name}.png", ROOT / "docs" / "images" / f"benchmark-{name}.png")
        for name in curve_tables.CURVES:
            shutil.copy(curve_tables.draw_curves(name, Path(folder)), ROOT / "docs" / "images")


def main(check: bool) -> int:
    changed = 0
    for path, new in texts().items():
        # A record may have come alone, from a machine that had little room for what came back.
        if not path.exists() or path.read_text(encoding="utf-8") != new:
            changed += 1
            print(f"{path.relative_to(ROOT)}: {'is out of date' if check else 'rewritten'}")
            if not check:
                path.write_text(new, encoding="utf-8")
    if not check:
        draw_plots()
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
