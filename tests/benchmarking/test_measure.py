"""Turns and their order, seconds by a clock of ours, memory by functions known by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vidprune.benchmarking import measure
from vidprune.benchmarking.measure import (
    Run,
    in_turn,
    peak_memory_bytes,
    quantile,
    random_input,
    seconds_of,
)

CPU = torch.device("cpu")
# As many float32 numbers as a KiB holds.
KIB = 256


class Clock:
    """Stands still until someone moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(measure.time, "perf_counter", found)
    return found


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor]]:
    """Who was timed with what; the n-th turn takes n seconds."""
    seen: list[tuple[str, Tensor]] = []

    def note(forward: Any, pixels: Tensor) -> float:
        seen.append((forward(), pixels))
        return float(len(seen))

    monkeypatch.setattr(measure, "seconds_of", note)
    return seen


def named(*names: str, shape: tuple[int, ...] = (2, 3)) -> list[Run]:
    return [Run(lambda name=name: name, shape) for name in names]  # type: ignore[misc]


# --- turns --------------------------------------------------------------------------------------


def test_every_run_has_its_turn_in_each_repeat_and_the_order_moves_on(turns: Any) -> None:
    in_turn(named("a", "b", "c"), repeats=4, device=CPU)
    assert "".join(name for name, _ in turns) == "abcbcacababc"


def test_seconds_are_booked_to_the_run_and_the_repeat_that_they_were_taken_in(turns: Any) -> None:
    found = in_turn(named("a", "b", "c"), repeats=3, device=CPU)
    assert found == [[1, 6, 8], [2, 4, 9], [3, 5, 7]]


def test_no_two_forwards_get_the_same_input(turns: Any) -> None:
    in_turn(named("a", "b"), repeats=3, device=CPU)
    inputs = [pixels for _, pixels in turns]
    assert len(inputs) == 6
    pairs = [(i, j) for i in range(6) for j in range(i)]
    assert not any(torch.equal(inputs[i], inputs[j]) for i, j in pairs)


def test_inputs_are_those_of_the_seed(turns: Any) -> None:
    for seed in (0, 0, 1):
        in_turn(named("a"), repeats=1, device=CPU, seed=seed)
    first, again, other = (pixels for _, pixels in turns)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_each_run_gets_inputs_of_its_shape_and_dtype(turns: Any) -> None:
    runs = [Run(lambda: "a", (2, 3)), Run(lambda: "b", (5,), torch.bfloat16)]  # type: ignore[misc]
    in_turn(runs, repeats=1, device=CPU)
    assert [(tuple(x.shape), x.dtype) for _, x in turns] == [
        ((2, 3), torch.float32),
        ((5,), torch.bfloat16),
    ]


