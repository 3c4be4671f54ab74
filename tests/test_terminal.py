"""What people see: names as they are, whatever they look like to rich."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress as Bar

from test_report import REPORT
from vidprune.metrics import Accuracy
from vidprune.report import Guess, Prediction, Progress
from vidprune.terminal import ProgressBar, prediction_table, progress_columns, report_table

HOSTILE = [
    "[red]x[/red].mp4",
    "[/].mp4",
    ":smile:.mp4",
    "a\\",
    "[link=https://example.org]y[/link].mp4",
]


def shown(table: object) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_literally(name):
    guess = Guess(label=0, name=f"class {name}", probability=0.25)
    table = prediction_table(
        [
            Prediction(video=f"good {name}", top=(guess,)),
            Prediction(video=f"bad {name}", error=f"reason {name}"),
        ]
    )
    for cell in (f"good {name}", f"class {name}", "0.250", f"bad {name}", f"reason {name}"):
        assert cell in shown(table)
    assert name in shown(report_table(replace(REPORT, checkpoint=name)))


def test_names_cannot_steer_the_terminal():
    table = prediction_table([Prediction(video="a\x1b[31m\n.mp4", error="broken")])
    assert "a\\x1b[31m\\n.mp4" in shown(table)
    assert "\x1b" not in shown(table)


def test_long_names_are_folded_and_not_cut():
    name = "/videos/" + "x" * 300 + ".mp4"
    for table in (
        prediction_table([Prediction(video=name, error="no such file")]),
        report_table(replace(REPORT, checkpoint=name)),
    ):
        cells = re.sub(r"[^\w./]", "", shown(table))
        assert name in cells.replace("nosuchfile", "")


def test_a_report_without_videos_is_shown():
    text = shown(report_table(REPORT))
    assert "all were done before" in text
    assert "0, 15 views each" in text


def test_the_bar_shows_accuracy_so_far_and_is_not_there_before_the_start():
    console = Console(file=StringIO(), width=120)
    bar = ProgressBar(Bar(*progress_columns(), console=console))
    bar.close()
    assert console.file.getvalue() == ""
    found = Accuracy(top1=50.0, top5=100.0, num_videos=2)
    bar(Progress(done=3, total=4, unreadable=1, accuracy=found))
    bar.close()
    text = console.file.getvalue()
    assert "3/4" in text
    assert "top-1 50.00 %  top-5 100.00 %  1 unreadable" in text
