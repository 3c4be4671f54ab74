"""Tables of what jobs over many videos withstand."""

from records import report_record

from vidprune.report import hardware

_TARGETS = ("lists", "checkpoints", "videos")


def fuzz() -> str:
    """What became of damaged and hostile input."""
    records = {target: report_record(f"fuzz/{target}") for target in _TARGETS}
    lines = ["| | inputs | refused in a sentence | read | anything else |", "|---|--:|--:|--:|--:|"]
    for target, record in records.items():
        outcomes = record["outcomes"]
        refused, read = (outcomes.get(word, 0) for word in ("refused", "read"))
        other = record["inputs"] - refused - read
        lines.append(f"| {target} | {record['inputs']} | {refused} | {read} | {other} |")
    last = records["videos"]
    said = f"{hardware(last['environment'])}, {last['date'][:10]}; such as `{last['command']}`."
    return "\n".join([*lines, "", said, ""])
