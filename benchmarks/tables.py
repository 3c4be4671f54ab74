"""Writes the tables of the README and the docs from the committed records.

    python benchmarks/tables.py          # rewrite what has changed
    python benchmarks/tables.py --check  # exit with 1 where something would change

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

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


TABLES: dict[str, Callable[[], str]] = {"demo": demo}


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']]()}{place[3]}", text)


def main(check: bool) -> int:
    changed = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            changed += 1
            print(f"{page.relative_to(ROOT)}: {'is out of date' if check else 'rewritten'}")
            if not check:
                page.write_text(new, encoding="utf-8")
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
