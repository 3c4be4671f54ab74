"""Tables of what a GPU takes."""

from itertools import product

from records import benchmark_record, report_record
from speed_tables import of_one_machine, spoken

from vidprune.benchmarking.account import KINDS
from vidprune.benchmarking.table import speed_table
from vidprune.report import hardware


def on_gpu() -> str:
    """A large ViT at several r, dense and pruned, eager and with compiled blocks."""
    return _gpu_record("large-batch-32")


def on_gpu_base() -> str:
    """The same of a base ViT."""
    return _gpu_record("base-batch-32")


def _gpu_record(name: str) -> str:
    found = benchmark_record(f"gpu/{name}")
    return f"{speed_table(found.rows).markdown()}\n{spoken(found)}\n"


def gpu_headline() -> str:
    """In one sentence what pruning buys there."""
    found = benchmark_record("gpu/large-batch-32")
    rows = {(row.setting.reducer, row.setting.mode): row for row in found.rows}
    dense, *pruned = (
        rows[name, "blocks"] for name in ("none", "sta:r=64", "random:r=64", "sta:r=96")
    )
    parts = []
    for row in (dense, *pruned):
        assert row.speed is not None, "it was timed"
        share = row.gmacs_per_view / dense.gmacs_per_view
        name = (
            "dense" if row is dense else f"`{row.setting.reducer}` ({share:.0%} of the arithmetic)"
        )
        parts.append(f"{row.speed.clips_per_second:.0f} {name}")
    device = found.environment["device"]
    return (
        "ViT-L, 16 frames of 224 x 224, bfloat16, 32 clips at once, compiled blocks, one "
        f"{device}, clips/s: {'; '.join(parts)}.\n"
    )


_GPU_RECORDS = {
    "ViT-B, before": "before-base-batch-32",
    "ViT-B": "base-batch-32",
    "ViT-L, before": "before-large-batch-32",
    "ViT-L": "large-batch-32",
}


def gpu_account() -> str:
    """Where an eager forward's time goes on a GPU, dense and at r = 64."""
    lines = [
        f"| model | | {' | '.join(KINDS)} | all |",
        "|---|---|" + "--:|" * (len(KINDS) + 1),
    ]
    records = [benchmark_record(f"gpu/{name}") for name in _GPU_RECORDS.values()]
    for title, record in zip(_GPU_RECORDS, records, strict=True):
        for row in record.rows:
            if row.setting.mode == "eager" and row.setting.reducer in ("none", "sta:r=64"):
                assert row.speed is not None, "it was timed"
                assert row.speed.account_ms is not None, "and looked into"
                cells = [f"{row.speed.account_ms[kind]:.2f}" for kind in KINDS]
                cells.append(f"{row.speed.latency_p50_ms:.2f}")
                lines.append(f"| {title} | `{row.setting.reducer}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


GPU_SMALL_BATCHES = tuple(product(("base", "large"), (1, 8)))


def gpu_small_batches() -> str:
    """Few clips at once, where launching takes as long as computing: eager, and replayed."""
    lines = [
        "| model, batch | reducer | GMACs | eager, ms | replayed, ms | speed-up | efficiency |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    records = []
    for size, batch in GPU_SMALL_BATCHES:
        found = benchmark_record(f"gpu/graph-{size}-batch-{batch}")
        records.append(found)
        title = f"ViT-{size[0].upper()}, {batch}"
        rows = {(row.setting.reducer, row.setting.mode): row for row in found.rows}
        for (name, mode), row in rows.items():
            if mode == "eager":
                eager, replayed = row.speed, rows[name, "blocks-replayed"].speed
                assert eager is not None, "it was timed"
                assert replayed is not None, "it was timed, too"
                cells = (
                    f"{eager.latency_p50_ms:.2f} | {replayed.latency_p50_ms:.2f} | "
                    f"{replayed.speed_up:.2f} ({replayed.speed_up_low:.2f}-"
                    f"{replayed.speed_up_high:.2f}) | {replayed.efficiency:.2f}"
                )
                lines.append(f"| {title} | `{name}` | {row.gmacs_per_view:.1f} | {cells} |")
                title = ""
    return "\n".join([*lines, "", of_one_machine(records), ""])


# What takes a group's tokens at once with how many others, of those that were tried.
_SCANS = ("32 others, 16 warps", "16 others, 8 warps", "16 others, 16 warps")


def gpu_kernels() -> str:
    """How long each of the selection's kernels takes over all stages, in microseconds."""
    found = report_record("gpu/kernels")
    times, batches = found["microseconds"], ("1", "8", "32")
    usual = times["as they are"]
    rows = {
        name: [usual[batch][name] for batch in batches] for name in usual["1"] if name != "_scan"
    }
    rows |= {f"_scan, {way}": list(times["_scan"][way].values()) for way in _SCANS}
    lines = [
        f"| kernel | {' | '.join(f'batch {batch}' for batch in batches)} |",
        "|---|--:|--:|--:|",
    ]
    lines += [
        f"| {name.strip('_')} | {' | '.join(f'{each:.0f}' for each in row)} |"
        for name, row in rows.items()
    ]
    said = f"{hardware(found['environment'])}: `{found['command']}`."
    return "\n".join([*lines, "", said, ""])
