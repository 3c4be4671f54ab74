"""Models over videos in turn: whose turn it is, what counts, and what they say."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

import tiny_job
from tiny_job import write_checkpoint, write_list
from vidprune import reading
from vidprune.backbones.checkpoints import load
from vidprune.benchmarking import end_to_end
from vidprune.benchmarking.contest import Candidate
from vidprune.benchmarking.end_to_end import Entrant, Finish, race
from vidprune.inference import Classifier, Unreadable, ViewLogits
from vidprune.metrics import mean_probabilities
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.reading import Request

CPU = torch.device("cpu")
BATCH, VIEWS = 5, 4
GOOD = (0, 2, 3)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `videos` 00.mp4 to 03.mp4, of which 01.mp4 is broken."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder / "videos", videos=4, broken=1)
    return folder


@pytest.fixture(scope="module")
def model(job: Path) -> PreTrainedModel:
    return load(job / "model")


@pytest.fixture
def videos(job: Path) -> list[Path]:
    return [job / "videos" / f"{number:02d}.mp4" for number in range(4)]


def candidate(model: PreTrainedModel, reducer: str | None = None, mode: str = "eager") -> Candidate:
    return Candidate(prune(model, reducer), mode, BATCH, CPU)


def entrant(found: Candidate, **parts: Any) -> Entrant:
    protocol = protocol_for(found.model, ViewOptions())
    return Entrant.of(found, replace(protocol, **parts))


def direct(model: PreTrainedModel, videos: Sequence[Path], views: Sequence[int]) -> Tensor:
    """Answers (V, classes) of a plain classifier to the good videos."""
    classifier = Classifier(model, protocol_for(model, ViewOptions()), batch_size=BATCH, device=CPU)
    requests = [Request(str(videos[n]), videos[n], tuple(range(VIEWS))) for n in GOOD]
    outcomes = list(classifier.classify(requests, workers=0))
    logits = [outcome.logits for outcome in outcomes if isinstance(outcome, ViewLogits)]
    every = torch.stack(logits).view(len(GOOD), VIEWS, -1)[:, list(views)]
    return torch.stack([mean_probabilities(video) for video in every])


# --- what they say ------------------------------------------------------------------------------


@pytest.mark.parametrize("reducer", [None, "sta:r=8", "random:r=8"])
def test_answers_are_those_of_a_plain_classifier(
    model: Any, videos: list[Path], reducer: str | None
) -> None:
    others = [entrant(candidate(model)), entrant(candidate(model, reducer))]
    finishes, _ = race(others, videos, 0, passes=1)
    wanted = direct(prune(model, reducer), videos, range(VIEWS))
    assert torch.equal(finishes[1].probabilities, wanted)


def test_on_fewer_views_answers_are_the_mean_over_these(model: Any, videos: list[Path]) -> None:
    dense = entrant(candidate(model))
    finishes, _ = race([dense, replace(dense, views=(0, 3))], videos, 0, passes=1)
    assert torch.equal(finishes[1].probabilities, direct(prune(model, None), videos, (0, 3)))
    assert [finish.end_to_end.views_per_video for finish in finishes] == [VIEWS, 2]
    assert not torch.equal(finishes[0].probabilities, finishes[1].probabilities)


def test_what_cannot_be_read_is_named_and_left_out(model: Any, videos: list[Path]) -> None:
    gone = videos[0].with_name("gone.mp4")
    finishes, unreadable = race([entrant(candidate(model))], [*videos, gone, videos[0]], 0)
    assert [video.name for video in unreadable] == [str(videos[1]), str(gone)]
    assert all(isinstance(video, Unreadable) and video.reason for video in unreadable)
    assert finishes[0].probabilities.shape == (len(GOOD), tiny_job.CLASSES)


def test_where_nothing_can_be_read_nobody_finishes(model: Any, videos: list[Path]) -> None:
    finishes, unreadable = race([entrant(candidate(model))], videos[1:2], 0)
    assert finishes == []
    assert [video.name for video in unreadable] == [str(videos[1])]


# --- whose turn it is ---------------------------------------------------------------------------


class Clock:
    """Moves on by as much as those take who are named in `costs`."""

    def __init__(self, costs: dict[str, Sequence[float]]) -> None:
        self.now, self.log = 0.0, ""
        self._costs = {name: iter(seconds) for name, seconds in costs.items()}

    def __call__(self) -> float:
        # Nothing takes no time at all.
        self.now += 1e-9
        return self.now

    def pass_of(self, name: str) -> None:
        self.log += name
        self.now += next(self._costs[name])


def timed_race(
    monkeypatch: pytest.MonkeyPatch,
    entrants: dict[str, Entrant],
    videos: Sequence[Path],
    costs: dict[str, Sequence[float]],
    **options: Any,
) -> tuple[list[Finish], Clock]:
    """A race whose passes take what `costs` say; decoding is named by its protocol's size."""
    clock = Clock(costs)
    names = {id(found): name for name, found in entrants.items()}

    def classify(found: Entrant, paths: Sequence[Path], workers: int | None) -> None:
        assert [path.name for path in paths] == ["00.mp4", "02.mp4", "03.mp4"]
        assert workers == 7
        clock.pass_of(names[id(found)])

    def decode(classifier: Classifier, paths: Sequence[Path], workers: int | None) -> None:
        assert ([path.name for path in paths], workers) == (["00.mp4", "02.mp4", "03.mp4"], 7)
        clock.pass_of(str(classifier.protocol.size))

    monkeypatch.setattr(end_to_end.time, "perf_counter", clock)
    monkeypatch.setattr(end_to_end, "_classify", classify)
    monkeypatch.setattr(end_to_end, "_decode", decode)
    return race(list(entrants.values()), videos, 7, **options)[0], clock


