"""STA's kernels in Triton's interpreter: they keep what torch keeps. On a GPU see `test_gpu`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captured_graphs import captured
from comparator import assert_same_selection
from reducers.compiled_kernels import compile_kernels
from reducers.test_sta import GOLDEN, golden_cases, options_of
from reducers.triton_cases import CASES, LARGE_CASES, RULES, Case, check
from tiny_videomae import clips, tiny_videomae
from vidprune import STA, prune
from vidprune.layout import Layout, TokenGrid
from vidprune.macs import costs
from vidprune.reducers import backend as which
from vidprune.reducers.base import Signals
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import describe, parse
from vidprune.reducers.sta_backend import select_by_triton, sta_takes_triton

SCORES = ("both", "temporal", "semantic")
interpreted = pytest.mark.skipif(
    not which.INSTALLED or torch.cuda.is_available(),
    reason="needs triton, and no GPU: there the kernels themselves are tried (make test-gpu)",
)


@interpreted
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_kernels_keep_what_the_specification_keeps(name: str, backward: bool, score: str) -> None:
    check(CASES[name], "cpu", backward=backward, score=score)


@interpreted
@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 5),
    size=st.integers(2, 70),
    gone=st.floats(0, 0.99),
    width=st.integers(1, 40),
    backward=st.booleans(),
)
def test_any_shape(groups: int, size: int, gone: float, width: int, backward: bool) -> None:
    drop = min(size - 1, max(1, int(gone * size)))
    case = Case(groups=groups, size=size, drop=drop, clips=1, channels=3, width=width)
    check(case, "cpu", backward=backward, score="both")


@interpreted
def test_they_keep_what_the_release_keeps(shared: Callable[[str], Any]) -> None:
    for case, tokens, keys, kept in golden_cases(shared(GOLDEN)):
        options = options_of(case)
        groups, drop, backward = options["groups"], options["drop"], options["backward"]
        found = select_by_triton(tokens, keys, groups, drop, backward, "both")
        assert_same_selection(found, tokens, keys, **options)
        assert (found == kept).double().mean() > 0.98, "all but near ties"


@interpreted
@pytest.mark.parametrize("rule", RULES)
def test_kernels_keep_to_the_rules(rule: str) -> None:
    RULES[rule]("cpu")


@interpreted
@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_CASES)
def test_large_groups(name: str) -> None:
    check(LARGE_CASES[name], "cpu", backward=True, score="both")


# In a model.


@interpreted
@pytest.mark.parametrize(
    "options",
    [
        "r=3",
        "r=3,order=BFB",
        "r=4,first_group=grid,seed=2",
        "r=1,first_group=random,order=BBB,schedule=increasing",
        "r=3,score=semantic",
        "r=3,similarity=output,score=temporal",
        "schedule=2/0/5",
        "r=3,fold=true",
    ],
)
@torch.no_grad()
def test_a_model_keeps_the_same_tokens(options: str) -> None:
    model = tiny_videomae()
    pixels, keys = clips(2), torch.arange(2)
    traces = [
        prune(model, f"sta:{options},backend={backend}")(
            pixels, clip_keys=keys, return_trace=True
        ).trace
        for backend in ("torch", "triton")
    ]
    assert all(map(torch.equal, traces[0].kept, traces[1].kept))


@interpreted
@torch.no_grad()
def test_a_compiled_model_calls_them() -> None:
    model = prune(tiny_videomae(), "sta:r=3,backend=triton")
    pixels = clips(1)
    logits, code = captured(model, pixels)
    assert torch.equal(logits, model(pixels).logits)
    assert code.count("sta_select") == 3


@interpreted
@torch.no_grad()
def test_under_autocast_they_select_in_float32() -> None:
    model = prune(tiny_videomae(), "sta:r=3,backend=triton")
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(clips(2), return_trace=True).trace
    assert [len(set(row.tolist())) for row in trace.kept[0]] == [trace.kept[0].shape[1]] * 2


@pytest.mark.parametrize("interpreted", [False, True])
def test_costs_are_those_of_torch(interpreted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted on shapes alone, whatever device there is."""
    monkeypatch.setattr(which, "_INTERPRETED", interpreted)
    config = tiny_videomae().config
    assert costs(config, "sta:r=3,backend=triton") == costs(config, "sta:r=3,backend=torch")


@interpreted
def test_keys_of_other_tokens_are_refused() -> None:
    reducer = STA(r=1, backend="triton")
    layout = Layout(
        grid=TokenGrid(frames=2, rows=2, columns=4), origin=torch.arange(16).expand(1, -1)
    )
    with pytest.raises(ValueError, match="do not match tokens"):
        reducer.choose(torch.zeros(1, 16, 4), Signals(keys=torch.zeros(1, 8, 4)), layout, stage())


