"""Tables of what was trained on J-HMDB: the models of its splits, and one with STA attached."""

from statistics import median

import torch
from records import RESULTS

from vidprune.intervals import share_interval
from vidprune.report import hardware
from vidprune.training.record import Training

SPLITS = (1, 2, 3)
RATES = (0, 32, 48, 64)


def training_record(name: str) -> Training:
    return Training.from_json((RESULTS / "jhmdb" / name / "train.json").read_text("utf-8"))


def models() -> str:
    """Top-1 of each split's model, dense, and of the cheap one, and of all splits together."""
    lines = [
        "| split | clips learned from | test clips | top-1, % | at 64 pixels, % |",
        "|---|--:|--:|--:|--:|",
    ]
    counts = []
    for split in SPLITS:
        found = training_record(f"split{split}")
        videos, hits = _dense(found)
        _, cheap = _dense(training_record(f"split{split}-64-pixels"))
        counts.append((videos, hits, cheap))
        shares = f"{_share(videos, hits)} | {_share(videos, cheap)}"
        lines.append(f"| {split} | {found.num_videos} | {videos} | {shares} |")
    videos, hits, cheap = (sum(column) for column in zip(*counts, strict=True))
    lines.append(f"| all | | {videos} | {_share(videos, hits)} | {_share(videos, cheap)} |")
    return "\n".join([*lines, "", _said(training_record(f"split{SPLITS[0]}")), ""])


def rates() -> str:
    """What training costs with STA attached, and what comes of it, dense and pruned."""
    kinds = ("none", *(f"sta:r={r}" for r in RATES[1:]))
    names = ("dense", *(f"`{kind}`" for kind in kinds[1:]))
    lines = [
        "| learned with | seconds per epoch | of dense | peak memory, GiB | "
        + " | ".join(f"top-1, {name}" for name in names)
        + " |",
        f"|---|{'--:|' * (3 + len(kinds))}",
    ]
    records = {r: training_record(f"rates/{r}") for r in RATES}
    dense = median(records[0].epoch_seconds)
    for r, found in records.items():
        seconds = median(found.epoch_seconds)
        top1 = {report.reducer: report.top1 for report in found.evaluations}
        lines.append(
            f"| {f'`sta:r={r}`' if r else 'all tokens'} | {seconds:.0f} | {seconds / dense:.2f} | "
            f"{found.peak_memory_gib:.2f} | {' | '.join(f'{top1[kind]:.1f}' for kind in kinds)} |"
        )
    videos, _ = _dense(records[0])
    said = f"{videos} test clips; {_said(records[RATES[-1]])}"
    return "\n".join([*lines, "", said, ""])


def _dense(found: Training) -> tuple[int, int]:
    """Test videos, and how many of them the dense model gets right."""
    (report,) = (each for each in found.evaluations if each.reducer == "none")
    assert report.top1 is not None, "there were videos"
    return report.num_videos, round(report.top1 * report.num_videos / 100)


def _share(videos: int, hits: int) -> str:
    found = share_interval(torch.arange(videos) < hits)
    assert found is not None, "there are videos"
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"


def _said(found: Training) -> str:
    schedule = found.recipe["schedule"]
    report = found.evaluations[0]
    return (
        f"{schedule['precision']} autocast, {schedule['batch_size']} videos of "
        f"{found.recipe['repeats']} clips in a step; evaluated in {report.dtype} on "
        f"{report.views_per_video} views; {hardware(found.environment)}, {found.date[:10]}; such "
        f"as `{found.command}`."
    )


TABLES = {"jhmdb-models": models, "jhmdb-rates": rates}