def test_the_order_moves_on_and_decoding_runs_once_for_each_protocol(
    monkeypatch: Any, model: Any, job: Path, videos: list[Path]
) -> None:
    dense = entrant(candidate(model))
    small = load(job / "model", size=24)
    entrants = {
        "a": dense,
        "b": replace(dense, views=(1,)),
        "c": entrant(candidate(model, "sta:r=8")),
        "d": entrant(candidate(small)),
    }
    costs = {name: [1.0] * 3 for name in (*entrants, "32", "24")}
    _, clock = timed_race(monkeypatch, entrants, videos, costs)
    orders = ("a b c d 32 24", "b c d 32 24 a", "c d 32 24 a b")
    assert clock.log == "".join(orders).replace(" ", "")


def test_speeds_follow_from_the_median_pass(
    monkeypatch: Any, model: Any, videos: list[Path]
) -> None:
    runs = {"a": candidate(model), "b": candidate(model, "sta:r=8")}
    entrants = {name: entrant(found) for name, found in runs.items()}
    costs = {"a": [6.0, 9.0, 3.0], "b": [2.0, 1.0, 1.5], "32": [1.0, 5.0, 1.2]}
    (first, second), _ = timed_race(monkeypatch, entrants, videos, costs)
    assert first.end_to_end.videos_per_second == pytest.approx(3 / 6)
    assert second.end_to_end.videos_per_second == pytest.approx(3 / 1.5)
    assert first.end_to_end.decoding_videos_per_second == pytest.approx(3 / 1.2)
    assert first.end_to_end.seconds == (6, 9, 3)


def test_the_model_alone_counts_full_batches_and_no_warm_up(
    monkeypatch: Any, model: Any, videos: list[Path]
) -> None:
    found = candidate(model)
    dense = entrant(found)
    entrants = {"a": dense, "b": replace(dense, views=(0, 2))}
    costs = {name: [1.0] for name in (*entrants, "32")}
    # The first, which warms up, and three of 5, 5 and 2 views, the last one filled up.
    seconds = iter([100.0, 2.0, 1.0, 3.0])
    forward = found.run.forward

    def slow(pixels: Tensor) -> Any:
        assert pixels.shape[0] == BATCH
        end_to_end.time.perf_counter.now += next(seconds)  # type: ignore[attr-defined]
        return forward(pixels)

    object.__setattr__(found.run, "forward", slow)
    (whole, fewer), _ = timed_race(monkeypatch, entrants, videos, costs, passes=1)
    assert next(seconds, None) is None
    assert whole.end_to_end.model_videos_per_second == pytest.approx(3 / 6)
    # Six views fill two batches, of two seconds in the mean.
    assert fewer.end_to_end.model_videos_per_second == pytest.approx(3 / 4)


