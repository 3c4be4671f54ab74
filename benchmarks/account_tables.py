"""Tables of where a forward's time goes on a CPU, and what makes it shorter."""

from statistics import quantiles

from records import benchmark_record, report_record
from speed_tables import DROPS, SETTINGS, of_one_machine

from vidprune.backbones.architectures import architecture
from vidprune.benchmarking.account import KINDS
from vidprune.benchmarking.contest import shrunk
from vidprune.benchmarking.report import Benchmark, Speed
from vidprune.macs import costs


def account() -> str:
    """Where a forward's time goes, dense and with STA at r = 64, what the bound leaves, and what
    its products alone would take at the machine's rate."""
    # Of these models the head takes no time that shows; older records book it as embedding.
    kinds = [kind for kind in KINDS if kind != "head"]
    lines = [
        f"| model, dtype, batch | ms | {' | '.join(kinds)} | all | products at best | ratio "
        "| linear, of the rate |",
        "|---|---|" + "--:|" * (len(kinds) + 4),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        found = benchmark_record(f"cpu/{size}-{dtype}-batch-{batch}-r64")
        records.append(found)
        dense, pruned = (row.speed.account_ms for row in found.rows[:2])
        title = f"ViT-{size[0].upper()}, {dtype}, {batch}"
        config = architecture(found.rows[0].setting.checkpoint)
        whole, left = costs(config), costs(config, found.rows[1].setting.reducer)
        best = 1e3 * batch / found.rates[dtype].matmul_gmacs_per_second
        named = {
            "`none`": (dense, whole),
            "bound": (shrunk(dense, whole, left), left),
            "`sta:r=64`": (pruned, left),
        }
        for name, (spent, cost) in named.items():
            total, products = sum(spent.values()), best * cost.gmacs_per_view
            reached = best * cost.linear_in_blocks / spent["linear"]
            cells = [f"{spent[kind]:.0f}" for kind in kinds]
            cells += [f"{total:.0f}", f"{products:.0f}", f"{total / products:.2f}"]
            cells.append(f"{reached:.2f}")
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
            title = ""
    return "\n".join([*lines, "", _rates(records), of_one_machine(records), ""])


def _rates(records: list[Benchmark]) -> str:
    """What the machine did at best, over all these records."""
    said = []
    for dtype in ("fp32", "bf16"):
        found = [record.rates[dtype] for record in records if dtype in record.rates]
        products = [
            f"{pick(each.matmul_gmacs_per_second for each in found):.0f}" for pick in (min, max)
        ]
        copies = [f"{pick(each.copy_gib_per_second for each in found):.1f}" for pick in (min, max)]
        said.append(
            f"{dtype}: {' to '.join(products)} GMACs/s in one large product, "
            f"{' to '.join(copies)} GiB/s read and written by a copy"
        )
    return f"At best the machine did, before each run, in {'; in '.join(said)}.\n"


def over_bound() -> str:
    """STA's time over what the arithmetic leaves of the dense time, and the share of selection."""
    lines = [
        f"| model, dtype, batch | {' | '.join(f'r = {r}' for r in DROPS)} | dense over products |",
        "|---|" + "--:|" * (len(DROPS) + 1),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        found = [benchmark_record(f"cpu/{size}-{dtype}-batch-{batch}-r{r}") for r in DROPS]
        records += found
        cells = []
        for record in found:
            dense, speed = (row.speed for row in record.rows[:2])
            cells.append(_beside_bound(speed, dense))
        dense = [_over_products(record) for record in found]
        title = f"ViT-{size[0].upper()}, {dtype}, {batch}"
        lines.append(f"| {title} | {' | '.join(cells)} | {min(dense):.2f} to {max(dense):.2f} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


def _beside_bound(speed: Speed, dense: Speed) -> str:
    """Time over the bound, of each turn beside its own dense one, and the share of selection."""
    left = speed.bound_ms / dense.latency_p50_ms
    low, middle, high = (ratio / left for ratio in _ratios(speed, dense))
    return f"{middle:.2f} ({low:.2f}-{high:.2f}; {100 * speed.selection_share:.1f} %)"


def waiting() -> str:
    """STA's time over the bound at batch 1, by what OpenMP's threads do between operations."""
    policies = {"active": "turn round", "passive": "sleep"}
    # The others, alike, would take long.
    settings = [("small", dtype, policy) for dtype in ("fp32", "bf16") for policy in policies]
    settings += [("base", dtype, "active") for dtype in ("fp32", "bf16")]
    lines = [
        "| model, dtype | threads that wait | dense, ms "
        f"| {' | '.join(f'r = {r}' for r in DROPS)} |",
        "|---|---|--:|" + "--:|" * len(DROPS),
    ]
    records = []
    for size, dtype, policy in settings:
        found = benchmark_record(f"cpu/waiting-{policy}-{size}-{dtype}")
        records.append(found)
        speeds = {row.setting.reducer: row.speed for row in found.rows}
        cells = [_beside_bound(speeds[f"sta:r={r}"], speeds["none"]) for r in DROPS]
        title = f"ViT-{size[0].upper()}, {dtype} | {policies[policy]}"
        lines.append(f"| {title} | {speeds['none'].latency_p50_ms:.0f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


def gap() -> str:
    """What STA takes beyond its bound, by kind of operation, in hundredths of the bound."""
    kinds = ("embedding", "linear", "attention", "selection", "gathers", "rest")
    lines = [
        f"| model, dtype, batch | r | bound, ms | {' | '.join(kinds)} | all |",
        "|---|--:|--:|" + "--:|" * (len(kinds) + 1),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        title = f"ViT-{size[0].upper()}, {dtype}, {batch}"
        for r in DROPS:
            found = benchmark_record(f"cpu/{size}-{dtype}-batch-{batch}-r{r}")
            records.append(found)
            dense, pruned = (row.speed.account_ms for row in found.rows[:2])
            whole, left = found.rows[0].setting, found.rows[1].setting
            config = architecture(whole.checkpoint)
            least = shrunk(dense, costs(config), costs(config, left.reducer))
            bound = sum(least.values())
            beyond = {kind: 100 * (pruned[kind] - least[kind]) / bound for kind in pruned}
            cells = [f"{beyond[kind]:+.1f}" for kind in kinds]
            cells.append(f"{sum(beyond.values()):+.1f}")
            lines.append(f"| {title} | {r} | {bound:.0f} | {' | '.join(cells)} |")
            title = ""
    return "\n".join([*lines, "", of_one_machine(records), ""])


def _over_products(record: Benchmark) -> float:
    """The dense time over that of its multiply-accumulates at the machine's rate."""
    dense = record.rows[0]
    assert dense.speed is not None, "it was timed"
    gmacs = dense.setting.batch_size * dense.gmacs_per_view
    rate = record.rates[dense.setting.dtype].matmul_gmacs_per_second
    return dense.speed.latency_p50_ms / (1e3 * gmacs / rate)


def attention() -> str:
    """Attention taken apart at the lengths that STA leaves, per logit."""
    record = report_record("cpu/attention")
    lines = ["| dtype | tokens | by keys | softmax | by values | rest | all |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for row in record["rows"]:
        spent = row["ns_per_logit"]
        cells = [f"{nanoseconds:.2f}" for nanoseconds in (*spent.values(), sum(spent.values()))]
        lines.append(f"| {row['dtype']} | {row['tokens']} | {' | '.join(cells)} |")
    told = record["environment"]
    said = (
        f"Nanoseconds per logit of {record['heads']} heads, medians of {record['repeats']} in "
        f"turn; {told['cpu']}, {record['threads']} threads, torch {told['torch']}, "
        f"{record['date'][:10]}: `{record['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


LEVERS = {
    "fp32-torch": "float32, as torch runs it",
    "fp32-kept": "and memory kept",
    "fp32-onednn": "and products by oneDNN (`--onednn`)",
    "bf16-torch": "bfloat16, as torch runs it",
    "bf16-kept": "and memory kept",
    "bf16-parts": "and attention in parts",
}


def levers() -> str:
    """What makes a forward faster on a CPU, one thing after the other."""
    lines = [
        "| ViT-S, batch 8 | dense, ms | of the first | `sta:r=64`, ms | of the first | speed-up |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    records = []
    for name, title in LEVERS.items():
        found = benchmark_record(f"cpu/levers-{name}")
        records.append(found)
        dense, pruned = (row.speed.latency_p50_ms for row in found.rows[:2])
        if name.endswith("torch"):
            first = dense, pruned
        shares = [f"{now / then:.2f}" for now, then in zip((dense, pruned), first, strict=True)]
        cells = f"{dense:.0f} | {shares[0]} | {pruned:.0f} | {shares[1]} | {dense / pruned:.2f}"
        lines.append(f"| {title} | {cells} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


COMPILED = {"small-bf16": "ViT-S, bf16", "base-bf16": "ViT-B, bf16", "small-fp32": "ViT-S, fp32"}
_MODES = {
    "eager": "as it stands",
    "graph": "one graph",
    "graph-frozen": "one graph, weights frozen",
}


def compiled() -> str:
    """What torch's compiler makes of a forward on a CPU."""
    reducers = {"none": "dense", "sta:r=64": "`sta:r=64`", "random:r=64": "`random:r=64`"}
    lines = [
        f"| model, dtype | run | {' | '.join(f'{name}, of eager' for name in reducers.values())} "
        "| speed-up of STA | over the bound |",
        "|---|---|" + "--:|" * (len(reducers) + 2),
    ]
    records = []
    for setting, title in COMPILED.items():
        found = benchmark_record(f"cpu/compiled-{setting}")
        records.append(found)
        speeds = {(row.setting.reducer, row.setting.mode): row.speed for row in found.rows}
        for mode, said in _MODES.items():
            cells = [_over(speeds[reducer, mode], speeds[reducer, "eager"]) for reducer in reducers]
            pruned, dense = (speeds[reducer, mode] for reducer in ("sta:r=64", "none"))
            cells.append(_over(dense, pruned))
            bound = speeds["sta:r=64", "eager"].bound_ms
            cells.append(f"{pruned.latency_p50_ms / bound:.2f}")
            lines.append(f"| {title} | {said} | {' | '.join(cells)} |")
            title = ""
    return "\n".join([*lines, "", of_one_machine(records), ""])


def _over(one: Speed, other: Speed) -> str:
    """The time of the one over the other's: the median, and quartiles."""
    low, middle, high = _ratios(one, other)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _ratios(one: Speed, other: Speed) -> list[float]:
    """Quartiles of the time of the one over the other's, turn by turn."""
    turns = zip(one.latencies_ms, other.latencies_ms, strict=True)
    return quantiles([a / b for a, b in turns], n=4, method="inclusive")
