"""Tables of the paper: figures that are told rightly, and reruns that are those of `compare`."""

import json
from pathlib import Path

import pytest
import torch

import vidprune
from tiny_videomae import tiny_videomae
from vidprune.backbones.architectures import ARCHITECTURES, architecture
from vidprune.backbones.videomae_checkpoints import to_original
from vidprune.cli import main
from vidprune.cli.reproduce import TABLES as NAMES
from vidprune.commands.compare import compare
from vidprune.commands.evaluate import model_digest
from vidprune.demo.clips import write_clips
from vidprune.intervals import Interval
from vidprune.macs import costs
from vidprune.published import CHANGE_TOLERANCE, TABLES
from vidprune.reducers.spec import NONE, parse
from vidprune.reproduction import Reproduction, verdict_of

CELLS = [cell for cells in TABLES.values() for cell in cells]
BASE = "vit_base_patch16_224"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=77)
    return folder


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another size with the published grid of 8 x 14 x 14 tokens."""
    folder = tmp_path_factory.mktemp("stand-in")
    model = tiny_videomae(image_size=112, patch_size=8, num_labels=12)
    model.save_pretrained(folder)
    vidprune.load(folder)
    return folder


def words(table: str, data: Path, source: Path | str, output: Path, *more: str) -> list[str]:
    given = ["--data", f"ssv2={data}", "--checkpoints", f"{BASE}/ssv2={source}"]
    return ["reproduce", table, *given, "--output", str(output), "--workers", "0", *more]


@pytest.fixture(scope="module")
def found(
    clips: Path, stand_in: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reproduction, Path]:
    output = tmp_path_factory.mktemp("reproduced")
    # Its arithmetic is not the published one.
    assert main(words("table2", clips, stand_in, output)) == 1
    return Reproduction.from_json((output / "reproduction.json").read_text()), output


def test_the_command_line_knows_the_tables() -> None:
    assert tuple(TABLES) == NAMES


@pytest.mark.parametrize("table", TABLES)
def test_every_figure_can_be_rerun_and_has_one_to_be_counted_from(table: str) -> None:
    for cell in TABLES[table]:
        assert cell.arch in ARCHITECTURES
        costs(architecture(cell.arch), cell.reducer)
        same = [other for other in TABLES[table] if other.series == cell.series]
        assert [other.reducer for other in same].count(NONE) == 1


def test_costs_are_the_published_ones() -> None:
    told = [cell for cell in CELLS if cell.gmacs is not None]
    assert len(told) > 40
    for cell in told:
        ours = costs(architecture(cell.arch), cell.reducer).gmacs_per_view
        assert ours == pytest.approx(cell.gmacs, abs=max(1, 0.002 * cell.gmacs))


def test_a_figure_that_stands_in_two_tables_is_one() -> None:
    """Typing errors show where the paper repeats itself, to the digits that it gives."""
    seen: dict[tuple, float] = {}
    repeated = 0
    for cell in CELLS:
        described = None if parse(cell.reducer) is None else repr(parse(cell.reducer))
        key = (cell.series, described)
        if key in seen:
            repeated += 1
            assert cell.top1 == pytest.approx(seen[key], abs=0.051)
        seen.setdefault(key, cell.top1)
    assert repeated >= 8


def test_rows_are_those_of_compare(found: tuple[Reproduction, Path]) -> None:
    record, output = found
    assert [row.reducer for row in record.rows] == ["none", "sta:r=32", "sta:r=48", "sta:r=64"]
    assert [row.told_top1 for row in record.rows] == [70.6, 70.4, 70.3, 69.9]
    assert [row.told_change for row in record.rows] == [None, -0.2, -0.3, -0.7]
    runs = output / "runs" / BASE / "ssv2" / "2x3"
    by_hand = compare([runs / row.reducer.replace(":", "-") for row in record.rows])
    for row, run in zip(record.rows, by_hand.runs, strict=True):
        assert row.top1.value == run.top1
        assert row.change == run.change
        assert row.gmacs == run.gmacs_per_view
        assert row.gmacs_verdict == "differs"
        assert row.num_videos == 12


def test_what_was_not_given_is_named(
    found: tuple[Reproduction, Path],
    capsys: pytest.CaptureFixture[str],
    clips: Path,
    stand_in: Path,
) -> None:
    record, output = found
    assert record.missing == (
        "the videos of k400",
        "vit_small_patch16_224/ssv2",
    )
    assert main(words("table2", clips, stand_in, output)) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "not given: vit_small_patch16_224/ssv2" in said
    assert "70.6" in said
    assert "-0.70" in said


def test_what_was_done_is_not_done_again(
    found: tuple[Reproduction, Path], clips: Path, stand_in: Path
) -> None:
    record, output = found
    assert main(words("table2", clips, stand_in, output)) == 1
    reports = [json.loads(path.read_text()) for path in output.glob("runs/**/report.json")]
    assert [report["videos_per_second"] for report in reports] == [None] * 4
    again = Reproduction.from_json((output / "reproduction.json").read_text())
    assert again.rows == record.rows


def test_a_video_that_cannot_be_read_is_left_out_of_both(
    clips: Path, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (clips / "test.csv").read_text().splitlines()[:2]
    (clips / "gone.csv").write_text("\n".join([*lines, "gone.mp4 2"]))
    assert main(words("table2", clips / "gone.csv", stand_in, tmp_path)) == 1
    assert "unreadable: gone.mp4: " in capsys.readouterr().err
    record = Reproduction.from_json((tmp_path / "reproduction.json").read_text())
    assert [video["path"] for video in record.unreadable] == ["gone.mp4"]
    assert {row.num_videos for row in record.rows} == {2}


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ((-0.3, -0.5, -0.1), "agrees"),
        ((-0.45, -0.65, -0.25), "agrees"),
        ((-0.3, -3.0, 2.4), "open"),
        ((-0.3, None, None), "open"),
        ((-0.6, -0.8, -0.4), "open"),
        ((-0.9, -1.1, -0.7), "differs"),
        ((0.5, 0.1, 0.9), "differs"),
    ],
)
def test_verdicts(change: tuple[float, float | None, float | None], verdict: str) -> None:
    value, low, high = change
    interval = Interval(value=value, low=low, high=high)
    assert verdict_of(interval, -0.3, CHANGE_TOLERANCE) == verdict


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["table3", "--data", "ssv2=x", "--checkpoints", f"{BASE}/ssv2=demo"], "is not in table3"),
        (["table2", "--data", "ucf=x", "--checkpoints", f"{BASE}/ssv2=demo"], "data='ucf'"),
        (["table2", "--data", "k400=x", "--checkpoints", f"{BASE}/ssv2=demo"], "nothing of table2"),
        (["table2", "--data", "k400", "--checkpoints", f"{BASE}/ssv2=demo"], "must be a name and"),
        (["table2", "--data", "k400=x", "k400=y", "--checkpoints", "a=b"], "'k400' twice"),
    ],
)
def test_refusals_are_sentences(
    given: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *given, "--output", str(tmp_path / "new")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_file_of_the_authors_is_rerun_as_what_it_is(clips: Path, tmp_path: Path) -> None:
    """ViT-S with drawn weights in the original layout: the published arithmetic, by its name."""
    model = vidprune.load("vit_small_patch16_224")
    weights = tmp_path / "checkpoint.pth"
    torch.save({"module": to_original(model.state_dict())}, weights)
    lines = (clips / "test.csv").read_text().splitlines()[:1]
    (clips / "one.csv").write_text("\n".join(lines))
    name = "vit_small_patch16_224/k400"
    given = ["--data", f"k400={clips / 'one.csv'}", "--checkpoints", f"{name}={weights}"]
    main(["reproduce", "table2", *given, "--output", str(tmp_path / "out"), "--workers", "0"])
    record = Reproduction.from_json((tmp_path / "out" / "reproduction.json").read_text())
    assert [row.gmacs_verdict for row in record.rows] == ["agrees"] * 4
    assert {row.views for row in record.rows} == {"5x3"}
    settings = json.loads(next((tmp_path / "out" / "runs").glob("**/none/run.json")).read_text())
    assert model_digest(model) in json.dumps(settings)
