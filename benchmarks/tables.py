"""Writes the tables of the README and the docs from the committed records.

    python benchmarks/tables.py          # rewrite what has changed
    python benchmarks/tables.py --check  # exit with 1 where something would change

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidprune.report import Demo, DemoRow, hardware

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_PLACE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


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
        f"`{row.reducer}`",
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
        pair = [_report(f"positions/{name}-{rule}") for rule in ("interpolate", "recompute")]
        shown = " | ".join(f"{found['top1']:.1f} %" for found in pair)
        lines.append(f"| {clips} | {shown} |")
    dense = Demo.from_json((RESULTS / "demo.json").read_text("utf-8")).rows[0]
    return "\n".join([*lines, "", f"{_ran(pair[0])}; its own size: {dense.top1:.1f} %.", ""])


def jhmdb() -> str:
    """A linear probe on J-HMDB, dense and pruned."""
    dense = _report("jhmdb_split1/none")
    lines = ["| reducer | top-1 | top-5 | GMACs per view |", "|---|--:|--:|--:|"]
    for reducer in ("none", *(f"{name}:r={r}" for r in (16, 24, 32) for name in ("sta", "random"))):
        found = _report(f"jhmdb_split1/{reducer.replace(':', '-')}")
        assert found["reducer"] == reducer
        hits = f"{found['top1']:.1f} % | {found['top5']:.1f} %"
        lines.append(f"| `{reducer}` | {hits} | {found['gmacs_per_view']:.2f} |")
    return "\n".join([*lines, "", f"{_ran(dense)}; {dense['views_per_video']} views each.", ""])


def _report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def _ran(found: dict[str, Any]) -> str:
    return (
        f"{found['num_videos']} videos; {hardware(found['environment'])}, {found['dtype']}, batch "
        f"{found['batch_size']}, {found['date'][:10]}; such as `{found['command']}`"
    )


TABLES: dict[str, Callable[[], str]] = {
    "demo": demo,
    "demo-model": demo_model,
    "jhmdb": jhmdb,
    "positions": positions,
}
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "recipes" / "demo_model" / "README.md",
)


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']]()}{place[3]}", text)


def main(check: bool) -> int:
    changed = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            changed += 1
            print(f"{page.relative_to(ROOT)}: {'is out of date' if check else 'rewritten'}")
            if not check:
                page.write_text(new, encoding="utf-8")
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
