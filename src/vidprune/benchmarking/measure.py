"""How long forwards take, turn by turn, and how much memory one needs."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Forward = Callable[[Tensor], object]


@dataclass(frozen=True)
class Run:
    """Something to be timed: what it does with an input, and what that looks like."""

    forward: Forward
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


def in_turn(
    runs: Sequence[Run],
    *,
    repeats: int,
    device: torch.device,
    seed: int = 0,
    tell: Callable[[int], object] = lambda repeat: None,
) -> list[list[float] | RuntimeError]:
    """Seconds of each repeat of each run, `runs` by `repeats`; of a run that fails, why.

    In every repeat each run has its turn, and the order moves on by one from repeat to repeat, so
    that whatever else the machine does falls on all alike. Every forward gets a fresh random
    input, made outside of the time that counts. Warming up is the caller's.
    """
    generator = generator_for(device, seed)
    taken: list[list[float] | RuntimeError] = [[] for _ in runs]
    for repeat in range(repeats):
        tell(repeat)
        for place in range(len(runs)):
            turn = (repeat + place) % len(runs)
            so_far = taken[turn]
            if isinstance(so_far, RuntimeError):
                continue
            try:
                pixels = random_input(runs[turn], device, generator)
                so_far.append(seconds_of(runs[turn].forward, pixels))
            except RuntimeError as error:
                taken[turn] = error
    return taken


def on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the current one: its events are recorded on the current one's queue."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def generator_for(device: torch.device, seed: int = 0) -> torch.Generator:
    """Draws on the GPU itself where there is one: to copy a batch there takes longer than most
    forwards, and meanwhile its clock would fall."""
    home = device if device.type == "cuda" else torch.device("cpu")
    return torch.Generator(home).manual_seed(seed)


def random_input(run: Run, device: torch.device, generator: torch.Generator) -> Tensor:
    """An input as `run` takes it, drawn from a normal distribution."""
    drawn = torch.randn(run.shape, generator=generator, device=generator.device)
    return drawn.to(device, run.dtype)


def seconds_of(forward: Forward, pixels: Tensor) -> float:
    """What one forward takes: by CUDA events on a GPU, by a monotonic clock elsewhere."""
    with torch.inference_mode():
        if pixels.device.type == "cuda":
            return _cuda_seconds(forward, pixels)
        _wait(pixels.device)
        started = time.perf_counter()
        forward(pixels)
        _wait(pixels.device)
        return time.perf_counter() - started


def _cuda_seconds(forward: Forward, pixels: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(pixels.device)
    start.record()
    forward(pixels)
    end.record()
    torch.cuda.synchronize(pixels.device)
    return start.elapsed_time(end) / 1e3


def _wait(device: torch.device) -> None:
    """Until what was started on a device is done; the CPU does not start things."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, interpolated between neighbours."""
    return torch.tensor(values, dtype=torch.float64).quantile(share).item()


def peak_memory_bytes(forward: Forward, pixels: Tensor) -> int:
    """The most that a forward holds at once beyond the weights and its input.

    On a GPU what its allocator says; on the CPU the tensors that are alive between operations
    (what an operation needs inside is not seen there), which shapes alone tell: nothing is
    computed unless they do not, as where a clip decides how many of its tokens stay. Tables of
    indices that an eager model keeps count as well.
    """
    with torch.inference_mode():
        if pixels.device.type == "cuda":
            torch.cuda.synchronize(pixels.device)
            torch.cuda.reset_peak_memory_stats(pixels.device)
            before = torch.cuda.memory_allocated(pixels.device)
            forward(pixels)
            torch.cuda.synchronize(pixels.device)
            return torch.cuda.max_memory_allocated(pixels.device) - before
        try:
            with FakeTensorMode(allow_non_fake_inputs=True) as shapes:
                return _peak_alive(forward, shapes.from_tensor(pixels), shapes.from_tensor)
        except RuntimeError:
            # Torch has no name for all that shapes cannot tell; if this fails as well, it says why.
            return _peak_alive(forward, pixels)


def _peak_alive(
    forward: Forward, pixels: Tensor, stand_in: Callable[[Tensor], Tensor] = lambda known: known
) -> int:
    with _Alive(stand_in) as alive:
        forward(pixels)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Adds up the memory of tensors that operations made and that are still held.

    `stand_in`: what operations see in the place of a tensor that was there before.
    """

    def __init__(self, stand_in: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}
        self._stand_in = stand_in
        # As long as they live, their addresses are not given to others.
        self._there_before: list[Tensor] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):
            # What goes into an operation without having come out of one was there before.
            self._hold(self._seen(tensor).untyped_storage(), 0)
        found = function(*args, **(kwargs or {}))
        for tensor in _tensors(found):
            self._hold(tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))
        return found

    def _seen(self, tensor: Tensor) -> Tensor:
        seen = tensor if isinstance(tensor, FakeTensor) else self._stand_in(tensor)
        if seen is not tensor:
            self._there_before.append(seen)
        return seen

    def _hold(self, storage: torch.UntypedStorage, size: int) -> None:
        # As long as the reference is kept, the address is not given to another storage.
        if storage._cdata not in self._held:
            self._held[storage._cdata] = StorageWeakRef(storage), size


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
