"""A file and its record belong together, and whatever is wrong with them gets a sentence."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from tiny_exports import clips, exported, pruned, rewritten
from vidprune.cli.ending import ended_in_order
from vidprune.commands import export as module
from vidprune.commands.evaluate import model_digest
from vidprune.commands.export import Exporting, export
from vidprune.exporting.record import is_exported, record_path, stamp
from vidprune.exporting.running import load_exported
from vidprune.inference import normalisation_of
from vidprune.prepare import ViewOptions, class_names_of, protocol_for
from vidprune.video import Normalisation


@pytest.mark.parametrize(
    ("how", "name", "sentence"),
    [
        ({}, "m.bin", r"output='.*m.bin' must end in .onnx"),
        ({"batch": 0}, "m.onnx", "batch_size=0 must be at least 1"),
        ({"opset": 9}, "m.onnx", "opset=9 is not one of 18, 19"),
        ({"dtype": torch.bfloat16}, "m.onnx", "dtype=bf16 is not computed by ONNX Runtime"),
        ({"quantize": "int4"}, "m.onnx", "quantize='int4' is not offered for format='onnx'"),
        ({"quantize": "int8", "dtype": torch.float16}, "m.onnx", "quantize rounds a model in fl"),
    ],
    ids=str,
)
def test_what_cannot_be_gets_a_sentence(
    model: PreTrainedModel, tmp_path: Path, how: dict[str, Any], name: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        export(
            model,
            tmp_path / name,
            Exporting(**{"format": "onnx"} | how),
            protocol=protocol_for(model, ViewOptions()),
            checkpoint="tiny",
        )
    assert list(tmp_path.iterdir()) == []


def test_a_reducer_whose_shapes_depend_on_the_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keeps another number of tokens of every clip"):
        exported(pruned("run-length:threshold=0.1"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_its_record_or_of_a_newer_one_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError, match=r"m.onnx does not exist"):
        load_exported(output)
    output.write_bytes((folder / "m.onnx").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"m.onnx.json does not exist"):
        load_exported(output)
    record = load_exported(folder / "m.onnx").record
    record_path(output).write_text(replace(record, version=2).to_json())
    with pytest.raises(ValueError, match="is of version 2, and this vidprune knows 1"):
        load_exported(output)
    record_path(output).write_text('{"format": "onnx"}')
    with pytest.raises(ValueError, match="is no record of vidprune export"):
        load_exported(output)
    record_path(output).write_text(record.to_json())
    output.write_bytes(b"nothing of the kind")
    record_path(output).write_text(replace(record, model_file=stamp(output)).to_json())
    with pytest.raises(ValueError, match="is no graph that ONNX Runtime can run"):
        load_exported(output)


def test_an_exported_model_stays_where_and_as_it_is(folder: Path, model: PreTrainedModel) -> None:
    other = load_exported(folder / "m.onnx")
    with pytest.raises(ValueError, match="is on cpu and cannot be moved"):
        other.to("meta")
    for change in (other.half, lambda: other.to(torch.bfloat16)):
        with pytest.raises(ValueError, match=r"computes in float32 and cannot be made b?float16"):
            change()
    assert other.float().eval().to("cpu") is other
    for wrong in (clips(model, 1).half(), [1]):
        with pytest.raises(ValueError, match=r"pixel_values is of .*takes a tensor of float32"):
            other(wrong)


def test_a_file_and_its_record_are_of_one_export(copied: Path, tmp_path: Path) -> None:
    whole = copied.read_bytes()
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        copied.write_bytes(content)
        with pytest.raises(ValueError, match=r"m.onnx is not the file that m.onnx.json was writ"):
            load_exported(copied)
    copied.write_bytes(whole)
    stamp = {"sha256": "0" * 64, "size_bytes": 4}
    rewritten(copied, weights_file=stamp)
    with pytest.raises(FileNotFoundError, match=r"m.onnx.data does not exist, which holds the w"):
        load_exported(copied)
    (tmp_path / "m.onnx.data").write_bytes(b"1234")
    with pytest.raises(ValueError, match=r"m.onnx.data is not the file that"):
        load_exported(copied)


def test_a_run_knows_a_file_by_it_and_by_what_of_its_record_decides_answers(copied: Path) -> None:
    digest = model_digest(load_exported(copied))
    record = load_exported(copied).record
    for changes, same in (
        ({"command": "another", "checkpoint": "other"}, True),
        ({"image_mean": [0.1, 0.2, 0.3]}, False),
        ({"classes": ["a", "b", "c", "d", "e"]}, False),
        ({"protocol": record.protocol | {"segments": 3}}, False),
        ({"config": record.config | {"initializer_range": 0.5}}, False),
    ):
        rewritten(copied, **changes)
        assert (model_digest(load_exported(copied)) == digest) is same
        record_path(copied).write_text(record.to_json())


def test_the_record_s_own_fields_are_what_is_run_by(copied: Path) -> None:
    rewritten(copied, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.4, 0.4], classes=list("abcde"))
    other = load_exported(copied)
    assert normalisation_of(other) == Normalisation((0.1, 0.2, 0.3), (0.4, 0.4, 0.4))
    assert class_names_of(other) == list("abcde")


def test_what_is_named_otherwise_than_it_is_recorded_is_not_loaded(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive of torch holds code, whatever it is called."""
    monkeypatch.setattr(torch.export, "load", lambda *_: pytest.fail("it was loaded"))
    for name in ("evil.onnx", "evil"):
        shutil.copy(tmp_path / "m.pt2", tmp_path / name)
        shutil.copy(tmp_path / "m.pt2.json", tmp_path / f"{name}.json")
        with pytest.raises(ValueError, match=r"is recorded as torch, whose files end in .pt2"):
            load_exported(tmp_path / name)


