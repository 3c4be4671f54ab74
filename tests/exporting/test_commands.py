"""Exported models on the command line."""

import json
from pathlib import Path

import pytest

import vidprune
from tiny_exports import rewritten
from vidprune.cli import main
from vidprune.cli.export import FORMATS as OFFERED
from vidprune.demo.clips import write_clips
from vidprune.exporting.record import FORMATS
from vidprune.exporting.running import load_exported


def test_the_formats_are_the_same_everywhere() -> None:
    assert OFFERED == FORMATS


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=91)
    return folder


@pytest.fixture(scope="module")
def demo(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "demo.onnx"
    words = ["export", "--model", "demo", "--reducer", "sta:r=16", "--format", "onnx"]
    broken = output.with_name("broken.mp4")
    broken.write_bytes(b"no video")
    given = [str(videos / "growing"), str(broken)]
    assert main([*words, "--output", str(output), "--video", *given]) == 0
    return output


def test_it_is_told_what_was_compared(demo: Path) -> None:
    record = load_exported(demo).record
    assert [Path(name).name for name in record.check.videos] == ["000.mp4"]
    assert [Path(video["path"]).name for video in record.unreadable] == ["broken.mp4"]
    assert record.classes[0] == "moving left"


@pytest.mark.slow
def test_the_command_exports_in_8_bits(tmp_path: Path) -> None:
    output = tmp_path / "m.onnx"
    words = ["export", "--model", "demo", "--reducer", "sta:r=16", "--format", "onnx"]
    assert main([*words, "--quantize", "int8", "--output", str(output)]) == 0
    check = load_exported(output).record.check
    assert check.same_class == 4


def test_predict_and_evaluate_take_it(
    demo: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for words in (["--model", "demo", "--reducer", "sta:r=16"], ["--model", str(demo)]):
        capsys.readouterr()
        assert main(["predict", str(videos / "growing"), *words, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["top"])
        run = ["evaluate", "--data", str(videos), *words, "--workers", "0"]
        assert main([*run, "--output", str(tmp_path / str(len(found)))]) == 0
    for wanted, other in zip(*found, strict=True):
        assert (wanted["label"], wanted["name"]) == (other["label"], other["name"])
        assert wanted["probability"] == pytest.approx(other["probability"], abs=1e-5)
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("1", "2")]
    for name in ("top1", "reducer", "gmacs_per_view", "protocol", "num_videos"):
        assert reports[0][name] == reports[1][name]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--reducer", "sta:r=8"], "is exported with reducer=sta:r=16, not sta:r=8"),
        (["--dtype", "bf16"], "is exported, which settles dtype"),
        (["--size", "96"], "is exported, which settles size"),
        (["--compile"], "is exported, which settles compile"),
        (["--replay"], "is exported, which settles replay"),
    ],
)
def test_what_was_settled_is_not_asked_for_again(
    demo: Path, videos: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(videos / "growing"), "--model", str(demo), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_vectors_are_no_classes(
    demo: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(videos), "--model", str(demo), "--output", str(tmp_path / "vectors")]
    assert main(words) == 2
    assert "gives logits; vectors take export --encoder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("costs", []),
        ("benchmark", ["--reducer", "sta:r=4"]),
        ("export", ["--format", "onnx", "--output", "n.onnx"]),
    ],
)
def test_other_commands_say_what_takes_an_exported_model(
    verb: str, words: list[str], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--model", str(copied), *words]) == 2
    assert "is exported" in (said := capsys.readouterr().err)
    assert "predict, evaluate and embed take it" in said
    with pytest.raises(ValueError, match=r"vidprune.load_exported does"):
        vidprune.load(copied)


def test_a_batch_of_another_size_is_not_asked_for(
    copied: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(copied, batch=2)
    words = ["predict", str(videos / "growing"), "--model", str(copied), "--batch-size", "5"]
    assert main(words) == 2
    assert "takes 2 clips at once, not batch_size=5" in capsys.readouterr().err
