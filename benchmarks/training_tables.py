"""The table of the models that were trained on J-HMDB."""

import torch
from records import RESULTS

from vidprune.intervals import share_interval
from vidprune.report import hardware
from vidprune.training.record import Training


def training_record(name: str) -> Training:
    return Training.from_json((RESULTS / "jhmdb" / name / "train.json").read_text("utf-8"))


def _is_there(name: str) -> bool:
    return (RESULTS / "jhmdb" / name / "train.json").exists()


def _top1(found: Training) -> str:
    """The dense model's, with its interval."""
    (report,) = (each for each in found.evaluations if each.reducer == "none")
    assert report.top1 is not None, "there were videos"
    hits = round(report.top1 * report.num_videos / 100)
    top1 = share_interval(torch.arange(report.num_videos) < hits)
    assert top1 is not None, "there were videos"
    return f"{top1.value:.1f} [{top1.low:.1f}, {top1.high:.1f}]"


def models() -> str:
    """Top-1 of each split's model that is there, dense, and of the cheap one."""
    lines = [
        "| split | clips learned from | test clips | top-1, % | at 64 pixels, % |",
        "|---|--:|--:|--:|--:|",
    ]
    for split in SPLITS:
        found = training_record(f"split{split}")
        cheap = f"split{split}-64-pixels"
        cells = [_top1(found), _top1(training_record(cheap)) if _is_there(cheap) else ""]
        videos = found.evaluations[0].num_videos
        lines.append(f"| {split} | {found.num_videos} | {videos} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _said(training_record(f"split{SPLITS[0]}")), ""])


def _said(found: Training) -> str:
    schedule = found.recipe["schedule"]
    report = found.evaluations[0]
    return (
        f"{schedule['precision']} autocast, {schedule['batch_size']} videos of "
        f"{found.recipe['repeats']} clips in a step; evaluated in {report.dtype} on "
        f"{report.views_per_video} views; {hardware(found.environment)}, {found.date[:10]}; such "
        f"as `{found.command}`."
    )


SPLITS = [split for split in (1, 2, 3) if _is_there(f"split{split}")]
TABLES = {"jhmdb-models": models}
