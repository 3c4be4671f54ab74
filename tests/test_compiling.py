"""What is recorded on CUDA is replayed with what comes next; a GPU tries the rest (`test_gpu`)."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny_videomae import tiny_videomae
from vidprune import compiling, inference, prune
from vidprune.inference import Classifier
from vidprune.video import Protocol


class Launches:
    """A device that goes on adding what lies where it was told to read, in the same memory."""

    def __init__(self) -> None:
        self.calls, self.sum = 0, torch.zeros(())

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        self.calls += 1
        self.read, self.sum = (one, other), one + other
        return self.sum

    def replay(self) -> None:
        torch.add(*self.read, out=self.sum)


class Recording:
    """As torch's: its end fails where what was recorded did, and leaves its stream to others."""

    def __init__(self, stream: object) -> None:
        assert stream == "beside", "on the stream that was made for the tensors' device"

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is not None:
            raise RuntimeError("operation failed due to a previous error during capture")


class Stream(str):
    __slots__ = ()

    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Launches:
    launches = Launches()
    cuda: dict[str, Any] = {
        "Stream": lambda device: Stream("beside"),
        "current_stream": lambda device: Stream("usual"),
        "stream": lambda stream: nullcontext(),
        "device": lambda device: nullcontext(),
        "graph": lambda graph, stream, capture_error_mode: Recording(stream),
        "CUDAGraph": lambda: SimpleNamespace(replay=launches.replay),
    }
    for name, fake in cuda.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return launches


def test_a_recording_takes_every_tensor_anew_and_runs_the_host_no_more(device: Launches) -> None:
    replay = compiling.recorded(device.forward)
    first = replay(torch.ones(3), torch.arange(3))
    assert first.tolist() == [1, 2, 3]
    calls = device.calls
    again = replay(torch.full((3,), 5.0), torch.arange(3) * 10)
    assert again.tolist() == [5, 15, 25]
    assert device.calls == calls
    assert again is first, "what it gives is overwritten by the next call"
    replay(torch.ones(4), torch.arange(4))
    assert device.calls > calls, "another shape is another recording"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            RuntimeError("operation not permitted when stream is capturing"),
            RuntimeError,
            r"something waits for the GPU.*\(operation not permitted",
        ),
        (torch.OutOfMemoryError("of 80 GiB"), torch.OutOfMemoryError, "of 80 GiB"),
    ],
)
def test_what_cannot_be_recorded_says_why(
    device: Launches, error: RuntimeError, kind: type[RuntimeError], says: str
) -> None:
    """And not what the recording's end says of it."""

    def waits(one: Tensor) -> Tensor:
        if device.calls == 3:
            raise error
        device.calls += 1
        return one

    with pytest.raises(kind, match=says):
        compiling.recorded(waits)(torch.ones(1))


def test_replaying_is_for_cuda() -> None:
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    with pytest.raises(
        ValueError, match="replayed on CUDA, and the model is on cpu; leave out rep"
    ):
        Classifier(
            prune(tiny_videomae(), None), protocol, device=torch.device("cpu"), replayed=True
        )


def test_a_classifier_hands_clips_and_keys_to_what_it_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Random pruning is drawn by the keys that come, not by those of the recording."""
    taken: list[tuple[Tensor, ...]] = []

    def recorded(forward: Any) -> Any:
        def replay(*given: Tensor) -> Tensor:
            taken.append(given)
            return forward(*given)

        return replay

    monkeypatch.setattr(inference, "recorded", recorded)
    monkeypatch.setattr(inference, "check_replay", lambda device: None)
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    pruned = prune(tiny_videomae(), "random:r=4")
    plain, replaying = (
        Classifier(pruned, protocol, batch_size=2, device=torch.device("cpu"), replayed=replayed)
        for replayed in (False, True)
    )
    clips = torch.randint(0, 256, (2, 16, 3, 64, 64), dtype=torch.uint8)
    for keys in (torch.tensor([1, 2]), torch.tensor([3, 4])):
        assert torch.equal(replaying(clips, keys), plain(clips, keys))
        assert torch.equal(taken[-1][1], keys)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("dtype", "lays_out"), [(torch.float32, False), (torch.bfloat16, True), (torch.float16, True)]
)
def test_a_cpu_s_compiler_lays_weights_out_where_that_gains(
    dtype: torch.dtype, lays_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def as_one_graph(forward: Any, *, frozen: bool) -> Any:
        asked.append(frozen)
        return forward

    monkeypatch.setattr(inference, "as_one_graph", as_one_graph)
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=16, size=64)
    model = prune(tiny_videomae().to(dtype), "sta:r=3")
    Classifier(model, protocol, device=torch.device("cpu"), compiled=True)
    assert asked == [lays_out]
