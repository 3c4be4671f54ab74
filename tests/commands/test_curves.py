"""Curves: the same costs for all, and figures that are those of runs compared by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_job import write_checkpoint
from vidprune import load
from vidprune.cli import main
from vidprune.commands.compare import compare
from vidprune.commands.wishes import Setting, Wish, settings_of
from vidprune.demo.clips import write_clips
from vidprune.drawing.tradeoff import draw_tradeoff
from vidprune.inference import classify_with_each
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES, Interval
from vidprune.prepare import ViewOptions
from vidprune.reducers.spec import file_name
from vidprune.tradeoff import TradeOff


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=2, seed=1234)
    return folder


@pytest.fixture(scope="module")
def found(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TradeOff, Path]:
    output = tmp_path_factory.mktemp("curves")
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta", "tome"]
    words += ["--at", "0.5", "0.3", "--smaller", "benchmarks/models/demo_6_blocks"]
    words += ["--segments", "2", "--output", str(output), "--workers", "0"]
    assert main(words) == 0
    return TradeOff.from_json((output / "curves.json").read_text()), output


def test_every_method_costs_what_was_asked(found: tuple[TradeOff, Path]) -> None:
    record, _ = found
    dense, *others = record.points
    assert (dense.method, dense.share, dense.change) == ("dense", 1, None)
    for share in (0.5, 0.3):
        near = {point.method for point in others if abs(point.share - share) < 0.03}
        assert near >= {"random", "sta", "tome"}
    assert {point.method for point in others} == {
        *("random", "sta", "tome"),
        *("fewer frames", "smaller frames", "fewer views", "smaller model"),
    }


def test_figures_are_those_of_compare(found: tuple[TradeOff, Path]) -> None:
    record, output = found
    for method in ("sta", "tome"):
        point = next(point for point in record.points if point.method == method)
        random = next(point for point in record.points if point.method == "random")
        runs = output / "runs" / "0"
        named = [runs / text.replace(":", "-") for text in ("none", point.setting, random.setting)]
        by_hand = compare(named).runs
        assert point.top1.value == by_hand[1].top1
        assert point.change == by_hand[1].change
        assert point.nearness == by_hand[1].nearness
        assert point.gmacs_per_video == by_hand[1].gmacs_per_video
        assert point.over_random == compare([named[2], named[1]]).runs[1].change
        assert random.over_random is None


def test_nothing_is_compared_with_random_pruning_of_another_cost(
    found: tuple[TradeOff, Path],
) -> None:
    record, _ = found
    chance = [point.share for point in record.points if point.method == "random"]
    others = [point for point in record.points if point.method not in ("dense", "random")]
    near = [min(abs(point.share - share) for share in chance) <= 0.02 for point in others]
    assert [point.over_random is not None for point in others] == near
    assert not all(near), "one of the cheap dense models lies aside"


def test_an_axis_of_less_than_a_decade_has_plain_numbers(
    found: tuple[TradeOff, Path], tmp_path: Path
) -> None:
    record, _ = found
    points = []
    for number, point in enumerate(record.points):
        kl = 0.3 + 0.01 * number
        near = point.nearness and replace(
            point.nearness, kl_nats=Interval(value=kl, low=kl - 0.01, high=kl + 0.01)
        )
        points.append(replace(point, nearness=near))
    svg, _ = draw_tradeoff(replace(record, points=tuple(points)), tmp_path / "plot")
    assert "0.3" in svg.read_text()
    assert "mathdefault" not in svg.read_text()


def test_a_video_that_cannot_be_read_is_named(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (clips / "test.csv").read_text().splitlines()[:4]
    (clips / "gone.csv").write_text("\n".join([*rows, "gone.mp4 2"]))
    words = ["curves", "--data", str(clips / "gone.csv"), "--model", "demo", "--reducer", "sta"]
    words += ["--at", "0.5", "--no-alternatives", "--output", str(tmp_path), "--workers", "0"]
    assert main(words) == 1
    assert "unreadable: gone.mp4: " in capsys.readouterr().err
    record = TradeOff.from_json((tmp_path / "curves.json").read_text())
    assert record.num_videos == 4
    assert [video["path"] for video in record.unreadable] == ["gone.mp4"]


def test_fewer_views_are_the_dense_model_s_own(
    found: tuple[TradeOff, Path], clips: Path, tmp_path: Path
) -> None:
    record, _ = found
    (point,) = (point for point in record.points if point.method == "fewer views")
    assert (point.setting, point.share) == ("1 views", 0.5)
    words = ["evaluate", "--data", str(clips), "--model", "demo", "--segments", "2"]
    assert main([*words, "--output", str(tmp_path / "run"), "--workers", "0"]) == 0
    lines = map(json.loads, (tmp_path / "run" / "views.jsonl").read_text().splitlines())
    first = [line for line in lines if line["view"] == 0]
    hits = sum(max(range(12), key=line["logits"].__getitem__) == line["label"] for line in first)
    assert point.top1.value == pytest.approx(100 * hits / len(first))


def test_clips_of_one_source_count_as_one(
    clips: Path, found: tuple[TradeOff, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the runs that are there; and compare says the same."""
    record, output = found
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta", "tome"]
    words += ["--at", "0.5", "0.3", "--smaller", "benchmarks/models/demo_6_blocks"]
    words += ["--segments", "2", "--output", str(output), "--workers", "0"]
    before = (output / "curves.json").read_text()
    assert main([*words, "--source", r"(\w+)/"]) == 0
    assert "over sources" in " ".join(capsys.readouterr().out.split())
    grouped = TradeOff.from_json((output / "curves.json").read_text())
    (output / "curves.json").write_text(before)
    assert grouped.intervals == METHOD_OVER_SOURCES
    assert record.intervals == METHOD
    alone = {point.setting: point for point in record.points}
    assert [point.top1.value for point in grouped.points] == [
        alone[point.setting].top1.value for point in grouped.points
    ]
    (point,) = (
        each for each in grouped.points if each.setting.startswith("sta") and each.share > 0.4
    )
    runs = output / "runs" / "0"
    folders = [runs / "none", runs / file_name(point.setting)]
    same = compare(folders, source=r"(\w+)/").runs[1]
    assert same.change == point.change
    assert same.nearness == point.nearness
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--source", r"(\w+)/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["intervals"] == METHOD_OVER_SOURCES
    assert main(["compare", *map(str, folders), "--source", "("]) == 2


