"""A folder belongs to one run, which is known by what decides its numbers."""

import json
from pathlib import Path

import pytest

from evaluation_job import VIDEOS, classifier, run
from tiny_job import CLASSES, write_checkpoint
from vidprune.backbones.checkpoints import load
from vidprune.commands.evaluate import evaluate, model_digest
from vidprune.inference import Classifier
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.video import read_list


def test_attention_of_another_kind_makes_another_run(job: Path, tmp_path: Path) -> None:
    run(job, tmp_path)
    assert "attention" not in json.loads((tmp_path / "run.json").read_text())
    eager = classifier(job, "sta:r=4")
    eager.model.set_attn_implementation("eager")
    given = {"output": tmp_path, "checkpoint": "tiny", "data": "test.csv"}
    with pytest.raises(FileExistsError, match="made with attention as usual, not 'eager'"):
        evaluate(eager, read_list(job / "test.csv"), **given)
    report = evaluate(eager, read_list(job / "test.csv"), **given, restart=True)
    assert report is not None
    assert report.attention == "eager"
    with pytest.raises(FileExistsError, match="made with attention 'eager', not as usual"):
        run(job, tmp_path)


def test_a_compiled_model_makes_another_run(job: Path, tmp_path: Path) -> None:
    """Its last bits are others."""
    run(job, tmp_path)
    assert "compiled" not in json.loads((tmp_path / "run.json").read_text())
    compiled = classifier(job, "sta:r=4", compiled=True)
    with pytest.raises(FileExistsError, match="made with compiled as usual, not True"):
        evaluate(
            compiled,
            read_list(job / "test.csv"),
            output=tmp_path,
            checkpoint="tiny",
            data="test.csv",
        )


def test_a_folder_of_another_run_is_refused(job, undisturbed):
    output = undisturbed("sta:r=4")
    before = (output / "views.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="belongs to another run") as caught:
        run(job, output, reducer="none")
    assert "reducer 'sta:r=4', not 'none'" in str(caught.value)
    assert (output / "views.jsonl").read_bytes() == before


def test_a_checkpoint_is_known_by_its_content_and_not_by_its_path(job, undisturbed):
    output = undisturbed("sta:r=4")
    before = (output / "views.jsonl").read_bytes()
    assert run(job, output, checkpoint="elsewhere").checkpoint == "elsewhere"
    assert (output / "views.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 4},
        {"layer_norm_eps": 1e-3},
        {"image_mean": [0.1, 0.1, 0.1], "image_std": [1.0, 1.0, 1.0]},
    ],
)
def test_models_of_equal_weights_are_told_apart(job, tmp_path, change):
    same_weights = load(write_checkpoint(tmp_path, **change))
    assert model_digest(same_weights) != model_digest(load(job / "model"))


def test_models_of_another_fixed_table_are_told_apart(job):
    ours, other = load(job / "model"), load(job / "model")
    other.videomae.embeddings.position_embeddings += 1
    assert model_digest(other) != model_digest(ours)


def test_models_of_other_positions_are_told_apart(job):
    digests = {
        model_digest(load(job / "model", frames=8, positions=rule))
        for rule in ("interpolate", "recompute")
    }
    assert len(digests) == 2


def test_a_model_is_itself_wherever_it_lies_and_however_its_classes_are_called(job, tmp_path):
    ours = load(job / "model")
    names = [f"class {number}" for number in range(CLASSES)]
    moved = load(write_checkpoint(tmp_path / "moved"), labels=names)
    assert model_digest(moved) == model_digest(ours) == model_digest(prune(ours, "sta:r=4"))


def test_a_run_in_8_bits_is_another_run_and_says_so(job, tmp_path, undisturbed):
    pytest.importorskip("torchao")
    protocol = protocol_for(load(job / "model"), ViewOptions())

    def in_8_bits() -> Classifier:
        return Classifier(prune(load(job / "model", quantize="int8"), None), protocol, batch_size=3)

    samples = read_list(job / "test.csv")
    names = {"checkpoint": "tiny", "data": "test.csv", "workers": 0}
    with pytest.raises(FileExistsError, match="quantized as usual, not 'int8'"):
        evaluate(in_8_bits(), samples, output=undisturbed("none"), **names)
    report = evaluate(in_8_bits(), samples, output=tmp_path, **names)
    assert (report.quantized, report.num_videos) == ("int8", VIDEOS - 1)
    assert json.loads((tmp_path / "run.json").read_text())["quantized"] == "int8"
    assert "quantized" not in json.loads((undisturbed("none") / "run.json").read_text())
    before = (tmp_path / "views.jsonl").read_bytes()
    evaluate(in_8_bits(), samples, output=tmp_path, **names)
    assert (tmp_path / "views.jsonl").read_bytes() == before
    with pytest.raises(FileExistsError, match="quantized 'int8', not as usual"):
        run(job, tmp_path, reducer="none")


def test_models_in_8_bits_are_told_apart_by_what_their_weights_are_made_of(job):
    pytest.importorskip("torchao")
    ours, again, other = (load(job / "model", quantize="int8") for _ in range(3))
    other.videomae.encoder.layer[0].output.dense.weight.scale.mul_(2)
    assert model_digest(again) == model_digest(ours) == model_digest(prune(ours, "sta:r=4"))
    assert len({*map(model_digest, (ours, other, load(job / "model")))}) == 3
