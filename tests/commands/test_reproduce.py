"""Tables of the paper: figures that are told rightly, and reruns that are those of `compare`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import vidprune
from tiny_checkpoints import tiny
from tiny_videomae import tiny_videomae
from vidprune.backbones.videomae_checkpoints import to_original
from vidprune.cli import main
from vidprune.cli.reproduce import TABLES as NAMES
from vidprune.commands.compare import Run, compare
from vidprune.commands.evaluate import model_digest
from vidprune.commands.reproduce import _rerun
from vidprune.demo.clips import write_clips
from vidprune.inference import classify_with_each
from vidprune.published import CHANGE_TOLERANCE, TABLES
from vidprune.reproduction import Reproduction

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
    return Reproduction.from_json((output / "table2.json").read_text()), output


def test_the_command_line_knows_the_tables() -> None:
    assert tuple(TABLES) == NAMES


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
        assert row.tolerance == CHANGE_TOLERANCE
        assert row.verdict is None
        assert row.not_judged.startswith(
            f"the checkpoint is no {BASE}: it has 6 blocks over 8x14x14"
        )
    settings = json.loads((runs / "sta-r=64" / "run.json").read_text())
    assert settings["protocol"]["sampling"] == "segment"


def test_what_was_not_given_is_named(
    found: tuple[Reproduction, Path],
    capsys: pytest.CaptureFixture[str],
    clips: Path,
    stand_in: Path,
) -> None:
    record, output = found
    assert record.missing == ("the videos of k400", "vit_small_patch16_224/ssv2")
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
    again = Reproduction.from_json((output / "table2.json").read_text())
    assert again.rows == record.rows


def test_a_video_that_cannot_be_read_is_left_out_of_both(
    clips: Path, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (clips / "test.csv").read_text().splitlines()[:2]
    (clips / "gone.csv").write_text("\n".join([*lines, "gone.mp4 2"]))
    assert main(words("table2", clips / "gone.csv", stand_in, tmp_path)) == 1
    assert "unreadable: gone.mp4: " in capsys.readouterr().err
    record = Reproduction.from_json((tmp_path / "table2.json").read_text())
    assert [video["path"] for video in record.unreadable] == ["gone.mp4"]
    assert {row.num_videos for row in record.rows} == {2}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["table3", "--data", "ssv2=x", "--checkpoints", f"{BASE}/ssv2=demo"], "is not in table3"),
        (["table2", "--data", "ucf=x", "--checkpoints", f"{BASE}/ssv2=demo"], "data='ucf'"),
        (
            ["table2", "--data", "k400=x", "--checkpoints", f"{BASE}/ssv2=demo"],
            "with no checkpoint",
        ),
        (
            ["table2", "--data", "ssv2=x", "--checkpoints", f"{BASE}/k400=demo"],
            "with no checkpoint",
        ),
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


def cell_and_runs(right: int, of: int, *, lost: int, finite: bool = True) -> tuple:
    """ViT-B at r = 64 on SSv2, and runs of it: so many videos right, some of them lost."""
    cells = [cell for cell in TABLES["table2"] if cell.needs == f"{BASE}/ssv2"]
    names = [f"{number}.mp4" for number in range(of)]
    runs = {}
    for cell, hits in ((cells[0], right), (cells[3], right - lost)):
        report = {
            "gmacs_per_view": cell.gmacs,
            "unreadable": [],
            "not_finite": [] if finite else ["0.mp4"],
        }
        guesses = {
            name: torch.tensor([1.0, 0.0] if place < hits else [0.0, 1.0])
            for place, name in enumerate(names)
        }
        runs[*cell.series, cell.reducer] = Run(
            Path(cell.reducer), report, dict.fromkeys(names, 0), guesses
        )
    return cells[3], runs, cells


@pytest.mark.parametrize(
    ("right", "lost", "verdict"),
    [(7060, 70, "agrees"), (7060, 150, "differs"), (6950, 0, "differs")],
)
def test_the_paper_s_own_figures_agree_and_others_do_not(
    right: int, lost: int, verdict: str
) -> None:
    cell, runs, cells = cell_and_runs(right, 10_000, lost=lost)
    row = _rerun(cell, runs, cells, {cell.needs: None})
    assert (row.told_change, row.verdict, row.gmacs_verdict) == (-0.7, verdict, "agrees")
    assert row.change.points.value == pytest.approx(-lost / 100)
    assert row.not_judged is None


def test_a_model_that_recognises_nothing_is_not_judged() -> None:
    cell, runs, cells = cell_and_runs(0, 10_000, lost=0)
    row = _rerun(cell, runs, cells, {cell.needs: None})
    assert row.verdict is None
    assert "has 0.0 % where the paper has 70.6" in row.not_judged
    cell, runs, cells = cell_and_runs(7060, 10_000, lost=70, finite=False)
    row = _rerun(cell, runs, cells, {cell.needs: None})
    assert row.verdict is None
    assert "logits of 1 videos are not finite" in row.not_judged


def test_what_cannot_be_evaluated_is_said_before_anything_is(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("table2", clips, "demo", tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"{BASE}/ssv2 cannot take sta:r=" in said
    assert not list(tmp_path.glob("runs/**/views.jsonl"))


def test_videos_none_of_which_can_be_read_end_it_at_once(
    clips: Path, stand_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "allgone.csv").write_text("gone.mp4 2")
    assert main(words("table2", clips / "allgone.csv", stand_in, tmp_path)) == 2
    assert "no video of ssv2 can be read, such as 'gone.mp4' (" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))


def test_restart_does_it_anew(
    clips: Path, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (clips / "test.csv").read_text().splitlines()[:1]
    (clips / "single.csv").write_text("\n".join(lines))
    given = words("table2", clips / "single.csv", stand_in, tmp_path)
    passes: list[tuple[int, int]] = []

    def counted(classifiers: list[Any], requests: list[Any], **options: Any) -> Any:
        passes.append((len(classifiers), len(requests)))
        return classify_with_each(classifiers, requests, **options)

    monkeypatch.setattr("vidprune.commands.evaluate.classify_with_each", counted)
    main(given)
    main([*given, "--restart"])
    reducers = len(list(tmp_path.glob("runs/**/report.json")))
    # Of one model on the same views, all in one pass.
    assert passes == [(reducers, 1), (reducers, 1)]
    main(given)
    assert passes[2:] == [], "all is there"


def deep_stand_in() -> torch.nn.Module:
    """As many blocks as ViT-L has."""
    shape = {"image_size": 112, "patch_size": 8, "num_hidden_layers": 24, "num_labels": 12}
    return tiny_videomae(**shape)


def windowed_stand_in() -> torch.nn.Module:
    """The grids of VideoSwin-T over 32 frames of 224 pixels, narrow."""
    shape = {"num_frames": 32, "image_size": 224, "window_size": (8, 7, 7), "num_labels": 12}
    return tiny("videoswin", depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), embed_dim=8, **shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "name", "make"),
    [
        ("table3", "swin3d_t/k400", windowed_stand_in),
        ("table6", "vit_large_patch16_224/k400", deep_stand_in),
        ("fig5", "vit_large_patch16_224/k400", deep_stand_in),
        ("views", "vit_large_patch16_224/k400", deep_stand_in),
    ],
)
def test_every_table_runs_to_its_end(
    table: str, name: str, make: Callable[[], torch.nn.Module], clips: Path, tmp_path: Path
) -> None:
    make().save_pretrained(tmp_path / "model")
    lines = (clips / "test.csv").read_text().splitlines()[:1]
    (clips / "one.csv").write_text("\n".join(lines))
    given = ["--data", f"k400={clips / 'one.csv'}", "--checkpoints", f"{name}={tmp_path / 'model'}"]
    main(["reproduce", table, *given, "--output", str(tmp_path / "out"), "--workers", "0"])
    record = Reproduction.from_json((tmp_path / "out" / f"{table}.json").read_text())
    wanted = [cell for cell in TABLES[table] if cell.needs == name]
    assert [row.reducer for row in record.rows] == [cell.reducer for cell in wanted]
    assert [row.told_top1 for row in record.rows] == [cell.top1 for cell in wanted]


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
    record = Reproduction.from_json((tmp_path / "out" / "table2.json").read_text())
    assert [row.gmacs_verdict for row in record.rows] == ["agrees"] * 4
    assert {row.views for row in record.rows} == {"5x3"}
    run = next((tmp_path / "out" / "runs").glob("**/none/run.json"))
    assert model_digest(model) in run.read_text()
    assert json.loads(run.read_text())["protocol"]["stride"] == 4
