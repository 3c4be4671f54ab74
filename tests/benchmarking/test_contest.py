"""Speeds from seconds that we made up: what is best, what is gained, what bounds it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tiny_videomae import tiny_videomae
from vidprune.backbones.architectures import architecture
from vidprune.benchmarking import contest as module
from vidprune.benchmarking.contest import Candidate, contest, shrunk
from vidprune.benchmarking.report import Speed
from vidprune.macs import costs
from vidprune.pruned import prune

CPU = torch.device("cpu")
# Of the tiny model: tokens in each of the six blocks, and what they cost by hand.
DENSE, PRUNED = (128,) * 6, (128, 104, 104, 92, 92, 86)
SHARES = {
    "embedding": 0.1,
    "linear": 0.4,
    "attention": 0.2,
    "selection": 0.0,
    "gathers": 0.0,
    "rest": 0.3,
}


def linear(lengths: Sequence[int], width: int = 24, hidden: int = 48) -> int:
    return sum(4 * n * width**2 + 2 * n * width * hidden for n in lengths)


def attention(lengths: Sequence[int], width: int = 24) -> int:
    return sum(2 * n**2 * width for n in lengths)


@pytest.fixture(autouse=True)
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Accounts and memory are made up; who is looked at, and run to warm up, is noted."""
    seen: list[str] = []

    def no_forward(model: Any, mode: str, keys: Tensor) -> Callable[[Tensor], None]:
        return lambda pixels: seen.append(mode)

    def shares(model: Any, pixels: Tensor, *, clip_keys: Tensor) -> dict[str, float]:
        seen.append("account")
        return {kind: 7 * share for kind, share in SHARES.items()}

    monkeypatch.setattr(module, "forward_in", no_forward)
    monkeypatch.setattr(module, "account", shares)
    monkeypatch.setattr(module, "peak_memory_bytes", lambda forward, pixels: 3 * 2**20)
    return seen


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_videomae()


def held(
    monkeypatch: pytest.MonkeyPatch,
    candidates: Sequence[Candidate],
    seconds: Sequence[Sequence[float]],
    dense: int = 1,
) -> list[Speed | None]:
    """A contest in which the n-th candidate that can be run takes the n-th seconds."""

    def made_up(runs: Sequence[Any], *, repeats: int, device: torch.device) -> Any:
        assert [run.forward for run in runs] == [
            candidate.run.forward for candidate in candidates if candidate.reason is None
        ]
        assert repeats == len(seconds[0])
        return [list(each) for each in seconds]

    monkeypatch.setattr(module, "in_turn", made_up)
    return contest(candidates, dense=dense, repeats=len(seconds[0]))


def candidate(
    model: PreTrainedModel, reducer: str | None = None, mode: str = "eager", batch: int = 2
) -> Candidate:
    return Candidate(prune(model, reducer), mode, batch, CPU)


def test_every_figure_of_a_speed_by_hand(monkeypatch: Any, model: Any) -> None:
    dense, pruned = [4.0, 8.0, 6.0, 5.0], [2.0, 2.0, 4.0, 2.5]
    runs = [candidate(model), candidate(model, "random:r=3")]
    _, found = held(monkeypatch, runs, [dense, pruned])
    assert found is not None
    ratios = np.array(dense) / np.array(pruned)
    assert found.latencies_ms == (2000, 2000, 4000, 2500)
    assert found.latency_p50_ms == pytest.approx(2250)
    assert found.latency_p95_ms == pytest.approx(1e3 * np.quantile(pruned, 0.95))
    assert found.clips_per_second == pytest.approx(2 / 2.25)
    assert found.spread == pytest.approx((np.quantile(pruned, 0.75) - 2) / 2.25)
    # The median of the ratios, which is not the ratio of the medians.
    assert found.speed_up == pytest.approx(2.0) != pytest.approx(5.5 / 2.25)
    assert found.speed_up_low == pytest.approx(np.quantile(ratios, 0.25))
    assert found.speed_up_high == pytest.approx(np.quantile(ratios, 0.75))
    arithmetic = runs[0].costs.gmacs_per_view / runs[1].costs.gmacs_per_view
    assert found.efficiency == pytest.approx(2.0 / arithmetic)
    assert found.peak_memory_mib == 3
    assert found.selection_share == 0
    assert found.account_ms is not None
    assert found.account_ms == pytest.approx({k: 2250 * share for k, share in SHARES.items()})