def test_half_precision_gets_the_same_numbers_rounded() -> None:
    drawn = [
        random_input(Run(print, (4,), dtype), CPU, torch.Generator().manual_seed(3))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert torch.equal(drawn[0].bfloat16(), drawn[1])


def test_one_hears_of_every_repeat(turns: Any) -> None:
    heard: list[int] = []
    in_turn(named("a", "b"), repeats=3, device=CPU, tell=heard.append)
    assert heard == [0, 1, 2]


def test_a_run_that_fails_late_does_not_cost_the_others_their_turns(clock: Any) -> None:
    turns = iter(range(9))

    def failing(pixels: Tensor) -> None:
        if next(turns):
            raise RuntimeError("out of memory")

    def steady(pixels: Tensor) -> None:
        clock.now += 0.5

    found = in_turn([Run(failing, (1,)), Run(steady, (1,))], repeats=3, device=CPU)
    assert isinstance(found[0], RuntimeError)
    assert found[1] == [0.5] * 3
    assert next(turns) == 2, "it has no turn after it has failed"


def test_nothing_to_time_is_no_error() -> None:
    assert in_turn([], repeats=3, device=CPU) == []


# --- seconds ------------------------------------------------------------------------------------


def test_seconds_are_what_the_forward_takes_on_the_clock(clock: Clock) -> None:
    def forward(pixels: Tensor) -> None:
        assert torch.is_inference_mode_enabled()
        clock.now += 2.5

    assert seconds_of(forward, torch.zeros(1)) == 2.5


def test_making_the_input_does_not_count(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> Tensor:
        clock.now += 1000
        return torch.zeros(1)

    def forward(pixels: Tensor) -> None:
        clock.now += 0.25

    monkeypatch.setattr(measure, "random_input", slow)
    assert in_turn([Run(forward, (1,))], repeats=2, device=CPU) == [[0.25, 0.25]]


@given(
    st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.95, 1.0]),
)
def test_a_quantile_is_that_of_numpy(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(np.quantile(values, share))


# --- memory -------------------------------------------------------------------------------------


def chain_that_lets_go(x: Tensor) -> Tensor:
    y = x + 1
    z = y + 1
    del y
    return z + 1


def chain_that_holds_on(x: Tensor) -> Tensor:
    y = x + 1
    z = y + 1
    return y + z


def large_for_a_moment(x: Tensor) -> Tensor:
    # Seven KiB, and one beside it; in the end no more than two.
    return (x[None] + torch.zeros(7, 1)).sum(0) + 1


def views(x: Tensor) -> Tensor:
    y = x + 1
    parts = [y.view(2, -1), y[:10], y.reshape(2, -1).T, *y.chunk(4), y.expand(3, -1), y.detach()]
    home = y.untyped_storage()._cdata
    assert all(part.untyped_storage()._cdata == home for part in parts)
    return y


def in_place(x: Tensor) -> Tensor:
    y = x + 1
    return y.mul_(2).relu_()


def in_place_on_its_input(x: Tensor) -> Tensor:
    return x.mul_(1)


def several_at_once(x: Tensor) -> Tensor:
    # One KiB of float32, two of int64.
    values, _ = x.sort()
    return values


@pytest.mark.parametrize(
    ("function", "kib"),
    [
        (chain_that_lets_go, 2),
        (chain_that_holds_on, 3),
        (large_for_a_moment, 8),
        (views, 1),
        (in_place, 1),
        (in_place_on_its_input, 0),
        (several_at_once, 3),
        (lambda x: x, 0),
        (lambda x: x.view(2, -1), 0),
        (lambda x: [x + 1 for _ in range(5)], 5),
    ],
)
def test_memory_is_what_lives_at_once(function: Callable[[Tensor], Any], kib: int) -> None:
    assert peak_memory_bytes(function, torch.zeros(KIB)) == kib * 1024


def test_weights_and_constants_do_not_count() -> None:
    layer = nn.Linear(KIB, 2 * KIB)
    table = torch.ones(2 * KIB)

    def forward(x: Tensor) -> Tensor:
        flat = layer.weight.view(-1)
        return layer(x) + table + (x @ layer.weight.t()) + flat[: 2 * KIB] + table.view(2, -1)[0, 0]

    # The sum so far, the product, and what they add up to.
    assert peak_memory_bytes(forward, torch.zeros(1, KIB)) == 3 * 2 * 1024


def test_a_tensor_from_elsewhere_does_not_hide_one_that_gets_its_address() -> None:
    def forward(x: Tensor) -> list[Tensor]:
        kept = []
        for _ in range(20):
            foreign = torch.from_numpy(np.zeros(1))
            foreign.sum()
            del foreign
            kept.append(x + 1)
        return kept

    assert peak_memory_bytes(forward, torch.zeros(KIB)) == 20 * 1024


def test_a_second_look_is_like_the_first() -> None:
    found = {peak_memory_bytes(chain_that_holds_on, torch.zeros(KIB)) for _ in range(3)}
    assert found == {3 * 1024}


def test_memory_on_a_cpu_is_told_by_shapes_and_nothing_is_computed() -> None:
    # The product would take longer than a lifetime, and its result a petabyte.
    rows = torch.empty(2**24, 1).expand(-1, 2**24)

    def forward(x: Tensor) -> Tensor:
        return rows @ rows

    assert peak_memory_bytes(forward, torch.zeros(1)) == 4 * 2**48


def test_what_a_clip_decides_is_run_to_see_its_memory() -> None:
    def forward(x: Tensor) -> Tensor:
        return torch.zeros(int(x.sum()))

    assert peak_memory_bytes(forward, torch.full((4,), 64.0)) == 4 * 256
