"""Runs against each other in turn: what each takes, and against the best dense one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from transformers import PreTrainedModel

from vidprune.backbones.base import HEAD
from vidprune.backbones.registry import adapt
from vidprune.benchmarking.account import account
from vidprune.benchmarking.compiled import REPLAYED, forward_in
from vidprune.benchmarking.measure import (
    Run,
    generator_for,
    in_turn,
    on,
    peak_memory_bytes,
    quantile,
    random_input,
)
from vidprune.benchmarking.report import Speed
from vidprune.macs import Costs, costs
from vidprune.pruned import Pruned

_WARM_UPS = 3
_LEAST_ACCOUNTS, _MOST_ACCOUNTS = 3, 5


class Candidate:
    """A pruned model (`prune(model, None)` for a dense one) in a mode and a batch size.

    `reason` says why it cannot be run, once it has been found that it cannot.
    """

    def __init__(
        self, model: PreTrainedModel, mode: str, batch_size: int, device: torch.device
    ) -> None:
        assert isinstance(model, Pruned), "prune(model, None) makes a dense one"
        self.model, self.mode, self.device = model, mode, device
        self.costs: Costs = costs(model)
        self.clip_keys = torch.arange(batch_size, device=device)
        self.run = Run(
            forward_in(model, mode, self.clip_keys),
            (batch_size, *adapt(model).clip_shape),
            model.dtype,
        )
        self.peak_memory_bytes: int | None = None
        self.accounts: list[dict[str, float]] = []
        self.reason: str | None = None

    def warm_up(self) -> None:
        """Compile, allocate, and see what peak memory is, which needs no timing."""
        pixels = random_input(self.run, self.device, generator_for(self.device))
        with self.refusing():
            for _ in range(_WARM_UPS if self._needs_runs else 0):
                self.run.forward(pixels)
            # What compiled code does on a CPU cannot be seen from outside, nor what a recording
            # holds on to.
            seen = self.device.type == "cuda" and self.mode not in REPLAYED
            if self.mode == "eager" or seen:
                self.peak_memory_bytes = peak_memory_bytes(self.run.forward, pixels)

    def look_inside(self, seed: int) -> None:
        """One more account of where an eager forward's time goes; see `account` on devices."""
        if self.mode != "eager" or self.device.type not in ("cpu", "cuda"):
            return
        pixels = random_input(self.run, self.device, generator_for(self.device, seed))
        with self.refusing():
            self.accounts.append(account(self.model, pixels, clip_keys=self.clip_keys))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """What is out of memory, or what a compiler does not take, becomes a row that says so,
        and the rest goes on."""
        try:
            yield
        except RuntimeError as error:
            self.refuse(error)

    def refuse(self, error: RuntimeError) -> None:
        """Note why it cannot be run."""
        self.reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"

    @property
    def _needs_runs(self) -> bool:
        """Whether looking inside does not warm up enough: compilers, and allocators of GPUs."""
        return self.mode != "eager" or self.device.type != "cpu"


def contest(candidates: Sequence[Candidate], *, dense: int, repeats: int) -> list[Speed | None]:
    """Each candidate's speed, None for those that cannot be run.

    The first `dense` candidates are the dense model in its modes; the fastest of them is what
    speed-ups are over, repeat by repeat. Accounts are taken in turn as well, before the timing.
    """
    seconds = _taken(candidates, repeats)
    known = [candidate for candidate in candidates[:dense] if candidate in seconds]
    best = min(known, key=lambda candidate: median(seconds[candidate]), default=None)
    eager = next((candidate for candidate in known if candidate.mode == "eager"), None)
    return [
        _speed(
            candidate,
            seconds[candidate],
            candidates[0].costs,
            best=None if best is None else seconds[best],
            bound=None if eager is None else _bound(candidate, eager, seconds[eager]),
        )
        if candidate in seconds
        else None
        for candidate in candidates
    ]


