"""What does not do what the model does is not handed over."""

import json
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import vidprune
from tiny_exports import SPEC, clips, exported, pruned
from tiny_videomae import tiny_videomae
from vidprune.commands import export as module
from vidprune.exporting.checking import ExportError, compare
from vidprune.exporting.following import CannotStay, followed
from vidprune.exporting.near_ties import merging_departure, run_length_departure
from vidprune.exporting.program import Answering, trace
from vidprune.exporting.running import Exported
from vidprune.holding import held
from vidprune.pruned import prune


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
    "ward:r=3",
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


def test_what_killed_exports_left_is_swept_and_no_one_else_s(tmp_path: Path) -> None:
    """A folder that another export is at work in stays, and so does one of another file."""
    output = tmp_path / "m.onnx"
    stale, busy, other = (tmp_path / name for name in (".m.onnx.a1", ".m.onnx.b2", ".n.onnx.c3"))
    for folder in (stale, busy, other):
        folder.mkdir()
        (folder / "m.onnx").write_bytes(b"half")
        os.utime(folder, (0, 0))
    with held(busy):
        # Its lock made it younger.
        os.utime(busy, (0, 0))
        with module._workplace(output) as made:
            assert made.is_dir()
            assert not stale.exists()
            with module._workplace(output) as beside:
                assert made.is_dir()
                assert beside != made
        assert {each.name for each in tmp_path.iterdir()} == {busy.name, other.name}