def test_links_are_followed(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(copied)
    assert is_exported(tmp_path / "latest")
    assert load_exported(tmp_path / "latest").record.format == "onnx"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": "bogus"}, "format is 'bogus'"),
        ({"format": []}, r"format is \(\)"),
        ({"dtype": "float64"}, "dtype is 'float64'"),
        ({"reducer": None}, "reducer is None"),
        ({"reducer": "foo:r=1"}, "reducer 'foo' is not known"),
        ({"outputs": []}, r"outputs is \(\)"),
        ({"outputs": ["origin_1", "logits"]}, "outputs is"),
        ({"inputs": "pixel_values"}, "inputs is 'pixel_values'"),
        ({"config": []}, "config is"),
        ({"config": {}}, "holds no configuration of a model"),
        ({"config": {"model_type": "bert"}}, "holds no configuration of a model"),
        ({"clip_shape": "x"}, "clip_shape is 'x'"),
        ({"protocol": {"x": 1}}, "protocol is"),
        ({"batch": "8"}, "batch is '8'"),
        ({"model_file": None}, "model_file is None"),
        ({"weights_file": 3}, "weights_file is no object"),
        ({"check": []}, "check is no object"),
        ({"foo": 1}, "record has 'foo'"),
        ({"version": 9, "foo": 1}, "is of version 9, and this vidprune knows 1"),
        ({"outputs": ["logits", "origin_1"], "inputs": ["pixel_values", "nix"]}, "inputs is"),
    ],
    ids=str,
)
def test_a_record_that_was_edited_gets_a_sentence(
    copied: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_exported(rewritten(copied, **changes))


@pytest.mark.parametrize("name", ["m.onnx", "m.onnx.json", "m.onnx.data"])
def test_a_folder_in_the_way_is_told_before_anything_is_traced(
    model: PreTrainedModel, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "trace", lambda *_, **__: pytest.fail("it was traced"))
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"writes {name}, which is a folder"):
        exported(model, tmp_path / "m.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file, which is no folder"):
        exported(model, tmp_path / "file" / "new" / "m.onnx")


@pytest.mark.parametrize("name", ["m.onnx.json", "m.onnx.data"])
def test_what_no_export_wrote_is_not_replaced(
    model: PreTrainedModel, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match=f"would replace .*{name}, which vidprune export has not"):
        exported(model, tmp_path / "m.onnx")
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_what_is_told_to_end_clears_up(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, ended_in_order(), TemporaryDirectory(dir=tmp_path):
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