def _taken(candidates: Sequence[Candidate], repeats: int) -> dict[Candidate, list[float]]:
    """Seconds of every repeat of each candidate that could be run to the end."""
    device = candidates[0].device
    with torch.inference_mode(), on(device):
        for candidate in candidates:
            candidate.warm_up()
        for look in range(min(max(_LEAST_ACCOUNTS, repeats // 2), _MOST_ACCOUNTS)):
            for place in range(len(candidates)):
                candidate = candidates[(look + place) % len(candidates)]
                if candidate.reason is None:
                    candidate.look_inside(seed=look)
        able = [candidate for candidate in candidates if candidate.reason is None]
        taken = in_turn([candidate.run for candidate in able], repeats=repeats, device=device)
    for candidate, seconds in zip(able, taken, strict=True):
        if isinstance(seconds, RuntimeError):
            candidate.refuse(seconds)
    return {
        candidate: seconds
        for candidate, seconds in zip(able, taken, strict=True)
        if not isinstance(seconds, RuntimeError)
    }


def _speed(
    candidate: Candidate,
    seconds: Sequence[float],
    dense: Costs,
    *,
    best: Sequence[float] | None,
    bound: float | None,
) -> Speed:
    middle = median(seconds)
    ratios = None if best is None else [b / own for b, own in zip(best, seconds, strict=True)]
    gain = dense.gmacs_per_view / candidate.costs.gmacs_per_view
    shares = _shares(candidate)
    peak = candidate.peak_memory_bytes
    return Speed(
        clips_per_second=candidate.run.shape[0] / middle,
        latency_p50_ms=1e3 * middle,
        latency_p95_ms=1e3 * quantile(seconds, 0.95),
        latencies_ms=tuple(round(1e3 * second, 3) for second in seconds),
        spread=(quantile(seconds, 0.75) - quantile(seconds, 0.25)) / middle,
        peak_memory_mib=None if peak is None else peak / 2**20,
        speed_up=None if ratios is None else median(ratios),
        speed_up_low=None if ratios is None else quantile(ratios, 0.25),
        speed_up_high=None if ratios is None else quantile(ratios, 0.75),
        efficiency=None if ratios is None else median(ratios) / gain,
        account_ms=None if shares is None else {k: 1e3 * middle * s for k, s in shares.items()},
        selection_share=None if shares is None else shares["selection"],
        bound_ms=None if bound is None else 1e3 * bound,
    )


def _shares(candidate: Candidate) -> dict[str, float] | None:
    """The part that each kind of operation has in an eager forward, the median over accounts."""
    if not candidate.accounts:
        return None
    kinds = candidate.accounts[0]
    spent = {kind: median(account[kind] for account in candidate.accounts) for kind in kinds}
    return {kind: seconds / sum(spent.values()) for kind, seconds in spent.items()}


def _bound(candidate: Candidate, dense: Candidate, seconds: Sequence[float]) -> float | None:
    """What the candidate would take if only arithmetic counted, from the eager dense times.

    None for clips of another shape, another model, compiled runs, and where there is no account.
    """
    # Clips of another shape have another model as well.
    if candidate.mode != "eager" or candidate.model.dense is not dense.model.dense:
        return None
    if (shares := _shares(dense)) is None:
        return None
    return median(seconds) * sum(shrunk(shares, dense.costs, candidate.costs).values())


def shrunk(spent: Mapping[str, float], whole: Costs, left: Costs) -> dict[str, float]:
    """What of a dense model's account is left when each kind shrinks by its arithmetic: attention
    by its own products, all else in the blocks by its linear layers, the head by its own (one that
    pools by attention sees every token), and the embedding not at all.
    """
    linear = left.linear_in_blocks / whole.linear_in_blocks
    factors = {"embedding": 1.0, "attention": left.attention / whole.attention}
    if whole.modules[HEAD]:
        factors["head"] = left.modules[HEAD] / whole.modules[HEAD]
    return {kind: seconds * factors.get(kind, linear) for kind, seconds in spent.items()}