def test_data_of_their_own_models_are_pooled(
    clips: Path, tmp_path: Path, found: tuple[TradeOff, Path]
) -> None:
    rows = (clips / "test.csv").read_text().splitlines()
    for name, part in (("a", rows[:12]), ("b", rows[12:])):
        (clips / f"{name}.csv").write_text("\n".join(part))
    words = ["curves", "--data", str(clips / "a.csv"), str(clips / "b.csv"), "--segments", "2"]
    words += ["--model", "demo", "demo", "--reducer", "sta", "--at", "0.5", "--no-alternatives"]
    assert main([*words, "--output", str(tmp_path / "two"), "--workers", "0"]) == 0
    pooled = TradeOff.from_json((tmp_path / "two" / "curves.json").read_text())
    whole = {point.setting: point for point in found[0].points}
    assert pooled.num_videos == found[0].num_videos == 24
    for point in pooled.points:
        assert point.top1 == whole[point.setting].top1
        assert point.change == whole[point.setting].change


def test_what_was_cut_off_goes_on(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(classifiers: list[Any], requests: list[Any], **options: Any) -> Any:
        asked.append(len(requests))
        return classify_with_each(classifiers, requests, **options)

    monkeypatch.setattr("vidprune.commands.evaluate.classify_with_each", counted)
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta", "--at", "0.5"]
    words += ["--no-alternatives", "--output", str(tmp_path / "run"), "--workers", "0"]
    assert main(words) == 0
    first = (tmp_path / "run" / "curves.json").read_text()
    assert asked == [24]
    dropped = tmp_path / "run" / "runs" / "0" / "sta-r=21" / "views.jsonl"
    dropped.write_text("".join(dropped.read_text().splitlines(keepends=True)[:5]))
    assert main(words) == 0
    again = TradeOff.from_json((tmp_path / "run" / "curves.json").read_text())
    assert again.points == TradeOff.from_json(first).points
    # One view of a video: five of the reducer's were left, and all of the dense model's.
    assert asked == [24, 19]
    assert again.elsewhere == {}


def test_what_ran_on_other_hardware_is_named(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what did not run again is not said to have run here."""
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta", "--at", "0.5"]
    words += ["--no-alternatives", "--output", str(tmp_path / "run"), "--workers", "0"]
    assert main(words) == 0
    first = TradeOff.from_json((tmp_path / "run" / "curves.json").read_text())
    (tmp_path / "run" / "runs" / "0" / "sta-r=21" / "views.jsonl").unlink()
    there = first.environment | {"device": "an accelerator"}
    monkeypatch.setattr("vidprune.commands.evaluate.environment", lambda device: there)
    assert main(words) == 0
    found = TradeOff.from_json((tmp_path / "run" / "curves.json").read_text())
    assert found.environment == first.environment
    assert found.elsewhere == {"an accelerator": [f"sta sta:r=21, {clips}"]}


def test_a_cost_out_of_reach_is_named_and_other_stages_reach_it() -> None:
    wish = Wish(
        models=("demo",),
        data=(Path("clips"),),
        methods=("sta", "sta:blocks=0/1/2", "random:blocks=0/1/2"),
        shares=(0.15,),
        alternatives=False,
    )
    settings, missing = settings_of(wish)
    assert [setting.method for setting in settings] == [
        *("dense", "sta:blocks=0/1/2", "random:blocks=0/1/2"),
    ]
    assert len(missing) == 2
    assert "random at 15%" in missing[0]
    assert "sta at 15%" in missing[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--at", "1.5"), "at=1.5 must be a part of the dense cost"),
        (("--reducer", "none"), "leave none out"),
        (("--reducer", "sta:r=16"), "reducer 'sta:r=16' says how many tokens go"),
        (("--reducer", "run-length:threshold=0.1"), "leave threshold out"),
        (("--smaller", "demo"), "smaller=demo takes 2.04 GMACs a view and demo 2.04"),
        (("--source", "nowhere"), "source='nowhere' finds nothing in any of the 24 videos' names"),
        (("--source", "mp4"), "makes one source of all 24 videos"),
        (("--workers", "-1"), "workers=-1 must be 0"),
        (("--reducer", "stb"), "reducer 'stb' is not known"),
        (("--model", "demo", "demo"), "2 models and 1 data are given"),
        (("--smaller", "a", "b"), "2 smaller models stand beside 1 models"),
    ],
)
def test_wrong_arguments_get_a_sentence(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta"]
    assert main([*words, "--output", str(tmp_path / "o"), *options]) == 2
    assert said in capsys.readouterr().err


def test_a_smaller_model_of_other_classes_is_refused_before_anything_runs(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path / "other")
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "sta"]
    words += ["--smaller", str(tmp_path / "other"), "--output", str(tmp_path / "run")]
    assert main(words) == 2
    assert "classes apart, and demo beside it 12" in capsys.readouterr().err
    assert not (tmp_path / "run" / "runs").exists()


def test_every_list_is_read_before_any_model_runs(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a.mp4 99\n")
    words = ["curves", "--model", "demo", "demo", "--data", str(clips), str(wrong)]
    assert main([*words, "--reducer", "sta", "--output", str(tmp_path / "run")]) == 2
    assert "label 99 of a.mp4 is outside the head's 12 classes" in capsys.readouterr().err
    assert not (tmp_path / "run" / "runs").exists()


def test_the_same_model_on_the_same_videos_counts_once(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model demo with data .* is given twice"):
        Wish(models=("demo", "demo"), data=(clips, clips), methods=("sta",))


def test_logits_that_are_no_numbers_are_told(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load("demo")
    torch.nn.init.constant_(model.classifier.bias, torch.nan)
    model.save_pretrained(tmp_path / "broken")
    words = ["curves", "--data", str(clips), "--model", str(tmp_path / "broken"), "--reducer"]
    words += ["sta", "--at", "0.5", "--no-alternatives", "--output", str(tmp_path / "run")]
    assert main([*words, "--workers", "0"]) == 0
    said = capsys.readouterr().err
    assert "24 videos count as misses with none because their logits are not finite" in said
    assert "24 videos count as misses with sta:r=21" in said


def test_fewer_views_stand_only_where_they_cost_what_is_asked() -> None:
    def asked(*shares: float) -> list[Setting]:
        options = ViewOptions(sampling="segment", segments=2)
        wish = Wish(
            models=("demo",), data=(Path("clips"),), methods=("sta",), shares=shares, views=options
        )
        return [each for each in settings_of(wish)[0] if each.views is not None]

    assert len(asked(0.5)) == 1
    assert asked(0.3) == []


def test_each_is_paired_with_the_method_that_is_asked_for(
    clips: Path, found: tuple[TradeOff, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the runs that are there; STA comes along though nobody names it among the methods."""
    before, output = found
    words = ["curves", "--data", str(clips), "--model", "demo", "--reducer", "tome"]
    words += ["--at", "0.5", "--no-alternatives", "--against", "sta", "--segments", "2"]
    assert main([*words, "--output", str(output), "--workers", "0"]) == 0
    assert "over" in capsys.readouterr().out
    record = TradeOff.from_json((output / "curves.json").read_text())
    (output / "curves.json").write_text(before.to_json())
    dense, random, sta, tome = record.points
    assert [point.method for point in record.points] == ["dense", "random", "sta", "tome"]
    assert dense.against is None
    assert sta.against is None
    for point in (random, tome):
        assert point.against is not None
        runs = [
            output / "runs" / "0" / file_name(name) for name in ("none", sta.setting, point.setting)
        ]
        assert point.against.setting == sta.setting
        assert point.against.change == compare([runs[1], runs[2]]).runs[1].change
        assert point.kl_nats is not None
        assert sta.kl_nats is not None
        assert point.against_kl_nats is not None
        further = point.kl_nats.value - sta.kl_nats.value
        assert point.against_kl_nats.value == pytest.approx(further)
        assert point.against_kl_nats.low != point.kl_nats.low
        assert point.agreement is not None
        assert sta.agreement is not None
        assert point.against_agreement is not None
        more = point.agreement.value - sta.agreement.value
        assert point.against_agreement.value == pytest.approx(more)
        assert point.against_agreement.low != point.agreement.low
