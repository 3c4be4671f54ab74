"""Videos -> logits: in order, whatever breaks in between, and the same however a job is cut."""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_job
from tiny_job import drifting_images, write_checkpoint, write_list, write_video
from vidprune import batching, inference
from vidprune.backbones.checkpoints import load
from vidprune.inference import (
    Classifier,
    Unreadable,
    ViewLogits,
    classify_with_each,
    clip_key,
    named_device,
    normalisation_of,
)
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.reading import Request, default_workers
from vidprune.video import Normalisation, read_views
from vidprune.video.guarded import GuardedReader

NAMES = [f"{number:02d}.mp4" for number in range(5)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small models do not gain from threads, and lose much where cores are shared."""
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("job")
    write_checkpoint(made / "model")
    write_list(made, videos=5, broken=2)
    return made


def classifier(folder: Path, reducer: str = "sta:r=4", **options: Any) -> Classifier:
    model = load(folder / "model")
    options.setdefault("batch_size", 3)
    return Classifier(prune(model, reducer), protocol_for(model, ViewOptions()), **options)


def requests(folder: Path, *views: tuple[int, ...]) -> list[Request]:
    """The five videos, of which `views` says what is wanted; all four views by default."""
    wanted = [*views, *[(0, 1, 2, 3)] * 5][:5]
    return [Request(name, folder / name, some) for name, some in zip(NAMES, wanted, strict=True)]


def outline(outcomes: Iterator[ViewLogits | Unreadable]) -> list[tuple[str, int | None]]:
    return [(found.name, getattr(found, "view", None)) for found in outcomes]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_outcomes_come_in_the_order_asked_for_with_the_unreadable_in_place(
    folder, batch_size, workers
):
    found = classifier(folder, batch_size=batch_size).classify(requests(folder), workers=workers)
    expected = [(name, view) for name in NAMES for view in range(4) if name != "02.mp4"]
    expected.insert(8, ("02.mp4", None))
    assert outline(found) == expected


def test_unreadable_at_both_ends_and_views_already_done(folder):
    asked = requests(folder, (3,), (), (0, 1), (1, 2))
    asked = [asked[2], *asked, Request("gone", folder / "gone.mp4", (0,))]
    found = list(classifier(folder).classify(asked, workers=0))
    assert outline(iter(found)) == [
        ("02.mp4", None),
        ("00.mp4", 3),
        ("02.mp4", None),
        ("03.mp4", 1),
        ("03.mp4", 2),
        *[("04.mp4", view) for view in range(4)],
        ("gone", None),
    ]
    assert "there is no such file" in found[-1].reason


def test_nothing_asked_nothing_found(folder):
    assert list(classifier(folder).classify([])) == []


def test_batches_are_filled_across_videos_and_all_have_one_shape(folder, monkeypatch):
    shapes, filled = [], []
    made = classifier(folder)
    forward = made.model.forward
    start = Classifier.start

    def see_shape(pixels: Tensor, **options: Tensor) -> object:
        shapes.append(tuple(pixels.shape))
        return forward(pixels, **options)

    def see_filled(self: Classifier, clips: Sequence[Tensor], keys: Sequence[int]) -> Tensor:
        filled.append(len(clips))
        return start(self, clips, keys)

    monkeypatch.setattr(made.model, "forward", see_shape)
    monkeypatch.setattr(Classifier, "start", see_filled)
    assert len(list(made.classify(requests(folder), workers=0))) == 17
    assert filled == [3, 3, 3, 3, 3, 1]
    assert set(shapes) == {(3, 16, 3, 32, 32)}


@pytest.mark.parametrize("workers", [0, 2])
def test_several_models_side_by_side_say_what_each_says_alone(folder, workers):
    made = [classifier(folder, reducer) for reducer in ("none", "sta:r=4", "random:r=4")]
    asked = requests(folder, (3,), (0, 1, 2, 3), (0,), (1, 2))
    rows = list(classify_with_each(made, asked, workers=workers))
    for one, together in zip(made, zip(*rows, strict=True), strict=True):
        alone = list(one.classify(asked, workers=0))
        assert outline(iter(together)) == outline(iter(alone))
        for found, expected in zip(together, alone, strict=True):
            if isinstance(expected, ViewLogits):
                assert torch.equal(found.logits, expected.logits)
    assert not torch.equal(rows[0][0].logits, rows[0][1].logits)


def test_the_next_batch_begins_before_the_last_is_waited_for(folder, monkeypatch):
    """As on a GPU; and says the same, in the same order."""
    made = [classifier(folder, reducer) for reducer in ("none", "random:r=4")]
    asked = requests(folder, (3,), (0, 1, 2, 3), (0,), (1, 2))
    wanted = list(classify_with_each(made, asked, workers=0))
    done: list[str] = []
    start, answers = Classifier.start, batching._Lane.answers

    def seen(self: Classifier, *arguments: Any) -> Tensor:
        done.append("begun")
        return start(self, *arguments)

    def waited(self: Any, ahead: int) -> Any:
        ready = answers(self, ahead)
        done.extend(["waited"] * len(ready))
        return ready

    monkeypatch.setattr(Classifier, "start", seen)
    monkeypatch.setattr(batching._Lane, "answers", waited)
    monkeypatch.setattr(inference, "_batches_ahead", lambda classifiers: 1)
    found = list(classify_with_each(made, asked, workers=0))
    # Of two models, of which each has a batch under way while the next one is put together.
    assert done[:6] == ["begun", "begun", "begun", "waited", "begun", "waited"]
    for each, other in zip(found, wanted, strict=True):
        assert outline(iter(each)) == outline(iter(other))
        for one, same in zip(each, other, strict=True):
            if isinstance(same, ViewLogits):
                assert torch.equal(one.logits, same.logits)


def test_a_compiled_model_is_one_graph_of_one_shape(folder, monkeypatch):
    """Compiled once for all batches, the short last one among them; and each model by itself."""
    shapes: list[list[int]] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        shapes.append(list(inputs[0].shape))
        return graph

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: compile_(f, backend=backend, **how))
    torch._dynamo.reset()
    for reducer in ("none", "sta:r=4", "random:r=4"):
        made = classifier(folder, reducer, compiled=True)
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = list(made.classify(requests(folder), workers=0))
        wanted = list(classifier(folder, reducer).classify(requests(folder), workers=0))
        for one, same in zip(found, wanted, strict=True):
            if isinstance(same, ViewLogits):
                torch.testing.assert_close(one.logits, same.logits)
    assert len(shapes) == 3


def test_a_video_that_brings_its_decoder_down_costs_nothing_else(folder, monkeypatch):
    read = GuardedReader.read

    def read_badly(reader: GuardedReader, path: Path) -> torch.Tensor:
        if path.name == "00.mp4":
            dying = reader._running().pid
            os.kill(dying, signal.SIGSTOP)
            again = (signal.SIGSEGV, signal.SIGCONT)
            Timer(0.3, lambda: [os.kill(dying, each) for each in again]).start()
        return read(reader, path)

    wanted = list(classifier(folder).classify(requests(folder), workers=0))
    monkeypatch.setattr(GuardedReader, "read", read_badly)
    found = list(classifier(folder).classify(requests(folder), workers=1))
    assert found[0] == Unreadable("00.mp4", "the process that decoded it was ended by SIGSEGV")
    rest = [each for each in wanted if each.name != "00.mp4"]
    assert [each.name for each in found[1:]] == [each.name for each in rest]
    for ours, theirs in zip(found[1:], rest, strict=True):
        assert isinstance(ours, Unreadable) or torch.equal(ours.logits, theirs.logits)


def test_who_decodes_where_nobody_says():
    """See docs/speed.md: beside threads of a model on few cores decoding takes longer."""
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert [default_workers(cpu, cores, "pyav") for cores in (1, 2, 4, 8, 64, 208)] == [
        0,
        0,
        0,
        8,
        64,
        64,
    ]
    assert [default_workers(gpu, cores, "pyav") for cores in (1, 4, 16)] == [1, 4, 16]


def test_models_that_want_other_batches_cannot_go_side_by_side(folder):
    made = [classifier(folder), classifier(folder, batch_size=2)]
    with pytest.raises(ValueError, match="batch_size=2 cannot share one pass"):
        list(classify_with_each(made, requests(folder)))
    made = [classifier(folder), classifier(folder)]
    made[1].protocol = replace(made[1].protocol, crops=1)
    with pytest.raises(ValueError, match=r"crops=1.* cannot share one pass"):
        list(classify_with_each(made, requests(folder)))


@pytest.mark.parametrize("reducer", ["none", "sta:r=4", "random:r=4", "sta:r=4,first_group=random"])
def test_a_clips_logits_do_not_depend_on_its_neighbours(folder, reducer):
    made = classifier(folder, reducer, batch_size=4)
    clips = torch.cat([read_views(folder / n, made.protocol).pixels for n in ("00.mp4", "01.mp4")])
    generator = torch.Generator().manual_seed(0)
    keys = torch.randint(-(2**63), 2**63 - 1, (8,), generator=generator)
    alone = torch.cat([made(clips[i : i + 1], keys[i : i + 1]) for i in range(8)])
    for size in (2, 3, 4, 4, 4):
        chosen = torch.randperm(8, generator=generator)[:size]
        assert torch.equal(made(clips[chosen], keys[chosen]), alone[chosen])


def test_random_draws_follow_the_clip_key(folder):
    made = classifier(folder, "random:r=4")
    clip = read_views(folder / "00.mp4", made.protocol).pixels[:1]
    logits = [made(clip, torch.tensor([key])) for key in (1, 1, 2)]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_logits_are_the_models_on_normalised_pixels(folder):
    made = classifier(folder, batch_size=2)
    pixels = read_views(folder / "03.mp4", made.protocol).pixels[:2]
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        expected = made.model((pixels.float() / 255 - mean) / std).logits
    found = made(pixels, torch.tensor([0, 0]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_a_clip_key_is_the_same_everywhere_and_forever():
    # The first bytes of sha256("1 a b.mp4"), as a signed number.
    assert clip_key("a b.mp4", 1) == 0x877ABC9F260498FC - 2**64


def test_clip_keys_tell_videos_and_views_apart():
    keys = {clip_key(name, view) for name in ("a", "b", "1 a", "\udcff") for view in range(30)}
    assert len(keys) == 120
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_the_checkpoints_normalisation_is_used(folder, tmp_path):
    assert normalisation_of(load(folder / "model")) == Normalisation()
    other = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.75]}
    model = load(write_checkpoint(tmp_path / "model", **other))
    assert normalisation_of(model) == Normalisation((0.5, 0.5, 0.5), (0.25, 0.5, 0.75))
    assert Classifier(model, protocol_for(model, ViewOptions())).normalisation.mean == (
        0.5,
        0.5,
        0.5,
    )


def test_a_name_of_bytes_that_are_no_text_is_only_a_name(folder, tmp_path):
    path = tmp_path / "odd \udcff.mp4"
    write_video(tmp_path / "plain.mp4", drifting_images(9)).rename(path)
    (found,) = classifier(folder).classify([Request(str(path), path, (0,))], workers=0)
    assert isinstance(found, ViewLogits)


def test_settings_that_make_no_sense_are_refused(folder):
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        classifier(folder, batch_size=0)
    with pytest.raises(ValueError, match="workers=-1 must be 0"):
        list(classifier(folder).classify(requests(folder), workers=-1))


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x", ""])
def test_a_device_that_is_not_there_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"device={name!r} cannot be used here"):
        named_device(name)
    assert named_device("cpu") == torch.device("cpu")