def test_the_bound_shrinks_attention_and_all_else_by_their_own_arithmetic(
    monkeypatch: Any, model: Any
) -> None:
    runs = [candidate(model), candidate(model, "random:r=3")]
    dense, found = held(monkeypatch, runs, [[3.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    less = linear(PRUNED) / linear(DENSE)
    square = attention(PRUNED) / attention(DENSE)
    assert square < less**1.5, "attention shrinks faster"
    assert found is not None
    assert dense is not None
    wanted = 2000 * (0.1 + (0.4 + 0.3) * less + 0.2 * square)
    assert found.bound_ms == pytest.approx(wanted)
    assert found.over_bound == pytest.approx(1000 / wanted)
    assert (dense.bound_ms, dense.over_bound) == (pytest.approx(2000), pytest.approx(1))


def test_a_head_that_sees_tokens_shrinks_with_them_and_a_linear_one_does_not() -> None:
    left_of_head = {}
    for name in ("vjepa2_vitl_fpc16_256", "vit_small_patch16_224"):
        config = architecture(name)
        whole, left = costs(config), costs(config, "random:r=64")
        left_of_head[name] = shrunk({"head": 1.0, "embedding": 1.0}, whole, left)["head"]
    assert 0 < left_of_head["vjepa2_vitl_fpc16_256"] < 0.7
    assert left_of_head["vit_small_patch16_224"] == 1


def test_where_no_account_is_taken_there_is_a_speed_up_and_no_bound(
    monkeypatch: Any, model: Any
) -> None:
    monkeypatch.setattr(Candidate, "look_inside", lambda self, seed: None)
    runs = [candidate(model), candidate(model, "random:r=3")]
    for found in held(monkeypatch, runs, [[4.0] * 3, [2.0] * 3]):
        assert found is not None
        assert found.speed_up in (1, 2)
        assert (found.account_ms, found.selection_share, found.bound_ms) == (None, None, None)


def test_shares_are_those_of_the_middle_account(monkeypatch: Any, model: Any) -> None:
    drawn = iter([{**SHARES, "rest": rest} for rest in (0.3, 500.0, 0.3, 0.3, 0.3)] * 2)
    monkeypatch.setattr(module, "account", lambda *_, **__: next(drawn))
    runs = [candidate(model), candidate(model, "random:r=3")]
    dense, _ = held(monkeypatch, runs, [[2.0] * 25, [1.0] * 25])
    assert dense is not None
    assert dense.account_ms == pytest.approx({k: 2000 * share for k, share in SHARES.items()})


@pytest.mark.parametrize(("eager", "graph"), [(4.0, 2.0), (2.0, 4.0)])
def test_speed_ups_are_over_the_best_mode_of_the_dense_model(
    monkeypatch: Any, model: Any, eager: float, graph: float
) -> None:
    runs = [candidate(model, mode=mode) for mode in ("eager", "graph")]
    runs.append(candidate(model, "random:r=3"))
    found = held(monkeypatch, runs, [[eager] * 3, [graph] * 3, [1.0] * 3], dense=2)
    assert [speed.speed_up for speed in found if speed] == [2 / eager, 2 / graph, 2]
    # What arithmetic leaves is judged in the mode that can be looked into.
    assert [speed.bound_ms is None for speed in found if speed] == [False, True, False]
    assert found[0] is not None
    assert found[0].bound_ms == pytest.approx(1000 * eager)


def test_a_fast_rival_is_not_taken_for_dense(monkeypatch: Any, model: Any) -> None:
    runs = [candidate(model), candidate(model, "random:r=3"), candidate(model, "sta:r=3")]
    found = held(monkeypatch, runs, [[4.0] * 3, [1.0] * 3, [2.0] * 3])
    assert [speed.speed_up for speed in found if speed] == [1, 4, 2]


def test_other_models_and_other_clips_have_a_speed_up_and_no_bound(
    monkeypatch: Any, model: Any
) -> None:
    runs = [
        candidate(model),
        candidate(tiny_videomae(num_frames=8)),
        candidate(tiny_videomae(num_hidden_layers=3)),
        candidate(model, "random:r=3", mode="blocks"),
    ]
    _, *found = held(monkeypatch, runs, [[4.0] * 3, [2.0] * 3, [1.0] * 3, [8.0] * 3])
    assert [speed.speed_up for speed in found if speed] == [2, 4, 0.5]
    assert all(speed.bound_ms is None for speed in found if speed)


# --- what cannot be run -------------------------------------------------------------------------


def break_down(run: Candidate, error: Exception) -> Candidate:
    def fail(pixels: Tensor) -> None:
        raise error

    object.__setattr__(run.run, "forward", fail)
    return run


def looking_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is looked at by running the forward, as in truth."""
    monkeypatch.setattr(module, "peak_memory_bytes", lambda forward, pixels: forward(pixels) or 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no room\nand a long story"), "RuntimeError: no room"),
        (torch.OutOfMemoryError("CUDA out of memory."), "OutOfMemoryError: CUDA out of memory."),
        (NotImplementedError(), "NotImplementedError: "),
    ],
)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_what_cannot_be_run_says_why_and_the_rest_goes_on(
    monkeypatch: Any, model: Any, error: Exception, reason: str, mode: str
) -> None:
    looking_runs(monkeypatch)
    runs = [candidate(model), candidate(model, "sta:r=3", mode), candidate(model, "random:r=3")]
    break_down(runs[1], error)
    found = held(monkeypatch, runs, [[4.0] * 3, [2.0] * 3])
    assert found[1] is None
    assert [run.reason for run in runs] == [None, reason, None]
    assert found[2] is not None
    assert found[2].speed_up == 2


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: Any, model: Any) -> None:
    looking_runs(monkeypatch)
    with pytest.raises(TypeError, match="ours"):
        held(monkeypatch, [break_down(candidate(model), TypeError("ours"))], [[1.0]])


def test_without_a_dense_run_there_is_nothing_to_be_faster_than(
    monkeypatch: Any, model: Any
) -> None:
    looking_runs(monkeypatch)
    runs = [break_down(candidate(model), RuntimeError("no")), candidate(model, "random:r=3")]
    dense, found = held(monkeypatch, runs, [[2.0] * 3])
    assert dense is None
    assert found is not None
    assert found.latency_p50_ms == 2000
    assert (found.speed_up, found.speed_up_low, found.speed_up_high) == (None, None, None)
    assert (found.efficiency, found.bound_ms, found.over_bound) == (None, None, None)
    assert not found.swallowed


def test_a_run_that_fails_in_its_turn_is_a_row_that_says_so(monkeypatch: Any, model: Any) -> None:
    runs = [candidate(model), candidate(model, "random:r=3")]
    error = RuntimeError("no memory is left\nat all")
    monkeypatch.setattr(module, "in_turn", lambda *_, **__: [[4.0] * 3, error])
    dense, found = contest(runs, dense=1, repeats=3)
    assert dense is not None
    assert found is None
    assert runs[1].reason == "RuntimeError: no memory is left"


def test_accounts_are_taken_in_turn(monkeypatch: Any, model: Any) -> None:
    seen: list[str] = []
    runs = [candidate(model, f"random:r={r}") for r in (1, 2, 3)]
    for name, run in zip("abc", runs, strict=True):
        monkeypatch.setattr(run, "look_inside", lambda seed, name=name: seen.append(name))
    monkeypatch.setattr(module, "in_turn", lambda *_, **__: [RuntimeError("enough")] * 3)
    contest(runs, dense=0, repeats=3)
    assert "".join(seen) == "abcbcacab"


def test_one_mode_of_dense_that_fails_leaves_the_other(monkeypatch: Any, model: Any) -> None:
    looking_runs(monkeypatch)
    runs = [break_down(candidate(model), RuntimeError("no")), candidate(model, mode="graph")]
    runs.append(candidate(model, "random:r=3"))
    _, _, found = held(monkeypatch, runs, [[4.0] * 3, [2.0] * 3], dense=2)
    assert found is not None
    assert (found.speed_up, found.bound_ms) == (2, None)


# --- what is looked at --------------------------------------------------------------------------


def test_compiled_code_is_warmed_up_and_not_looked_into(
    monkeypatch: Any, model: Any, looks: list[str]
) -> None:
    (found,) = held(monkeypatch, [candidate(model, mode="graph")], [[1.0] * 3])
    assert looks.count("graph") >= 3
    assert "account" not in looks
    assert found is not None
    assert (found.peak_memory_mib, found.account_ms, found.selection_share) == (None, None, None)


@pytest.mark.parametrize(
    ("mode", "seen"),
    [("eager", 3), ("blocks", 3), ("graph", 3), ("blocks-replayed", None), ("cuda-graph", None)],
)
def test_what_a_recording_holds_on_to_is_not_taken_for_nothing(
    monkeypatch: Any, model: Any, mode: str, seen: int | None
) -> None:
    """Its memory was reserved when it was recorded, and a replay reserves none."""
    runs = [candidate(model, mode=mode)]
    monkeypatch.setattr(module, "random_input", lambda *_: torch.zeros(1))
    monkeypatch.setattr(module, "generator_for", lambda *_: None)
    monkeypatch.setattr(runs[0], "device", torch.device("cuda"))
    runs[0].warm_up()
    assert runs[0].peak_memory_bytes == (seen and seen * 2**20)


@pytest.mark.parametrize(("repeats", "accounts"), [(2, 3), (3, 3), (8, 4), (25, 5)])
def test_accounts_are_several_and_more_in_long_contests(
    monkeypatch: Any, model: Any, looks: list[str], repeats: int, accounts: int
) -> None:
    held(monkeypatch, [candidate(model)], [[1.0] * repeats])
    assert looks.count("account") == accounts


def test_a_candidate_takes_clips_as_its_model_does(model: Any) -> None:
    run = Candidate(prune(model, "sta:r=3").bfloat16(), "eager", 3, CPU).run
    model.float()
    assert (run.shape, run.dtype) == ((3, 16, 3, 64, 64), torch.bfloat16)


def test_a_bare_model_is_a_mistake_of_ours(model: Any) -> None:
    with pytest.raises(AssertionError, match="prune"):
        Candidate(model, "eager", 1, CPU)
