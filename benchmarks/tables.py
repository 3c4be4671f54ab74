"""Writes the tables of the README and the docs from the committed records and the test matrix.

    python benchmarks/tables.py          # rewrite what has changed, and draw the plots
    python benchmarks/tables.py --check  # exit with 1 where something would change

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vidprune.backbones.architectures import architecture
from vidprune.benchmarking.account import KINDS
from vidprune.benchmarking.contest import shrunk
from vidprune.benchmarking.plots import draw
from vidprune.benchmarking.report import Benchmark
from vidprune.benchmarking.table import markdown, speed_table, taken_on
from vidprune.intervals import METHOD
from vidprune.macs import costs
from vidprune.reducers.sta import STA
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
        pair = [_report(f"positions/{name}-{rule}") for rule in ("interpolate", "recompute")]
        shown = " | ".join(f"{found['top1']:.1f} %" for found in pair)
        lines.append(f"| {clips} | {shown} |")
    dense = Demo.from_json((RESULTS / "demo.json").read_text("utf-8")).rows[0]
    return "\n".join([*lines, "", f"{_ran(pair[0])}; its own size: {dense.top1:.1f} %.", ""])


def costs_table() -> str:
    """What a view costs at every r, by formula, for the four ViTs."""
    drops = (0, 16, 32, 48, 64, 80, 96)
    names = ("small", "base", "large", "huge")
    lines = [f"| model | {' | '.join(f'r = {r}' for r in drops)} |", "|---|" + "--:|" * len(drops)]
    for name in names:
        config = architecture(f"vit_{name}_patch16_224")
        found = [costs(config, STA(r=r)).gmacs_per_view for r in drops]
        lines.append(f"| ViT-{name[0].upper()} | {' | '.join(f'{g:.2f}' for g in found)} |")
    return "\n".join([*lines, ""])


SETTINGS = tuple(product(("small", "base"), ("fp32", "bf16"), (1, 8)))


def sweep() -> str:
    """What dropping more buys on the CPU, over the best dense run."""
    drops, methods = (32, 48, 64, 96), ("sta:r", "random:r", "random:r,fold=true", "tome:r")
    lines = [
        f"| model, dtype, batch | | {' | '.join(f'r = {r}' for r in drops)} |",
        "|---|---|" + "--:|" * len(drops),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        found = [_benchmark(f"cpu/{size}-{dtype}-batch-{batch}-r{r}") for r in drops]
        records += found
        for method in methods:
            cells = [_speed_up_of(record, method) for record in found]
            title = f"ViT-{size[0].upper()}, {dtype}, {batch}" if method == methods[0] else ""
            lines.append(f"| {title} | `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _of_one_machine(records), ""])


def _speed_up_of(record: Benchmark, method: str) -> str:
    """A method's speed-up and, in brackets, how many times less arithmetic."""
    form = re.compile(method.replace(":r", r":r=\d+"))
    row = next(row for row in record.rows if form.fullmatch(row.setting.reducer))
    assert row.speed is not None, "it was timed"
    return f"{row.speed.speed_up:.2f} ({row.gmacs_dense / row.gmacs_per_view:.2f})"


def _of_one_machine(records: list[Benchmark]) -> str:
    """What many records were taken on, which has to be the same but for the commit."""
    first = records[0]
    for record in records:
        if _machine(record) != _machine(first):
            raise ValueError(
                f"a table mixes machines: {_machine(first)} for `{first.command}` and "
                f"{_machine(record)} for `{record.command}`; take the records anew on one"
            )
    said = f"{len(records)} runs, each in turn with its own dense model; such as: "
    return said + taken_on(first)


def _machine(record: Benchmark) -> dict[str, Any]:
    return {name: value for name, value in record.environment.items() if name != "commit"}


