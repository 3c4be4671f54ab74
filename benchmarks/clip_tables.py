"""Tables of what was found on clips: accuracy, nearness, and what the kept tokens hold."""

import json
from dataclasses import asdict
from typing import Any

from records import RESULTS, ROOT, report_record

from vidprune.intervals import METHOD
from vidprune.report import Demo, DemoRow, hardware
from vidprune.reproduction import Reproduction


def demo() -> str:
    """The demo's table, with what it ran on."""
    found = Demo.from_json((RESULTS / "demo.json").read_text(encoding="utf-8"))
    dense = found.rows[0]
    lines = [
        "| reducer | top-1 | change | same class | KL to dense | GMACs per view | clips/s |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_demo_line(row, dense) for row in found.rows),
    ]
    ran = found.environment
    return "\n".join(
        [
            *lines,
            "",
            f"{found.num_clips} clips; `{found.command}` on {hardware(ran)}, torch {ran['torch']}, "
            f"{found.dtype}, batch {found.batch_size}, {found.date[:10]}; forward passes timed in "
            "turn. Same class: as the dense model's first; ± is the standard error over clips.",
            "",
        ]
    )


def _demo_line(row: DemoRow, dense: DemoRow) -> str:
    near = (
        f"{row.top1 - dense.top1:+.1f}",
        f"{row.agreement:.1f} %",
        f"{row.kl_to_dense:.3f} ± {row.kl_standard_error:.3f}",
    )
    speed = f"{row.clips_per_second:.1f} ({row.clips_per_second / dense.clips_per_second:.2f}x)"
    cells = (
        f"`{row.name(dense)}`",
        f"{row.top1:.1f} %",
        *(("", "", "") if row is dense else near),
        f"{row.gmacs_per_view:.2f}",
        speed,
    )
    return f"| {' | '.join(cells)} |"


def demo_model() -> str:
    """What the demo's model reaches on fresh clips, and what it does not see in single frames."""
    found = json.loads((ROOT / "recipes" / "demo_model" / "record.json").read_text("utf-8"))
    shown = (
        ("the clip", f"{found['top1']} (standard error {found['standard_error']})"),
        ("its frames in random order", found["top1_frames_shuffled"]),
        ("its middle frame, 16 times", found["top1_middle_frame_repeated"]),
        ("one frame, 16 times, the best of four", found["top1_best_single_frame_repeated"]),
        ("(guessing)", f"{100 / len(found['top1_per_class']):.2f}"),
    )
    lines = [
        f"On {found['clips']} fresh clips, written as H.264 files and read back "
        f"({found['hardware']}, {found['dtype']}, batch {found['batch_size']}, {found['date']}: "
        f"`{found['command']}`):",
        "",
        *("| shown to the model | top-1, % |", "|---|--:|"),
        *(f"| {what} | {top1} |" for what, top1 in shown),
        "",
        *("| class | top-1, % |", "|---|--:|"),
        *(f"| {name} | {top1:.0f} |" for name, top1 in found["top1_per_class"].items()),
        "",
        f"Training saw {found['training_clips']:,} clips; its log counts "
        f"{found['training_seconds']} seconds of steps on two CPU cores shared with other work.",
        "",
    ]
    return "\n".join(lines)


def positions() -> str:
    """The demo's model on clips of other sizes, by how its position table is made to fit."""
    lines = ["| clips | interpolate | recompute |", "|---|--:|--:|"]
    for name, clips in (("96", "16 frames of 96 pixels"), ("8", "8 frames of 64 pixels")):
        pair = [report_record(f"positions/{name}-{rule}") for rule in ("interpolate", "recompute")]
        shown = " | ".join(f"{found['top1']:.1f} %" for found in pair)
        lines.append(f"| {clips} | {shown} |")
    dense = Demo.from_json((RESULTS / "demo.json").read_text("utf-8")).rows[0]
    return "\n".join([*lines, "", f"{_ran(pair[0])}; its own size: {dense.top1:.1f} %.", ""])


def accuracy(name: str) -> str:
    """Accuracy at matched cost: `vidprune compare`'s record, the dense model first."""
    found = json.loads((RESULTS / "accuracy" / f"{name}.json").read_text(encoding="utf-8"))
    lines = [
        "| reducer | GMACs of a video | top-1 | change, points | p | same class | KL to dense |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_accuracy_line(run, found["runs"][0]) for run in found["runs"]),
    ]
    dense = found["runs"][0]
    said = (
        f"{found['num_videos']} videos, {dense['dtype']}; {dense['hardware']}, "
        f"{found['date'][:10]}; such as `{dense['command']}`. In brackets: {found['intervals']}; "
        "p: McNemar's exact test."
    )
    return "\n".join([*lines, "", said, ""])


