"""Tables of what a search found for a target, and of exported models' time."""

import json

from curve_tables import cell
from records import RESULTS

from vidprune.report import hardware
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.record import Tuning


def tuned() -> str:
    """What searches for targets on real clips came to, on clips that they did not see."""
    lines = [
        "| target | reducer | GMACs | speed-up | same class, % | KL, nats | top-1, points |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    records = [_tuning(name) for name in ("agreement", "half", "content")]
    for found in records:
        if found.check is None or found.costs is None:
            lines.append(f"| {found.target}: not reached | | | | | | |")
            continue
        reached = "reached" if found.reached else "missed on unseen clips"
        cells = [f"{found.target}: {reached}", f"`{found.reducer}`"]
        cells += [
            f"{found.costs.gmacs:.2f} ({found.costs.share:.0%})",
            f"{found.costs.speedup:.2f}",
        ]
        lines.append(_line([*cells, *_losses(found.check)]))
        for own in (found.fixed, found.published):
            if own is not None:
                named = ["", f"`{own.reducer}`", _cost(own.costs), ""]
                lines.append(_line([*named, *_losses(own.losses)]))
    first = records[0]
    counts = "; ".join(
        f"{found.searched} clips for the search, {found.check.videos if found.check else 0} unseen"
        for found in (records[0], records[2])
    )
    said = (
        f"{counts}; "
        f"{first.dtype}, batch {first.batch_size}, {hardware(first.environment)}, "
        f"{first.date[:10]}; such as `{first.command}`, {len(first.tried)} settings in "
        f"{first.seconds / 60:.0f} minutes. In brackets: {first.intervals}."
    )
    return "\n".join([*lines, "", said, ""])


def _tuning(name: str) -> Tuning:
    return Tuning.from_json((RESULTS / "tuned" / f"{name}.json").read_text(encoding="utf-8"))


def _cost(found: Spent) -> str:
    return f"{found.gmacs:.2f} ({found.share:.0%})"


def _losses(found: Losses) -> list[str]:
    return [
        cell(found.agreement, ".0f"),
        cell(found.kl_nats, ".3f"),
        cell(found.change_points, "+.1f"),
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_RUNNERS = {"eager": "the model itself", "onnx": "ONNX Runtime", "aoti": "AOTInductor"}


def deployed() -> str:
    """Latency of one clip by runner, dense and pruned, and how much of the arithmetic's ratio it
    is."""
    found = json.loads((RESULTS / "deployed.json").read_text(encoding="utf-8"))
    lines = [
        "| model | by | dense, ms | `sta:r=64`, ms | speed-up | of the MACs' | same tokens |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    rows = {(row["model"], row["runner"], row["reducer"]): row for row in found["rows"]}
    for model, runner in dict.fromkeys((row["model"], row["runner"]) for row in found["rows"]):
        dense, pruned = (rows[model, runner, reducer] for reducer in ("none", "sta:r=64"))
        check = pruned["check"]
        kept = "" if check is None else f"{check['same_kept']} of {check['videos']}"
        if check is not None and check["near_ties"]:
            kept += f", {check['near_ties']} within rounding"
        cells = [f"`{model}`", _RUNNERS[runner], f"{dense['median_ms']:.0f}"]
        cells += [f"{pruned['median_ms']:.0f}", f"{pruned['speedup']:.2f}"]
        cells += [
            f"{pruned['speedup'] / pruned['mac_ratio']:.2f} of {pruned['mac_ratio']:.2f}",
            kept,
        ]
        lines.append(_line(cells))
    ran = found["environment"]
    said = (
        f"One clip at a time, {found['dtype']}, medians of {len(found['rows'][0]['milliseconds'])} "
        f"turns, ratios turn by turn; {hardware(ran)}, {ran['cpu_threads']} threads, torch "
        f"{ran['torch']}, ONNX Runtime {found['onnxruntime']}, {found['date'][:10]}: "
        f"`{found['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


TABLES = {"tuned": tuned, "deployed": deployed}
