"""What people see: names as they are, whatever they look like to rich."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress as Bar

from test_report import REPORT
from vidprune.backbones.architectures import architecture
from vidprune.intervals import Interval
from vidprune.macs import costs
from vidprune.metrics import Accuracy, Nearness
from vidprune.report import (
    Agreement,
    AgreementRow,
    Change,
    ComparedRun,
    Comparison,
    Guess,
    Prediction,
    Progress,
)
from vidprune.terminal import (
    ProgressBar,
    agreement_table,
    comparison_table,
    costs_table,
    prediction_table,
    progress_columns,
    report_table,
)

HOSTILE = [
    "[red]x[/red].mp4",
    "[/].mp4",
    ":smile:.mp4",
    "a\\",
    "[link=https://example.org]y[/link].mp4",
]


WIDEST = Nearness(
    agreement=Interval(value=99.92, low=99.9, high=100.0),
    kl_nats=Interval(value=10.1234, low=10.0, high=11.0),
    rank_correlation=Interval(value=-0.1234, low=-0.2, high=-0.1),
    not_finite=0,
)
DENSE_RUN = ComparedRun(
    run="runs/dense",
    checkpoint="demo",
    reducer="none",
    dtype="float32",
    protocol={},
    top1=100.0,
    not_finite=0,
    gmacs_per_view=597.3,
    views_per_video=15,
    gmacs_per_video=8959.5,
    change=None,
    nearness=None,
    hardware="a processor",
    command="vidprune evaluate",
)
PRUNED_RUN = replace(
    DENSE_RUN,
    run="runs/pruned",
    change=Change(
        points=Interval(value=-12.3456, low=-23.4, high=-10.0), lost=9, gained=1, p_value=1.2e-5
    ),
    nearness=WIDEST,
)
COMPARISON = Comparison(
    runs=(DENSE_RUN, PRUNED_RUN),
    num_videos=20_000,
    num_classes=400,
    left_out=("a.mp4",),
    command="c",
    date="d",
)
AGREEMENT = Agreement(
    rows=(
        AgreementRow(reducer="none", gmacs_per_view=180.0, nearness=None),
        AgreementRow(reducer="sta:r=64", gmacs_per_view=90.0, nearness=WIDEST),
    ),
    num_videos=7,
    unreadable=(),
    checkpoint="c",
    protocol={},
    views_per_video=1,
    dtype="float32",
    batch_size=8,
    environment={},
    command="c",
    date="d",
)


def shown(table: object, *, width: int = 200) -> str:
    console = Console(file=StringIO(), width=width)
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


NUMBERS = (
    *("100.0", "8959.50", "597.3", "-12.3", "(1.2e-05)", "-23.4", "-10.0", "99.9"),
    *("10.123", "10.000", "11.000", "-0.123", "-0.200", "-0.100"),
)


@pytest.mark.parametrize("width", [72, 80, 200])
def test_no_number_of_a_comparison_is_cut(width):
    text = shown(comparison_table(COMPARISON), width=width)
    assert "…" not in text
    words = re.split(r"[\s,]+", text)
    assert all(number in words for number in NUMBERS)


def test_a_comparison_names_its_runs_by_number():
    text = shown(comparison_table(COMPARISON))
    assert "20000 videos, 400 classes, 1 unreadable left out" in text
    assert "15 x 597.3" in text
    found = [line.split() for line in text.splitlines() if line.strip().startswith("2 ")]
    assert found[0] == ["2", "runs/pruned", "demo", "none", "float32"]
    assert found[1][:4] == ["2", "100.0", "%", "-12.3"]


@pytest.mark.parametrize("name", [*HOSTILE, "a\x1b[31m\n.mp4"])
def test_names_of_runs_are_shown_literally(name):
    hostile = replace(PRUNED_RUN, run=f"run {name}", checkpoint=f"c {name}", reducer=f"r {name}")
    text = shown(comparison_table(replace(COMPARISON, runs=(DENSE_RUN, hostile))))
    escaped = name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    for cell in (f"run {escaped}", f"c {escaped}", f"r {escaped}"):
        assert cell in text


def test_agreement_with_the_dense_model():
    text = shown(agreement_table(AGREEMENT), width=80)
    assert "7 videos, 1 view of each" in text
    for cell in ("99.9 %", "10.000, 11.000", "180.00", "90.00", "50 %"):
        assert cell in text


def test_what_is_not_defined_is_a_dash_and_what_has_no_interval_a_value():
    one = Nearness(
        agreement=Interval(value=100.0, low=None, high=None),
        kl_nats=None,
        rank_correlation=None,
        not_finite=1,
    )
    row = replace(AGREEMENT.rows[1], nearness=one)
    line = shown(agreement_table(replace(AGREEMENT, rows=(AGREEMENT.rows[0], row))))
    assert re.search(r"sta:r=64 +100\.0 % +- +- +90\.00", line)


def test_costs_say_what_becomes_of_gaps_in_windows():
    config = architecture("swin3d_b")
    specs = ("none", "random:r=256", "random:r=298")
    text = shown(costs_table({spec: costs(config, spec) for spec in specs}))
    by_name = {line.split()[0]: line.rstrip() for line in text.splitlines() if line.strip()}
    assert by_name["reducer"].endswith("gaps")
    assert by_name["random:r=256"].endswith("closed")
    assert by_name["random:r=298"].endswith("filled, filled, closed")
    assert "closed" not in by_name["none"]


def test_no_word_of_what_pruning_costs_is_cut():
    found = costs(architecture("swin3d_b"), "random:r=298")
    text = shown(costs_table({"random:r=298,fold=true": found}), width=80)
    assert "…" not in text
    assert (text.count("filled"), text.count("closed")) == (2, 1)


def test_costs_of_models_without_windows_say_nothing_of_gaps():
    found = costs(architecture("vit_base_patch16_224"), "random:r=64")
    assert found.gaps == ()
    assert "gaps" not in shown(costs_table({"random:r=64": found}))
