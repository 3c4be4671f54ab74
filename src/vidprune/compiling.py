"""One graph for a whole forward, launches recorded, and whether a graph leaves this process."""

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

_CALLS_BEFORE_RECORDING = 3
_COMPILERS_ARE_TOLD_APART = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


def as_one_graph(
    forward: Callable[..., Any], *, replayed: bool = False, frozen: bool = False
) -> Callable[..., Any]:
    """A function compiled without breaks, once for each shape that it is given; with `replayed` on
    CUDA its launches are recorded once, and what it gives is overwritten by the next call. With
    `frozen` weights are constants, which a CPU's compiler lays out for its products beforehand: a
    second copy, which does not see what becomes of the weights.

    Compiled code is kept, counted and looked up by code object: a model of its own wants its own.
    """
    assert isinstance(forward, FunctionType), "as all that are defined"
    forward.__code__ = forward.__code__.replace()
    how = "reduce-overhead" if replayed else None
    compiled = torch.compile(forward, fullgraph=True, dynamic=False, mode=how)
    return _frozen(compiled) if frozen else compiled


def _frozen(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """The same with the compiler's switch on whenever it may be compiled. (As one of `options` it
    comes too late: by then weights have become inputs.)"""
    import torch._inductor.config as inductor

    def forward(*given: Tensor) -> Any:
        with inductor.patch(freezing=True):
            return compiled(*given)

    return forward


def recorded(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of tensors on CUDA whose launches are recorded once for each shape and replayed,
    so that the host has one thing to do; what it gives is overwritten by the next call. Every
    recording keeps the memory of a forward to itself."""
    recordings: dict[tuple[tuple[torch.Size, torch.dtype], ...], _Recording] = {}

    def replay(*given: Tensor) -> Tensor:
        kind = tuple((each.shape, each.dtype) for each in given)
        if kind not in recordings:
            recordings[kind] = _Recording(forward, given)
        return recordings[kind](given)

    return replay


class _Recording:
    """The launches of one call, and where they read and write."""

    def __init__(self, forward: Callable[..., Tensor], given: Sequence[Tensor]) -> None:
        self.given = [each.clone() for each in given]
        self.graph = torch.cuda.CUDAGraph()
        device = given[0].device
        beside = torch.cuda.Stream(device)
        beside.wait_stream(torch.cuda.current_stream(device))
        # On the tensors' own device, whichever is the current one: on another nothing is recorded,
        # and nothing is said. A recording that fails leaves its stream to whoever entered it.
        with torch.cuda.device(device), torch.cuda.stream(beside):
            # What is compiled, allocated or worked out at first is not to be part of the record.
            for _ in range(_CALLS_BEFORE_RECORDING):
                forward(*self.given)
            self.found = self._record(forward, beside)
        torch.cuda.current_stream(device).wait_stream(beside)

    def _record(self, forward: Callable[..., Tensor], stream: torch.cuda.Stream) -> Tensor:
        first: RuntimeError | None = None
        try:
            # Threads that have the GPU decode meanwhile are no part of it.
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                try:
                    return forward(*self.given)
                except RuntimeError as error:
                    # The recording's end complains of it in words of its own.
                    first = error
                    raise
        except RuntimeError as error:
            cause = first or error
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            raise RuntimeError(
                "launches cannot be recorded where something waits for the GPU, as methods do that "
                f"leave every clip another number of tokens; do not replay them ({cause})"
            ) from cause

    def __call__(self, given: Sequence[Tensor]) -> Tensor:
        for held, each in zip(self.given, given, strict=True):
            held.copy_(each)
        self.graph.replay()
        return self.found


def is_exporting() -> bool:
    """Whether what runs is being written down as a program that must run without vidprune.

    Not known of strict exports before torch 2.13.
    """
    # To torch.compile, torch before 2.13 says that whatever it traces is exported.
    told = _COMPILERS_ARE_TOLD_APART or not torch.compiler.is_dynamo_compiling()
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return traced or (told and torch.compiler.is_exporting())
