"""Tables of what forwards cost and how long they take; see `account_tables` for where it goes."""

import re
from itertools import product
from typing import Any

from records import benchmark_record, report_record

from vidprune.backbones.architectures import architecture
from vidprune.benchmarking.report import Benchmark
from vidprune.benchmarking.table import speed_table, taken_on
from vidprune.macs import costs
from vidprune.reducers.sta import STA


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


DROPS = (32, 64, 96)
SETTINGS = tuple(product(("small", "base"), ("fp32", "bf16"), (1, 8)))


def sweep() -> str:
    """What dropping more buys on the CPU, over the best dense run."""
    methods = ("sta:r", "random:r", "random:r,fold=true", "tome:r")
    lines = [
        f"| model, dtype, batch | | {' | '.join(f'r = {r}' for r in DROPS)} |",
        "|---|---|" + "--:|" * len(DROPS),
    ]
    records = []
    for size, dtype, batch in SETTINGS:
        found = [benchmark_record(f"cpu/{size}-{dtype}-batch-{batch}-r{r}") for r in DROPS]
        records += found
        for method in methods:
            cells = [_speed_up_of(record, method) for record in found]
            title = f"ViT-{size[0].upper()}, {dtype}, {batch}" if method == methods[0] else ""
            lines.append(f"| {title} | `{method}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", of_one_machine(records), ""])


def _speed_up_of(record: Benchmark, method: str) -> str:
    """A method's speed-up and, in brackets, how many times less arithmetic."""
    form = re.compile(method.replace(":r", r":r=\d+"))
    row = next(row for row in record.rows if form.fullmatch(row.setting.reducer))
    assert row.speed is not None, "it was timed"
    return f"{row.speed.speed_up:.2f} ({row.gmacs_dense / row.gmacs_per_view:.2f})"


def of_one_machine(records: list[Benchmark]) -> str:
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


def matched(size: str, dtype: str, batch: int) -> str:
    """Every reducer, and cheaper dense models, at the arithmetic of STA with r = 64."""
    found = benchmark_record(f"cpu/{size}-{dtype}-batch-{batch}-r64")
    return f"{speed_table(found.rows).markdown()}\n{spoken(found)}\n"


INPUTS = (("bf16", 0), ("bf16", 2))


def from_files() -> str:
    """From files to logits, by how many processes decode."""
    lines = [
        "| dtype | processes that decode | reducer | videos/s | model alone | decoding alone "
        "| time beyond the model's |",
        "|---|--:|---|--:|--:|--:|--:|",
    ]
    records = []
    for dtype, workers in INPUTS:
        found = benchmark_record(f"cpu/input-{dtype}-workers-{workers}")
        records.append(found)
        title = f"{dtype} | {workers or 'none beside the model'}"
        for row in found.rows:
            assert row.end_to_end is not None, "it was given videos"
            whole = row.end_to_end.videos_per_second
            alone = row.end_to_end.model_videos_per_second
            decoding = row.end_to_end.decoding_videos_per_second
            beyond = f"{100 * (1 - whole / alone):.0f} %"
            cells = (
                f"`{row.setting.reducer}` | {whole:.3f} | {alone:.3f} | {decoding:.2f} | {beyond}"
            )
            lines.append(f"| {title} | {cells} |")
            title = " | "
    videos, views = records[0].videos, records[0].rows[0].end_to_end.views_per_video
    said = f"ViT-S, {videos} videos of ten seconds, {views} views of each.\n"
    return "\n".join([*lines, "", said, of_one_machine(records), ""])


def decoders() -> str:
    """Views by torchcodec beside PyAV's, file by file."""
    record = report_record("cpu/decoders")
    lines = [
        "| file | frames | read by | off by at most | PyAV, ms | asked for torchcodec, ms |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in record["rows"]:
        if "refused" in row:
            lines.append(f"| `{row['file']}` | | refused: {row['refused']} | | | |")
            continue
        assert row["same_frames"], "it would have to be said"
        who = f"PyAV: {row['instead'].split(': ')[1]}" if row["instead"] else "torchcodec"
        spent = " | ".join(f"{value:.0f}" for value in row["milliseconds"].values())
        lines.append(f"| `{row['file']}` | {row['frames']} | {who} | {row['most']} | {spent} |")
    told = record["environment"]
    said = (
        f"All views of `{record['protocol']}`, one thread, medians of {record['repeats']} in turn; "
        f"{told['cpu']}, torchcodec {told['torchcodec']} with the FFmpeg of PyAV {told['av']}, "
        f"{record['date'][:10]}: `{record['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


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
    found = benchmark_record(f"cpu/videoswin-{name}")
    return f"`{name}`:\n\n{speed_table(found.rows).markdown()}\n{spoken(found)}\n"


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
    records = [benchmark_record(f"cpu/families-{name}") for name in FAMILIES]
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
    return "\n".join([*lines, "", of_one_machine(records), ""])


def spoken(found: Benchmark) -> str:
    setting = found.rows[0].setting
    return f"{setting.dtype}, batch {setting.batch_size}; {taken_on(found)}"
