"""Exported models do what the model does, or are not handed over."""

import json
import shutil
import signal
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import vidprune
from tiny_videomae import tiny_videomae
from vidprune.cli import main
from vidprune.cli.ending import ended_in_order
from vidprune.cli.export import FORMATS as OFFERED
from vidprune.commands import export as module
from vidprune.commands.evaluate import model_digest
from vidprune.commands.export import Exporting, export
from vidprune.demo.clips import write_clips
from vidprune.exporting import onnx as onnx_module
from vidprune.exporting.checking import ExportError, compare
from vidprune.exporting.eight_bits import rounded
from vidprune.exporting.following import CannotStay, followed
from vidprune.exporting.near_ties import merging_departure, run_length_departure
from vidprune.exporting.program import Answering, trace
from vidprune.exporting.record import FORMATS, ExportRecord, is_exported, record_path, stamp
from vidprune.exporting.running import Exported, load_exported
from vidprune.inference import normalisation_of
from vidprune.prepare import ViewOptions, class_names_of, protocol_for
from vidprune.pruned import prune
from vidprune.video import Normalisation

SPEC = "sta:r=4"


def pruned(spec: str = SPEC, **changes: Any) -> PreTrainedModel:
    return prune(tiny_videomae(**{"num_hidden_layers": 3} | changes), spec)


def exported(model: PreTrainedModel, output: Path, **how: Any) -> ExportRecord:
    form = {".onnx": "onnx", ".pt2": "torch"}[output.suffix]
    return export(
        model,
        output,
        Exporting(**{"format": form} | how),
        protocol=protocol_for(model, ViewOptions()),
        checkpoint="tiny",
    )


def clips(model: PreTrainedModel, count: int, seed: int = 5) -> Tensor:
    frames, side = model.config.num_frames, model.config.image_size
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, frames, 3, side, side, generator=noise)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return pruned()


@pytest.fixture(scope="module")
def folder(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in every format but the compiled one, which takes a minute."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("m.onnx", "m.pt2"):
        exported(model, folder / name)
    return folder


def assert_same(model: PreTrainedModel, other: Exported, batch: int) -> None:
    pixels = clips(model, batch, seed=batch)
    with torch.inference_mode():
        wanted, found = (each(pixels, return_trace=True) for each in (model, other))
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-5)
    assert len(found.trace.origin) == 3
    for ours, theirs in zip(found.trace.origin, wanted.trace.origin, strict=True):
        assert torch.equal(ours, theirs)


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


# What must not be handed over.


