"""Exported models do what the model does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tiny_exports import SPEC, assert_same, clips, exported, pruned
from tiny_videomae import tiny_videomae
from vidprune.commands.evaluate import model_digest
from vidprune.exporting import onnx as onnx_module
from vidprune.exporting.eight_bits import rounded
from vidprune.exporting.record import ExportRecord
from vidprune.exporting.running import load_exported
from vidprune.pruned import prune


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2"])
@pytest.mark.parametrize("batch", [1, 3])
def test_it_does_what_the_model_does(
    model: PreTrainedModel, folder: Path, name: str, batch: int
) -> None:
    assert_same(model, load_exported(folder / name), batch)


@pytest.mark.slow
def test_it_does_what_the_model_does_compiled(model: PreTrainedModel, tmp_path: Path) -> None:
    exported(model, tmp_path / "m.pt2", format="aoti")
    for batch in (1, 3):
        assert_same(model, load_exported(tmp_path / "m.pt2"), batch)


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2"])
def test_the_record_says_what_it_is(model: PreTrainedModel, folder: Path, name: str) -> None:
    record = load_exported(folder / name).record
    assert record.reducer == SPEC
    assert record.model == model_digest(model)
    assert record.clip_shape == (16, 3, 64, 64)
    assert record.inputs == ("pixel_values",)
    assert record.outputs == ("logits", "origin_1", "origin_2", "origin_3")
    assert record.classes == ("0", "1", "2", "3", "4")
    assert record.gmacs_per_view < record.gmacs_dense
    assert record.obstacles == (() if name == "m.onnx" else None)
    assert record.check.same_kept + record.check.near_ties == len(record.check.videos) == 4
    assert record.check.largest_difference < 1e-5
    assert ExportRecord.from_json(record.to_json()) == record


def test_any_batch_or_always_the_same(folder: Path, tmp_path: Path) -> None:
    model = pruned()
    exported(model, tmp_path / "m.onnx", batch=2)
    fixed = load_exported(tmp_path / "m.onnx")
    assert_same(model, fixed, 2)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 3, 64, 64\), and the exported model"):
        fixed(clips(model, 3))
    with pytest.raises(ValueError, match=r"takes \(any, 16, 3, 64, 64\)"):
        load_exported(folder / "m.onnx")(clips(model, 3)[:, :8])


@pytest.mark.slow
def test_a_dense_model_and_an_encoder_are_exported_too(tmp_path: Path) -> None:
    dense = prune(tiny_videomae(num_hidden_layers=2), None)
    assert exported(dense, tmp_path / "dense.onnx").outputs == ("logits",)
    encoder = prune(tiny_videomae(num_hidden_layers=3).videomae, SPEC)
    record = exported(encoder, tmp_path / "encoder.onnx")
    assert record.outputs[0] == "pooler_output"
    assert record.classes == ()
    pixels = clips(encoder, 2)
    found = load_exported(tmp_path / "encoder.onnx")(pixels).pooler_output
    torch.testing.assert_close(found, encoder(pixels).pooler_output, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_reducer_that_draws_takes_the_keys_of_clips(tmp_path: Path) -> None:
    model = pruned("random:r=4")
    assert exported(model, tmp_path / "m.onnx").inputs == ("pixel_values", "clip_keys")
    other, pixels = load_exported(tmp_path / "m.onnx"), clips(model, 2)
    # Integers that are mixed bit by bit.
    assert "BitwiseXor" in other.record.obstacles
    kept = []
    for keys in (torch.tensor([7, 8]), torch.tensor([8, 7])):
        wanted = model(pixels, clip_keys=keys, return_trace=True).trace.origin[-1]
        kept.append(other(pixels, keys, return_trace=True).trace.origin[-1])
        assert torch.equal(kept[-1], wanted)
    assert not torch.equal(*kept)
    with pytest.raises(ValueError, match="draws at random for every clip; give clip_keys"):
        other(pixels)


@pytest.mark.slow
def test_weights_too_large_for_the_graph_go_beside_it(
    model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "m.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(onnx_module, "_LARGEST", 1000)
        exported(model, output)
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"m.onnx", "m.onnx.data", "m.onnx.json"}
    assert_same(model, load_exported(output), 2)
    exported(model, output)
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "m.onnx.json"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"dtype": torch.float16}, {"quantize": "int8"}], ids=str)
def test_less_precision_is_counted_and_not_judged(
    model: PreTrainedModel, tmp_path: Path, how: dict[str, Any]
) -> None:
    check = exported(model, tmp_path / "m.onnx", **how).check
    assert check.kl_nats is not None
    assert 1e-5 < check.largest_difference < 0.3
    weights = next(model.parameters())
    assert weights.dtype == torch.float32
    smaller = (tmp_path / "m.onnx").stat().st_size
    exported(model, tmp_path / "full.onnx")
    assert smaller < (tmp_path / "full.onnx").stat().st_size


def test_a_clip_s_answer_in_8_bits_is_its_own(model: PreTrainedModel, tmp_path: Path) -> None:
    """Whatever stands beside it: nothing is rounded with a scale of the whole batch."""
    exported(model, tmp_path / "m.onnx", quantize="int8")
    other, pixels = load_exported(tmp_path / "m.onnx"), clips(model, 3)
    pixels[1:] *= 30
    alone = other(pixels[:1]).logits
    torch.testing.assert_close(other(pixels).logits[:1], alone, rtol=1e-5, atol=1e-6)
    assert other.record.obstacles == ()


def test_weights_in_8_bits_are_near_what_they_were() -> None:
    noise = np.random.default_rng(3).normal(size=(24, 5)).astype(np.float32)
    noise[:, 2] = 0
    whole, scales = rounded(noise)
    assert whole.dtype == np.int8
    assert (np.abs(whole * scales - noise) <= scales / 2 + 1e-6).all()
