"""Ward merging's kernels in Triton's interpreter: they choose as torch does. On a GPU see
`test_gpu`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captured_graphs import captured
from reducers.compiled_kernels import compile_kernels
from reducers.triton_ward_cases import CASES, Case, check
from tiny_videomae import clips, tiny_videomae
from vidprune import prune
from vidprune.layout import Layout, TokenGrid
from vidprune.macs import costs
from vidprune.reducers import backend as which
from vidprune.reducers.base import Signals
from vidprune.reducers.ward import CHANNELS, Ward, _signs, nearest_survivors, ward_survivors
from vidprune.reducers.ward_backend import select_by_triton

interpreted = pytest.mark.skipif(
    not which.INSTALLED or torch.cuda.is_available(),
    reason="needs triton, and no GPU: there the kernels themselves are tried (make test-gpu)",
)


@interpreted
@pytest.mark.parametrize("name", CASES)
def test_kernels_choose_as_the_specification_does(name: str) -> None:
    check(CASES[name], "cpu")


@interpreted
@settings(max_examples=25, deadline=None)
@given(
    entering=st.integers(2, 150),
    share=st.floats(0, 1),
    channels=st.integers(1, 70),
    rounds=st.integers(1, 4),
    sized=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape(
    entering: int, share: float, channels: int, rounds: int, sized: bool, seed: int
) -> None:
    kept = min(entering - 1, max(1, int(share * entering)))
    case = Case(
        entering=entering, kept=kept, clips=1, channels=channels, rounds=rounds, sized=sized
    )
    check(case, "cpu")


@interpreted
def test_tokens_are_projected_by_the_same_signs() -> None:
    from vidprune.reducers import triton_ward

    tokens = torch.eye(100)[None]
    wanted = _signs(100, tokens.device).float() / CHANNELS**0.5
    found = triton_ward.sketch(tokens)[0]
    torch.testing.assert_close(found, wanted - wanted.mean(0), rtol=0, atol=1e-7)


@interpreted
@pytest.mark.parametrize("count", [159, 121, 96])
def test_of_equals_the_first_counts(count: int) -> None:
    """Exactly: distances of small whole numbers are."""
    from vidprune.reducers import triton_ward

    generator = torch.Generator().manual_seed(count)
    # More than a program sees at once.
    places, sizes = torch.arange(160).expand(2, -1).contiguous(), torch.ones(2, 160)
    for state in (
        torch.ones(2, 160, 7),
        torch.randint(-2, 3, (2, 160, 2), generator=generator).float(),
    ):
        _, _, keep = triton_ward.one_round(state, sizes, places, count)
        wanted = ward_survivors(state, sizes, count, 1)
        assert torch.equal(keep, wanted)
        owner = triton_ward.owners(state, keep)
        assert torch.equal(owner, nearest_survivors(state, wanted))


@interpreted
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_whatever_a_clip_holds_every_place_is_taken_once(broken: float) -> None:
    tokens, sizes = Case(entering=80, kept=30).draw()
    alone = select_by_triton(tokens, sizes, 30, 3)
    tokens[0, 7] = broken
    keep, owner = select_by_triton(tokens, sizes, 30, 3)
    assert len(set(keep[0].tolist())) == 30
    assert set(keep[0].tolist()) <= set(range(80))
    assert set(owner[0].tolist()) <= set(range(30))
    assert torch.equal(owner[0].gather(0, keep[0]), torch.arange(30))
    # The other clip has nothing to do with it.
    assert torch.equal(keep[1], alone[0][1])
    assert torch.equal(owner[1], alone[1][1])


@interpreted
def test_a_clip_does_not_depend_on_its_neighbours() -> None:
    tokens, sizes = Case(entering=90, kept=31, clips=4).draw()
    assert sizes is not None
    order = torch.tensor([2, 0, 3, 1])
    found = select_by_triton(tokens, sizes, 31, 3)
    other = select_by_triton(tokens[order], sizes[order], 31, 3)
    alone = [select_by_triton(tokens[i : i + 1], sizes[i : i + 1], 31, 3) for i in range(4)]
    for part in range(2):
        assert torch.equal(found[part][order], other[part])
        assert torch.equal(found[part], torch.cat([each[part] for each in alone]))


@interpreted
def test_tokens_and_sizes_may_be_views() -> None:
    tokens, sizes = Case(entering=40, kept=15, channels=40).draw()
    assert sizes is not None
    wide = torch.zeros(2, 40, 80)
    wide[..., ::2] = tokens
    for view in (sizes.mT.contiguous().mT, sizes[:, :1].expand(-1, 40)):
        found = select_by_triton(wide[..., ::2], view, 15, 3)
        wanted = select_by_triton(tokens, view.contiguous(), 15, 3)
        assert all(map(torch.equal, found, wanted))


# In a model.


@interpreted
@pytest.mark.parametrize(
    "options",
    ["r=6", "r=9,where=before", "schedule=3/0/4", "r=8,rounds=1,proportional_attention=false"],
)
@torch.no_grad()
def test_a_model_keeps_the_same_tokens(options: str) -> None:
    model, pixels = tiny_videomae(), clips(2)
    outputs = [
        prune(model, f"ward:{options},backend={backend}")(pixels, return_trace=True)
        for backend in ("torch", "triton")
    ]
    assert all(map(torch.equal, outputs[0].trace.kept, outputs[1].trace.kept))
    torch.testing.assert_close(outputs[0].logits, outputs[1].logits, rtol=1e-5, atol=1e-5)


@interpreted
@torch.no_grad()
def test_a_compiled_model_calls_them() -> None:
    model = prune(tiny_videomae(), "ward:r=6,backend=triton")
    pixels = clips(1)
    logits, code = captured(model, pixels)
    assert torch.equal(logits, model(pixels).logits)
    assert code.count("vidprune.ward_select") == 3


@interpreted
def test_compilers_see_one_operation_that_tells_its_shape() -> None:
    tokens, sizes = Case(entering=12, kept=5).draw()
    torch.library.opcheck(select_by_triton, (tokens, sizes, 5, 3))
    torch.library.opcheck(select_by_triton, (tokens, None, 5, 3))


def test_costs_are_those_of_torch() -> None:
    config = tiny_videomae().config
    assert costs(config, "ward:r=6,backend=triton") == costs(config, "ward:r=6,backend=torch")


def test_without_a_gpu_or_triton_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = TokenGrid(frames=2, rows=2, columns=4)
    reducer = Ward(r=2, backend="triton")
    layout = Layout(grid=grid, origin=torch.arange(16).expand(1, -1))
    stage = reducer.plan(3, grid)[0]

    def refused(dtype: torch.dtype) -> str:
        with pytest.raises(ValueError, match="backend='triton' cannot select here") as error:
            reducer(torch.zeros(1, 16, 4, dtype=dtype), Signals(), layout, stage)
        return str(error.value)

    monkeypatch.setattr(which, "INSTALLED", True)
    monkeypatch.setattr(which, "_INTERPRETED", True)
    assert "tokens are in float64; choose auto" in refused(torch.float64)
    monkeypatch.setattr(which, "_INTERPRETED", False)
    assert "of the kind cpu, not cuda" in refused(torch.float32)
    monkeypatch.setattr(which, "INSTALLED", False)
    assert "triton is not installed" in refused(torch.float32)


COMPILE = """
from vidprune.reducers import triton_ward as module