def test_another_model_s_program_is_not_handed_over(
    model: PreTrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was there stays."""
    output = tmp_path / "m.onnx"
    exported(model, output)
    before = output.read_bytes()
    stranger = trace(prune(tiny_videomae(num_hidden_layers=3, seed=1), SPEC))
    write = module._write
    monkeypatch.setattr(module, "_write", lambda program, *rest: write(stranger, *rest))
    with pytest.raises(ExportError, match=r"other tokens|answers differ"):
        exported(model, output)
    assert output.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "m.onnx.json"}


def answering(model: PreTrainedModel, change: Any, batch: int | None = None) -> Exported:
    """As if exported, but for what becomes of its outputs."""
    record = SimpleNamespace(
        clip_shape=tuple(clips(model, 1).shape[1:]),
        batch=batch,
        inputs=("pixel_values",),
        outputs=("logits", "origin_1", "origin_2", "origin_3"),
        image_mean=(0.4, 0.5, 0.6),
        image_std=(0.2, 0.2, 0.2),
        classes=(),
        config=json.loads(model.config.to_json_string(use_diff=False)),
        reducer=SPEC,
        dtype="float32",
        quantized=None,
        protocol={},
    )

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        with torch.inference_mode():
            return change(list(Answering(model).eval()(*given)))

    return Exported(Path("m.onnx"), record, run, torch.device("cpu"))


def test_a_token_too_many_of_the_wrong_ones_is_refused(model: PreTrainedModel) -> None:
    """A dropped one in the place of the first of the kept, in its group of the second stage."""
    size = model.stages[1].group_size

    def swap(outputs: list[Tensor]) -> list[Tensor]:
        entered, second = outputs[1][0].tolist(), outputs[2].clone()
        stay = second[0].tolist()
        first = entered.index(stay[0]) // size
        group = entered[first * size : (first + 1) * size]
        second[0, 0] = next(place for place in group if place not in stay)
        return [outputs[0], outputs[1], second, outputs[3]]

    with pytest.raises(ExportError, match="chooses other tokens of a clip: stage 2: "):
        compare(model, answering(model, swap), {"a clip": clips(model, 1)[0]})


def test_a_token_that_had_gone_is_refused(model: PreTrainedModel) -> None:
    """In the place of the first that stayed, which what is not found was once taken for."""

    def back(outputs: list[Tensor]) -> list[Tensor]:
        first, second = outputs[1][0].tolist(), outputs[2].clone()
        gone = next(place for place in range(128) if place not in first)
        second[0, (second[0] == first[0]).nonzero()[:1, 0]] = gone
        second[0, 0] = gone
        return [outputs[0], outputs[1], second, outputs[3]]

    with pytest.raises(ExportError, match="of a clip: stage 2 keeps what had gone"):
        compare(model, answering(model, back), {"a clip": clips(model, 1)[0]})


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_answers_to_others_of_a_batch_are_refused(
    model: PreTrainedModel, batch: int | None, count: int
) -> None:
    def turn(outputs: list[Tensor]) -> list[Tensor]:
        return [each.flip(0) for each in outputs]

    given = dict(zip("abcd", clips(model, count), strict=False))
    with pytest.raises(ExportError, match=r"tokens of . beside others|beside others, more than"):
        compare(model, answering(model, turn, batch=batch), given)

    def same(outputs: list[Tensor]) -> list[Tensor]:
        return outputs

    check = compare(model, answering(model, same, batch=batch), given)
    assert check.same_kept_together == count
    assert check.difference_together < 1e-5
    assert compare(model, answering(model, same, batch=1), given).same_kept_together is None


def test_what_a_clip_s_neighbours_do_to_it_is_counted_in_less_precision(
    model: PreTrainedModel,
) -> None:
    """And its other tokens are not followed, whose answer would not be the model's own."""

    def turn(outputs: list[Tensor]) -> list[Tensor]:
        return [each.flip(0) for each in outputs]

    other = answering(model, turn)
    other.record.quantized = "int8"
    check = compare(model, other, dict(zip("ab", clips(model, 2), strict=True)))
    assert check.same_kept_together == 0
    assert (check.same_kept, check.near_ties, check.unjudged) == (2, 0, 0)


def test_merging_may_differ_by_rounding_alone() -> None:
    """Bipartite matching of 6 tokens, of whose sources two tie."""
    rows = torch.tensor([[1.0, 0], [1, 0], [1, 1e-7], [0, 1], [1, 1], [1, 5]])[None]
    for kept in ([0, 4, 1, 3, 5], [2, 4, 1, 3, 5]):
        assert merging_departure(torch.tensor([kept]), rows, ranked=False) is None
    for kept, ranked, sentence in (
        ([0, 2, 1, 3, 5], False, "more like another than one that went"),
        ([4, 0, 1, 3, 5], False, "in another order"),
        ([4, 0, 1, 3, 5], True, "order kept is off"),
        ([0, 0, 1, 3, 5], True, "sources stand twice"),
        ([0, 4, 1, 5, 3], True, "do not all stay"),
    ):
        wrong = merging_departure(torch.tensor([kept]), rows, ranked=ranked)
        assert wrong is not None
        assert sentence in wrong


def test_run_length_may_differ_by_rounding_alone() -> None:
    changes = torch.tensor([[0.5, 0.5, 0.5 + 1e-7, 3.0]])
    for kept in ([0, 1, 3, 4, 5], [0, 1, 2, 3, 5], [0, 1, 2, 4, 5]):
        assert run_length_departure(torch.tensor([kept]), changes, first=2) is None
    for kept, sentence in (
        ([0, 1, 2, 3, 4], "changes 2.5 less than one that went"),
        ([0, 2, 3, 4, 5], "do not all stay"),
        ([0, 1, 5, 4, 3], "in another order"),
    ):
        wrong = run_length_departure(torch.tensor([kept]), changes, first=2)
        assert wrong is not None
        assert sentence in wrong


MERGING = [
    "tome:r=4",
    "tome:r=4,mode=drop",
    "vid-tldr:r=4",
    "sta:r=4,fold=true",
    "sta:r=4,first_group=random",
    "run-length:r=3,fold=true",
]


@pytest.mark.parametrize("spec", MERGING)
def test_what_a_file_keeps_is_followed_through_the_model(spec: str) -> None:
    """Also where the model would keep others, and in another order: whom they are folded into
    follows from who stays."""
    model, pixels, keys = pruned(spec), clips(pruned(spec), 1), torch.tensor([7])
    with torch.inference_mode():
        wanted, *origins = Answering(model).eval()(pixels, keys)
    kind = type(model.reducer)

    class Turned(kind):  # type: ignore[misc, valid-type]
        def __call__(self, *given: Any) -> Any:
            found = super().__call__(*given)
            return replace(found, keep=found.keep.flip(1))

    told = {each.name: getattr(model.reducer, each.name) for each in fields(model.reducer)}
    for reducer in (model.reducer, Turned(**told)):
        answer, seen = followed(prune(model, reducer), pixels, keys, origins)
        torch.testing.assert_close(answer, wanted)
        assert len(seen) == len(origins)
    with pytest.raises(CannotStay, match="stage 1: 3 stay, not"):
        followed(model, pixels, keys, [each[:, :3] for each in origins])


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["tome:r=8", "vid-tldr:r=8", "run-length:r=8"])
def test_methods_that_merge_are_exported_of_flat_ground(spec: str, tmp_path: Path) -> None:
    """Whose tokens tie by the hundred: the drawn clips of the demo's model."""
    check = exported(prune(vidprune.load("demo"), spec), tmp_path / "m.onnx").check
    assert check.same_kept + check.near_ties == 4
    assert check.largest_difference < 1e-5


