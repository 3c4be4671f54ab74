"""Tables of budgets by content, from the records of `by_content.py`."""

import json
from functools import partial
from typing import Any

from curve_tables import cell
from records import RESULTS

from vidprune.intervals import Interval
from vidprune.report import hardware

_SIGNALS = {
    "confidence": "by confidence",
    "change": "by change",
    "redundancy": "by redundancy",
    "drawn": "drawn",
}


def budgets(name: str) -> str:
    """Of each setting how often it gives the dense model's class, and by how much a budget that
    costs no more does so more often, signal by signal."""
    record = json.loads((RESULTS / "by-content" / f"{name}.json").read_text(encoding="utf-8"))
    rows = {(row["fixed"], row["signal"]): row for row in record["rows"]}
    lines = [
        "| one setting | arithmetic, % | same class, % | "
        + " | ".join(f"{each}, points" for each in _SIGNALS.values())
        + " | KL by confidence, nats | top-1 by confidence, points | its arithmetic, % "
        "| taken by `tune` | disagreements in the least sure tenth, % |",
        "|---|--:|--:|" + "--:|" * (len(_SIGNALS) + 5),
    ]
    dense = record["gmacs_dense"]
    for fixed in dict.fromkeys(fixed for fixed, _ in rows):
        sure = rows[fixed, "confidence"]
        cells = [f"`{fixed}`", f"{100 * sure['gmacs_fixed'] / dense:.0f}"]
        cells += [f"{sure['agreement'][0]:.1f}"]
        cells += [_moved(rows[fixed, signal], "agreement", "+.1f") for signal in _SIGNALS]
        cells += [_moved(sure, "kl_nats", "+.3f"), _moved(sure, "top1", "+.1f")]
        cells += [f"{100 * sure['gmacs'] / dense:.0f}", f"{sure['taken']} of 2"]
        cells += [f"{sure['least_sure_tenth']['disagreements']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    runs = record["runs"]
    said = (
        f"{record['videos']} videos, {record['distinct']} of them distinct, of {record['sources']} "
        f"sources; runs in {runs['dtype']}, batch {runs['batch_size']}, "
        f"{hardware(runs['environment'])}, of `{runs['command']}`; `{record['command']}`, "
        f"{record['date'][:10]}. In brackets: {record['intervals']}."
    )
    return "\n".join([*lines, "", said, ""])


def _moved(row: dict[str, Any], figure: str, form: str) -> str:
    found = row.get("against_fixed", {}).get(figure)
    return "none was found" if found is None else cell(Interval(**found), form)


def speed() -> str:
    """What a clip takes, by arithmetic and by the clock."""
    record = json.loads((RESULTS / "by-content" / "speed.json").read_text(encoding="utf-8"))
    lines = [
        "| batch | | GMACs of a clip | ms of a clip | faster than dense | of the arithmetic |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for row in record["rows"]:
        dense = next(
            each["gmacs"]
            for each in record["rows"]
            if each["reducer"] == "none" and each["batch_size"] == row["batch_size"]
        )
        ratio = dense / row["gmacs"]
        cells = [str(row["batch_size"]), f"`{row['reducer']}`", f"{row['gmacs']:.2f}"]
        cells += [
            f"{row['ms_per_clip']:.1f}",
            f"{row['speedup']:.2f}",
            f"{row['speedup'] / ratio:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    said = (
        f"{record['clips']} clips in memory, medians of {record['passes']} passes in turn; "
        f"{record['dtype']}, {hardware(record['environment'])}, {record['threads']} threads, "
        f"{record['date'][:10]}: `{record['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


TABLES = {f"content-{name}": partial(budgets, name) for name in ("generated", "jhmdb")} | {
    "content-speed": speed
}