def account() -> str:
    """Where a forward's time goes, dense and with STA at r = 64, and what the bound leaves."""
    # Of these models the head takes no time that shows; older records book it as embedding.
    kinds = [kind for kind in KINDS if kind != "head"]
    lines = [
        f"| model, dtype, batch | ms | {' | '.join(kinds)} | all |",
        "|---|---|" + "--:|" * (len(kinds) + 1),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        found = _benchmark(f"cpu/{size}-{dtype}-batch-{batch}-r64")
        records.append(found)
        dense, pruned = (row.speed.account_ms for row in found.rows[:2])
        title = f"ViT-{size[0].upper()}, {dtype}, {batch}"
        config = architecture(found.rows[0].setting.checkpoint)
        bound = shrunk(dense, costs(config), costs(config, found.rows[1].setting.reducer))
        named = {"`none`": dense, "bound": bound, "`sta:r=64`": pruned}
        for name, spent in named.items():
            cells = [f"{spent[kind]:.0f}" for kind in kinds] + [f"{sum(spent.values()):.0f}"]
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
            title = ""
    return "\n".join([*lines, "", _of_one_machine(records), ""])


def matched(size: str, dtype: str, batch: int) -> str:
    """Every reducer, and cheaper dense models, at the arithmetic of STA with r = 64."""
    found = _benchmark(f"cpu/{size}-{dtype}-batch-{batch}-r64")
    return f"{speed_table(found.rows).markdown()}\n{_spoken(found)}\n"


def target() -> str:
    """Pruned time against the bound, and the share of selection, on one thread."""
    both = [_benchmark(f"cpu/target-{size}") for size in ("small", "base")]
    tables = [speed_table(found.rows).markdown() for found in both]
    named = zip(("ViT-S", "ViT-B"), tables, both, strict=True)
    return "\n".join(f"{name}:\n\n{table}\n{_spoken(found)}\n" for name, table, found in named)


def _benchmark(name: str) -> Benchmark:
    return Benchmark.from_json((RESULTS / name / "benchmark.json").read_text(encoding="utf-8"))


# GFLOPs per view as the paper prints them (Ding et al. 2023, Table 4), for each of VIDEOSWIN_DROPS.
VIDEOSWIN_DROPS = (0, 192, 256, 320)
VIDEOSWIN_PUBLISHED = {
    "swin3d_t": (88, 68, 61, 54),
    "swin3d_s": (166, 121, 106, 91),
    "swin3d_b": (282, 202, 176, 149),
    "swin3d_b_ssv2": (321, 241, 215, 188),
}


def videoswin_costs() -> str:
    """VideoSwin's arithmetic in the paper's form, beside the paper's, and with gaps closed."""
    lines = [
        "| | r = 0 | paper | r = 192 | paper | closed | r = 256 | paper | closed | r = 320 | paper "
        "| closed |",
        "|---|" + "--:|" * 11,
    ]
    for name, published in VIDEOSWIN_PUBLISHED.items():
        cells = []
        for r, printed in zip(VIDEOSWIN_DROPS, published, strict=True):
            forms = [f"sta:r={r},gaps=filled", *([f"sta:r={r}"] if r else [])]
            ours = [f"{costs(architecture(name), form).gmacs_per_view:.1f}" for form in forms]
            cells += [ours[0], str(printed), *ours[1:]]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def videoswin_speed() -> str:
    """Dense and pruned VideoSwins in turn."""
    return "\n".join(_videoswin_speed(name) for name in ("swin3d_t", "swin3d_b"))


def _videoswin_speed(name: str) -> str:
    found = _benchmark(f"cpu/videoswin-{name}")
    return f"`{name}`:\n\n{speed_table(found.rows).markdown()}\n{_spoken(found)}\n"


FAMILIES = (
    "swin3d_t",
    "swin3d_s",
    "swin3d_b",
    "vivit_b_16x2",
    "vjepa2_vitl_fpc16_256",
    "vit_base_patch16_224",
    "timesformer_base_8x224",
    "videoprism_base",
)


def families() -> str:
    """One published shape of each family, a real clip from its file to its classes."""
    lines = [
        "| model | clip | reducer | GMACs | clips/s | speed-up | from a file, videos/s |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    records = [_benchmark(f"cpu/families-{name}") for name in FAMILIES]
    for found in records:
        own = found.rows[0].setting
        title = f"`{own.checkpoint}` | {own.frames}x{own.size}x{own.size}"
        for row in found.rows:
            assert row.speed is not None, "it was timed"
            assert row.end_to_end is not None, "it was given a video"
            speed = row.speed
            quartiles = f"{speed.speed_up_low:.2f}-{speed.speed_up_high:.2f}"
            cells = (
                f"{row.gmacs_per_view:.1f}",
                f"{speed.clips_per_second:.2f}",
                f"{speed.speed_up:.2f} ({quartiles})",
                f"{row.end_to_end.videos_per_second:.2f}",
            )
            lines.append(f"| {title} | `{row.setting.reducer}` | {' | '.join(cells)} |")
            title = " | "
    return "\n".join([*lines, "", _of_one_machine(records), ""])


def _spoken(found: Benchmark) -> str:
    setting = found.rows[0].setting
    return f"{setting.dtype}, batch {setting.batch_size}; {taken_on(found)}"


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


def _accuracy_line(run: dict[str, Any], dense: dict[str, Any]) -> str:
    cells = [f"`{_accuracy_name(run, dense)}`", f"{run['gmacs_per_video']:.2f}"]
    cells.append(f"{run['top1']:.1f} %")
    if run["change"] is None:
        return f"| {' | '.join([*cells, '', '', '', ''])} |"
    near = run["nearness"]
    cells.append(_bracketed(run["change"]["points"], "+.1f"))
    cells.append(f"{run['change']['mcnemar_p']:.2g}")
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
    found = _report("looks")
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


def support() -> str:
    """Which reducers work on which models, and how far: from the tables that the tests run over."""
    table: str = runpy.run_path(str(ROOT / "tests" / "matrix.py"))["support_table"]()
    return table


def _report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def _ran(found: dict[str, Any]) -> str:
    return (
        f"{found['num_videos']} videos; {hardware(found['environment'])}, {found['dtype']}, batch "
        f"{found['batch_size']}, {found['date'][:10]}; such as `{found['command']}`"
    )


TABLES: dict[str, Callable[[], str]] = {
    "support": support,
    "demo": demo,
    "demo-model": demo_model,
    "positions": positions,
    "costs": costs_table,
    "videoswin-costs": videoswin_costs,
    "videoswin-speed": videoswin_speed,
    "families": families,
    "sweep": sweep,
    "account": account,
    "target": target,
    "looks": looks,
    "accuracy-demo": partial(accuracy, "demo"),
    "accuracy-videoswin": partial(accuracy, "videoswin"),
    "accuracy-jhmdb": partial(accuracy, "jhmdb"),
    **{
        f"matched-{size}-{dtype}-{batch}": partial(matched, size, dtype, batch)
        for size, dtype, batch in SETTINGS
    },
}
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "recipes" / "demo_model" / "README.md",
)


def rewritten(text: str) -> str:
    """The text with every table made anew."""
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']]()}{place[3]}", text)


def texts() -> dict[Path, str]:
    """What every page, and the copies of every record for reading, should hold."""
    found = {page: rewritten(page.read_text(encoding="utf-8")) for page in PAGES}
    for path in sorted(RESULTS.rglob("benchmark.json")):
        record = Benchmark.from_json(path.read_text(encoding="utf-8"))
        found[path.with_suffix(".csv")] = record.to_csv()
        found[path.with_suffix(".md")] = markdown(record)
    return found


def draw_plots() -> None:
    """The plots of docs/benchmarks.md, from the demo's record."""
    with TemporaryDirectory() as folder:
        draw(_benchmark("demo"), Path(folder))
        for name in ("agreement", "throughput"):
            shutil.copy(f"{folder}/{name}.png", ROOT / "docs" / "images" / f"benchmark-{name}.png")


def main(check: bool) -> int:
    changed = 0
    for path, new in texts().items():
        if path.read_text(encoding="utf-8") != new:
            changed += 1
            print(f"{path.relative_to(ROOT)}: {'is out of date' if check else 'rewritten'}")
            if not check:
                path.write_text(new, encoding="utf-8")
    if not check:
        draw_plots()
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