def test_videos_are_decoded_once_for_all_that_share_a_protocol(
    monkeypatch: Any, model: Any, job: Path, videos: list[Path]
) -> None:
    decoded: Counter[tuple[str, int]] = Counter()
    read = reading.read_views

    def note(path: Path, protocol: Any, **how: Any) -> Any:
        decoded[path.name, protocol.size] += 1
        return read(path, protocol, **how)

    monkeypatch.setattr(reading, "read_views", note)
    dense = entrant(candidate(model))
    entrants = {
        "a": dense,
        "b": replace(dense, views=(1,)),
        "c": entrant(candidate(model, "sta:r=8")),
        "d": entrant(candidate(load(job / "model", size=24))),
    }
    costs = {name: [1.0] for name in (*entrants, "32", "24")}
    timed_race(monkeypatch, entrants, videos, costs, passes=1)
    assert decoded == {(path.name, size): 1 for path in videos for size in (32, 24)}


def test_true_passes_run_every_view_that_is_wanted_and_no_other(
    monkeypatch: Any, model: Any, videos: list[Path]
) -> None:
    decoded: list[str] = []
    asked: list[tuple[str, tuple[int, ...]]] = []
    read, classify = reading.read_views, Classifier.classify

    def note(path: Path, protocol: Any, **how: Any) -> Any:
        decoded.append(path.name)
        return read(path, protocol, **how)

    def listen(self: Classifier, requests: Sequence[Request], **options: Any) -> Any:
        asked.extend((request.path.name, request.views) for request in requests)
        return classify(self, requests, **options)

    monkeypatch.setattr(reading, "read_views", note)
    monkeypatch.setattr(Classifier, "classify", listen)
    race([replace(entrant(candidate(model)), views=(0, 2))], videos, 0, passes=1)
    good = ["00.mp4", "02.mp4", "03.mp4"]
    assert asked == [(name, (0, 2)) for name in good]
    # In memory; then from files to logits; then decoding alone.
    assert decoded == ["00.mp4", "01.mp4", "02.mp4", "03.mp4", *good, *good]


# --- which forward runs -------------------------------------------------------------------------


def test_the_model_stays_where_it_is_and_its_own_forward_runs(
    monkeypatch: Any, model: Any, videos: list[Path]
) -> None:
    found = candidate(model, "random:r=8")
    monkeypatch.setattr(type(found.model), "to", None)
    seen: list[tuple[int, ...]] = []
    forward = found.run.forward

    def note(pixels: Tensor) -> Any:
        seen.append(tuple(pixels.shape))
        return forward(pixels)

    object.__setattr__(found.run, "forward", note)
    race([entrant(found)], videos, 0, passes=2)
    # Once to warm up, three batches in memory, three in each pass, all of the shape that was timed.
    assert seen == [found.run.shape] * (1 + 3 + 2 * 3)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["blocks", "graph"])
def test_compiled_candidates_answer_as_eager_ones_do(
    model: Any, videos: list[Path], mode: str
) -> None:
    """Also where draws hang on the clip: each batch writes its keys for the compiled code."""
    found = candidate(model, "random:r=8", mode)
    finishes, _ = race([entrant(found)], videos, 0, passes=1)
    wanted = direct(prune(model, "random:r=8"), videos, range(VIEWS))
    assert torch.allclose(finishes[0].probabilities, wanted, rtol=1e-3, atol=1e-5)


def test_another_device_is_a_mistake_of_ours(model: Any) -> None:
    with pytest.raises(AssertionError, match="made for it"):
        entrant(candidate(model)).classifier.model.to(torch.device("meta"))


def test_one_hears_what_is_going_on(model: Any, videos: list[Path]) -> None:
    heard: list[str] = []
    race([entrant(candidate(model))], videos, 0, passes=2, tell=heard.append)
    assert heard == [
        "views in memory",
        "from files to logits, pass 1 of 2",
        "from files to logits, pass 2 of 2",
    ]