def reproduced(table: str) -> str:
    """A table of the paper beside its rerun on stand-ins."""
    found = Reproduction.from_json((RESULTS / "reproduce" / f"{table}.json").read_text("utf-8"))
    lines = [
        "| | paper: top-1 | change | stand-in: top-1 | change | is it the paper's? | GMACs |",
        "|---|--:|--:|--:|--:|---|---|",
    ]
    for row in found.rows:
        gmacs = f"{row.told_gmacs:g} and {row.gmacs:.1f}: {row.gmacs_verdict}"
        cells = [f"`{row.reducer}`", f"{row.told_top1:.1f}"]
        cells.append("" if row.told_change is None else f"{row.told_change:+.1f}")
        cells.append(f"{row.top1.value:.1f}")
        cells.append("" if row.change is None else _bracketed(asdict(row.change.points), "+.1f"))
        lines.append(f"| {' | '.join([*cells, row.verdict or row.not_judged or '', gmacs])} |")
    said = (
        f"{found.rows[0].num_videos} videos, {found.rows[0].views} views, {found.dtype}; "
        f"{hardware(found.environment)}, {found.date[:10]}: `{found.command}`. In brackets: "
        f"{found.intervals}."
    )
    return "\n".join([*lines, "", said, ""])


def _accuracy_line(run: dict[str, Any], dense: dict[str, Any]) -> str:
    cells = [f"`{_accuracy_name(run, dense)}`", f"{run['gmacs_per_video']:.2f}"]
    cells.append(f"{run['top1']:.1f} %")
    if run["change"] is None:
        return f"| {' | '.join([*cells, '', '', '', ''])} |"
    near = run["nearness"]
    cells.append(_bracketed(run["change"]["points"], "+.1f"))
    cells.append(f"{run['change']['p_value']:.2g}")
    cells.append(_bracketed(near["agreement"], ".1f", " %"))
    cells.append(_bracketed(near["kl_nats"], ".3f"))
    return f"| {' | '.join(cells)} |"


def _accuracy_name(run: dict[str, Any], dense: dict[str, Any]) -> str:
    """The reducer, or in what a dense row differs from the dense model."""
    own, whole = run["protocol"], dense["protocol"]
    said = [
        *(["6 blocks of 12"] if run["checkpoint"] != dense["checkpoint"] else []),
        *([f"{own['frames']} frames"] if own["frames"] != whole["frames"] else []),
        *([f"{own['size']} pixels"] if own["size"] != whole["size"] else []),
    ]
    if run["views_per_video"] != dense["views_per_video"]:
        said.append(f"{run['views_per_video']} of {dense['views_per_video']} views")
    return f"{run['reducer']} ({', '.join(said)})" if said else run["reducer"]


def _bracketed(interval: dict[str, float], form: str, unit: str = "") -> str:
    low, high = (f"{interval[end]:{form}}" for end in ("low", "high"))
    return f"{interval['value']:{form}}{unit} ({low} to {high})"


def looks() -> str:
    """What the kept tokens hold of GradNorm, and what time still repeats after the last block."""
    found = report_record("looks")
    lines = [
        "| reducer | GMACs | tokens left | GradNorm held | at random | trajectory sum "
        "| same class |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        last = row["stages"][-1] if row["stages"] else None
        cells = (
            f"`{row['reducer']}`",
            f"{row['gmacs_per_view']:.2f}",
            "" if last is None else f"{last['tokens']:.0f}",
            "" if last is None else _bracketed(last["gradnorm"], ".1f", " %"),
            "" if last is None else f"{last['at_random']:.1f} %",
            _bracketed(row["trajectory"][-1], ".2f"),
            "" if last is None else _bracketed(row["same_class"], ".1f", " %"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    said = (
        f"{found['num_clips']} clips; {hardware(found['environment'])}, {found['dtype']}, "
        f"{found['date'][:10]}: `{found['command']}`. In brackets: {METHOD}."
    )
    return "\n".join([*lines, "", said, ""])


def looks_time() -> str:
    """How long a look at one clip takes."""
    found = report_record("looks-vit-small")
    return (
        f"{found['seconds_per_clip']:.1f} s a clip to look and to draw all formats, the median of "
        f"{found['num_clips']}; {hardware(found['environment'])}, "
        f"{found['environment']['cpu_threads']} threads, {found['dtype']}, one clip at a time, "
        f"{found['date'][:10]}: `{found['command']}`. Loading and decoding come on top.\n"
    )


def _ran(found: dict[str, Any]) -> str:
    return (
        f"{found['num_videos']} videos; {hardware(found['environment'])}, {found['dtype']}, batch "
        f"{found['batch_size']}, {found['date'][:10]}; such as `{found['command']}`"
    )
