"""Tables of layers in 8 bits: how near they stay to float32, and how long they take."""

from statistics import median

from records import report_record


def quantized() -> str:
    """How near layers in 8 bits leave a model to float32, dense and pruned."""
    record = report_record("quantized/agreement")
    lines = [
        "| the demo's model in | reducer | same class as float32 | KL to float32 |",
        "|---|---|--:|--:|",
    ]
    for row in record["rows"]:
        if row["reducer"] == row["against"]:
            same, kl = row["agreement"], row["kl_nats"]
            shares = f"{same['value']:.1f} % ({same['low']:.1f} to {same['high']:.1f})"
            moved, low, high = (round(1e6 * kl[name]) for name in ("value", "low", "high"))
            cells = f"`{row['reducer']}` | {shares} | {moved} ({low} to {high})"
            lines.append(f"| {row['way']} | {cells} |")
    (pruned,) = (
        row["kl_nats"]["value"]
        for row in record["rows"]
        if (row["way"], row["reducer"], row["against"]) == ("float32", "sta:r=16", "none")
    )
    told, seen = record["environment"], f"{record['videos']} clips"
    said = (
        "Each against the same reducer in float32; KL in millionths of a nat, of which pruning by "
        f"`sta:r=16` itself moves predictions by {1e6 * pruned:.0f}. {seen}; {told['cpu']}, torch "
        f"{told['torch']}, batch 16, {record['date'][:10]}: `{record['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


def quantized_speed() -> str:
    """A forward's time in each way over that in float32, dense and pruned."""
    record = report_record("quantized/speed")
    found = {(row["way"], row["reducer"]): row for row in record["rows"]}
    lines = ["| a ViT-S in | dense, ms | over float32 | `sta:r=64`, ms | over float32 |"]
    lines.append("|---|--:|--:|--:|--:|")
    for way in dict.fromkeys(row["way"] for row in record["rows"]):
        cells = [way]
        for reducer in ("none", "sta:r=64"):
            row = found[way, reducer]
            cells += [f"{median(row['latencies_ms']):.0f}", f"{row['over_float32']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    told, turns = record["environment"], len(record["rows"][0]["latencies_ms"])
    said = (
        f"One clip at a time, medians of {turns} turns, as it stands; {told['cpu']}, "
        f"{record['threads']} threads, torch {told['torch']}, {record['date'][:10]}: "
        f"`{record['command']}`."
    )
    return "\n".join([*lines, "", said, ""])
