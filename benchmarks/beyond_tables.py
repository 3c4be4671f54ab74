"""What Ward's merging takes in time, beside others of the same arithmetic."""

import re

from curve_tables import cell
from records import benchmark_record, report_record
from speed_tables import of_one_machine

from vidprune.benchmarking.report import Benchmark, BenchmarkRow
from vidprune.intervals import Interval
from vidprune.report import hardware

# The best way of those tried to run each batch.
GPU = {
    "ViT-L, bf16, 32, blocks compiled": ("beyond-large-batch-32", "blocks"),
    "ViT-B, bf16, 32, blocks compiled": ("beyond-base-batch-32", "blocks"),
    "ViT-B, bf16, 8, replayed": ("beyond-base-batch-8", "blocks-replayed"),
}
CPU = {
    f"ViT-{size[0].upper()}, {dtype}, {batch}": (f"beyond-{size}-{dtype}-batch-{batch}", "eager")
    for size, dtype, batch in (
        ("small", "fp32", 1),
        ("base", "fp32", 1),
        ("small", "bf16", 8),
        ("base", "bf16", 8),
    )
}
_METHODS = ("ward", "sta", "random", "tome")


def speed(kind: str) -> str:
    """Speed-ups over the best dense run at three costs, on a "cpu" or "gpu"."""
    lines = [
        f"| model, dtype, batch | of the arithmetic | {' | '.join(f'`{m}`' for m in _METHODS)} |",
        "|---|--:|" + "--:|" * len(_METHODS),
    ]
    records = []
    for title, (name, mode) in (GPU if kind == "gpu" else CPU).items():
        found = benchmark_record(f"{kind}/{name}")
        records.append(found)
        for number, own in enumerate(_rows(found, "ward", mode)):
            cells = [_speed_up(_rows(found, method, mode)[number]) for method in _METHODS]
            share = f"{own.gmacs_per_view / own.gmacs_dense:.0%}"
            said = title if number == 0 else ""
            lines.append(f"| {said} | {share} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


def _rows(found: Benchmark, method: str, mode: str) -> list[BenchmarkRow]:
    """Of one method, the dearest first."""
    rows = [
        row
        for row in found.rows
        if re.fullmatch(rf"{method}:r=\d+", row.setting.reducer) and row.setting.mode == mode
    ]
    return sorted(rows, key=lambda row: -row.gmacs_per_view)


def _speed_up(row: BenchmarkRow) -> str:
    assert row.speed is not None, "it was timed"
    low, high = row.speed.speed_up_low, row.speed.speed_up_high
    return f"{row.speed.speed_up:.2f} ({low:.2f}-{high:.2f})"


def tried() -> str:
    """What was tried on the way: KL to the dense model at every cost, in nats."""
    found = report_record("tried")
    shares = sorted({row["asked"] for row in found["rows"]}, reverse=True)
    names = dict.fromkeys(row["idea"] for row in found["rows"])
    cells = {
        (row["idea"], row["asked"]): cell(Interval(**row["kl_nats"]), ".4f")
        for row in found["rows"]
    }
    lines = [
        f"| | {' | '.join(f'{share:.0%}' for share in shares)} |",
        f"|---|{'--:|' * len(shares)}",
        *(
            f"| {name} | {' | '.join(cells.get((name, share), '') for share in shares)} |"
            for name in names
        ),
    ]
    said = (
        f"{found['clips']} clips; {hardware(found['environment'])}, {found['date'][:10]}: "
        f"`{found['command']}`. In brackets: {found['intervals']}."
    )
    return "\n".join([*lines, "", said, ""])


TABLES = {
    "beyond-tried": tried,
    "beyond-speed-gpu": lambda: speed("gpu"),
    "beyond-speed-cpu": lambda: speed("cpu"),
}