def test_answers_that_differ_are_refused(model: PreTrainedModel) -> None:
    def shift(outputs: list[Tensor]) -> list[Tensor]:
        return [outputs[0] * 1.01, *outputs[1:]]

    with pytest.raises(ExportError, match=r"answers differ from the model's by 0.01"):
        compare(model, answering(model, shift), {"a clip": clips(model, 1)[0]})


def test_what_is_no_number_is_refused(model: PreTrainedModel) -> None:
    def lose(outputs: list[Tensor]) -> list[Tensor]:
        return [outputs[0] * float("nan"), *outputs[1:]]

    with pytest.raises(ExportError, match="not finite"):
        compare(model, answering(model, lose), {"a clip": clips(model, 1)[0]})


def test_of_tokens_that_tie_either_may_stay(model: PreTrainedModel) -> None:
    """A clip of one colour: all tokens of a frame differ by their positions alone. Two that stand
    in one group are given the same everything, and change places."""
    flat = torch.zeros(1, 16, 3, 64, 64)
    tied = prune(flattened(model), SPEC)

    def turned(outputs: list[Tensor]) -> list[Tensor]:
        """Another of the tied in the place of one, as another order of summing might choose."""
        first = outputs[1].clone()
        frame = [place for place in first[0].tolist() if place // 16 == 3]
        free = next(place for place in range(48, 64) if place not in frame)
        first[:, frame.index(frame[-1]) + (first[0] // 16 < 3).sum()] = free
        return _follow(tied, flat.expand(len(first), -1, -1, -1, -1), first)

    check = compare(tied, answering(tied, turned), {"flat": flat[0]})
    assert (check.same_kept, check.near_ties) == (0, 1)


def flattened(model: PreTrainedModel) -> PreTrainedModel:
    """The dense model without positions."""
    dense = tiny_videomae(num_hidden_layers=3)
    table = dense.videomae.embeddings.position_embeddings
    dense.videomae.embeddings.position_embeddings = torch.zeros_like(table)
    return dense


def _follow(model: PreTrainedModel, pixels: Tensor, first: Tensor) -> list[Tensor]:
    """The model's own answer where these stay at its first stage."""
    kind = type(model.reducer)

    class Told(kind):  # type: ignore[misc, valid-type]
        def choose(self, tokens: Tensor, signals: Any, layout: Any, stage: Any) -> Tensor:
            if stage.index == 0:
                return first
            return super().choose(tokens, signals, layout, stage)

    with torch.inference_mode():
        return list(Answering(prune(model, Told(r=4))).eval()(pixels))


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


# Bad input.


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


# The file and its record.


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for name in ("m.onnx", "m.onnx.json", "m.pt2", "m.pt2.json"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path / "m.onnx"


def rewritten(file: Path, **changes: Any) -> Path:
    record = json.loads(record_path(file).read_text())
    record_path(file).write_text(json.dumps(record | changes))
    return file


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


# The command line.


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