tiles = {"ROWS": module._ROWS, "PART": module._PART}
compiled(module._signs, {"signs": "*fp32", "channels": "i32"},
         {"ROWS": module._ROWS, "WIDTH": 32, "START": module._START})
for dtype in ("*fp32", "*bf16", "*fp16"):
    compiled(
        module._projected,
        {"tokens": dtype, "signs": "*fp32", "state": "*fp32", "count": "i32", "channels": "i32",
         "scale": "fp32"},
        {"ROWS": module._ROWS, "CHUNK": module._CHUNK, "WIDTH": 32, "PRECISION": "tf32x3"},
    )
compiled(module._going, {"cost": "*fp32", "goes": "*i32", "sources": "i32", "merge": "i32"}, tiles)
for width in (16, 32):
    products = tiles | {"WIDTH": width, "PRECISION": "tf32x3"}
    given = {"state": "*fp32", "sizes": "*fp32"}
    for survivors, best in ((True, "*i64"), (False, "*i32")):
        compiled(
            module._partners,
            given | {"keep": "*i64", "cost": "*fp32", "best": best, "length": "i32",
                     "asking": "i32", "others": "i32", "width": "i32"},
            products | {"SURVIVORS": survivors},
        )
    compiled(
        module._joined,
        given | {"places": "*i64", "goes": "*i32", "best": "*i32", "new_state": "*fp32",
                 "new_sizes": "*fp32", "new_places": "*i64", "length": "i32", "kept": "i32",
                 "width": "i32"},
        products,
    )
"""


@pytest.mark.slow
@pytest.mark.skipif(not which.INSTALLED, reason="triton is not installed")
def test_kernels_compile_for_gpus_that_are_not_here() -> None:
    compile_kernels(COMPILE)