@interpreted
def test_compilers_see_one_operation_that_tells_its_shape() -> None:
    tokens, keys = Case(groups=2, size=6, drop=2).draw()
    torch.library.opcheck(select_by_triton, (tokens, keys, 2, 2, False, "both"))


# Which code selects.


def stage(size: int = 8, **changes: Any) -> Stage:
    return Stage(index=0, block=0, groups=2, entering=2 * size, drop=1, **changes)


def test_auto_leaves_a_cpu_to_torch() -> None:
    tokens, keys = torch.zeros(1, 16, 4), torch.zeros(1, 16, 4)
    assert not sta_takes_triton("auto", tokens, keys, stage())
    assert not sta_takes_triton("torch", tokens, keys, stage())


@pytest.mark.parametrize(
    ("tokens", "wide", "where", "says"),
    [
        (torch.zeros(1, 16, 4, dtype=torch.float64), 4, stage(), "in float64"),
        (torch.zeros(1, 16, 4), 300, stage(), "300 channels, more than 128"),
        (torch.zeros(1, 1, 4).expand(999, 2048, 4), 4, stage(1024), "it would take 3.9 GiB"),
        (torch.zeros(1, 5000, 4), 4, stage(2500), "a group holds 2500 tokens, more than 2048"),
    ],
)
def test_what_kernels_cannot_do_is_said(
    tokens: Tensor, wide: int, where: Stage, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(which, "INSTALLED", True)
    monkeypatch.setattr(which, "_INTERPRETED", True)
    keys = torch.zeros(*tokens.shape[:2], wide)
    with pytest.raises(ValueError, match=rf"backend='triton' cannot select here: .*{says}"):
        sta_takes_triton("triton", tokens, keys, where)
    assert not sta_takes_triton("auto", tokens, keys, where)


def test_without_a_gpu_or_triton_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.zeros(1, 16, 4)
    monkeypatch.setattr(which, "INSTALLED", True)
    monkeypatch.setattr(which, "_INTERPRETED", False)
    with pytest.raises(ValueError, match="of the kind cpu, not cuda; choose auto"):
        sta_takes_triton("triton", tokens, tokens, stage())
    monkeypatch.setattr(which, "INSTALLED", False)
    with pytest.raises(ValueError, match="triton is not installed"):
        sta_takes_triton("triton", tokens, tokens, stage())


def test_quotas_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(which, "INSTALLED", True)
    monkeypatch.setattr(which, "_INTERPRETED", True)
    tokens = torch.zeros(1, 16, 4)
    quotas: Any = object()
    with pytest.raises(ValueError, match="quotas of their cells"):
        sta_takes_triton("triton", tokens, tokens, stage(quotas=quotas))


def test_a_backend_is_an_option_like_others() -> None:
    assert parse("sta:r=3,backend=torch") == STA(r=3, backend="torch")
    assert describe(STA(r=3)) == "sta:r=3"
    with pytest.raises(ValueError, match="backend='cuda' is not known; choose one of auto, torch"):
        STA(r=3, backend="cuda")  # type: ignore[arg-type]


COMPILE = """
from vidprune.reducers import triton_sta as module

sizes = {"size": "i32", "groups": "i32"}
for dtype, bytes_each in (("*fp32", 4), ("*bf16", 2), ("*fp16", 2)):
    compiled(
        module._activations,
        {"tokens": dtype, "activation": "*fp32", "count": "i32", "channels": "i32"},
        {"ROWS": module._ACTIVATION_ROWS, "CHANNELS": 512},
    )
    for width in (16, 64, 128):
        compiled(
            module._transitions,
            {"keys": dtype, "best": "*fp32", "shares": "*fp32", "totals": "*fp32",
             "width": "i32"} | sizes,
            {"BACKWARD": True, "ROWS": module._ROWS[bytes_each], "WIDTH": width,
             "PRECISION": "tf32x3"},
        )
for score in ("both", "semantic"):
    for whole in (256, 2048):
        part = min(module._MOST_OTHERS, module._MOST_SCORES // whole)
        compiled(
            module._scan,
            {"activation": "*fp32", "best": "*fp32", "shares": "*fp32", "totals": "*fp32",
             "kept": "*i64", "weights": "*fp32", "order": "*i32", "stay": "i32"} | sizes,
            {"BACKWARD": False, "SCORE": score, "SIZE": whole, "PART": part},
            num_warps=module._WARPS,
        )
"""


@pytest.mark.slow
@pytest.mark.skipif(not which.INSTALLED, reason="triton is not installed")
def test_kernels_compile_for_gpus_that_are_not_here() -> None:
    compile_kernels(COMPILE)


def test_planning_asks_for_no_device() -> None:
    stages = STA(r=64, backend="triton").plan(12, TokenGrid(frames=8, rows=14, columns=14))
    assert [each.kept for each in stages] == [1056, 800, 672]
