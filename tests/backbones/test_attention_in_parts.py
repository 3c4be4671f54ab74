"""Attention in parts is attention: against float64, and wherever it must not differ from sdpa."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from captured_graphs import captured
from matrix import FAMILIES
from tiny_models import tiny
from tiny_videomae import clips, tiny_videomae
from vidprune import load, prune
from vidprune.backbones import attention_in_parts as module
from vidprune.backbones import parts
from vidprune.backbones.attention_in_parts import (
    IN_PARTS,
    attend,
    attend_in_parts,
    attention_of,
    set_attention,
)
from vidprune.backbones.registry import adapt

SCALE = 0.3
REAL = module._BFLOAT16
# Whose modules ask transformers for their attention, and take sdpa where nothing is said.
ASKING = {"videomae", "vivit", "vjepa2"}


@pytest.fixture(autouse=True)
def a_processor_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BFLOAT16", True)


def heads(clips: int = 2, heads: int = 3, tokens: int = 37, width: int = 8) -> list[Tensor]:
    """Queries, keys and values as layers give them: heads are strided views."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, clips, tokens, heads, width, generator=generator).bfloat16()
    return [each.transpose(1, 2) for each in drawn]


def masks() -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(2, 3, 37, 37, generator=generator).bfloat16()
    keys = bias[:, :1, :1].clone()
    keys[..., 5] = -torch.inf
    return {"none": None, "keys": keys, "pairs": bias[:, :1], "heads": bias}


def exact(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """By the formula, in float64."""
    query, key, value = query.double(), key.double(), value.double()
    logits = SCALE * torch.einsum("bhnd,bhmd->bhnm", query, key)
    weights = (logits if mask is None else logits + mask.double()).exp()
    return torch.einsum("bhnm,bhmd->bnhd", weights / weights.sum(-1, keepdim=True), value)


@pytest.mark.parametrize("mask", ["none", "keys", "pairs", "heads"])
@pytest.mark.parametrize("megabyte", [2**20, 37 * 37 * 2 * 2, 37 * 2 * 10])
def test_it_is_the_formula_in_any_parts(
    mask: str, megabyte: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All heads at once, two heads at a time, and ten rows of one."""
    monkeypatch.setattr(parts, "_BYTES", megabyte)
    query, key, value = heads()
    found = attend_in_parts(query, key, value, masks()[mask], SCALE)
    assert found.shape == (2, 37, 3, 8)
    wanted = exact(query, key, value, masks()[mask])
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0.02)


def test_it_is_no_further_from_the_formula_than_eager_attention() -> None:
    query, key, value = heads(tokens=200, width=32)
    found = attend_in_parts(query, key, value, None, SCALE).transpose(1, 2)
    weights = (SCALE * query @ key.mT).softmax(-1, dtype=torch.float32).bfloat16()
    wanted = exact(query, key, value, None).transpose(1, 2)
    off, eager = ((each.double() - wanted).square().mean() for each in (found, weights @ value))
    assert off < 1.2 * eager


def test_a_clip_s_attention_does_not_depend_on_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "_BYTES", 37 * 37 * 2 * 2)
    query, key, value = heads(clips=5)
    order = torch.tensor([3, 0, 4, 2, 1])
    found = attend_in_parts(query[order], key[order], value[order], None, SCALE)
    assert torch.equal(found, attend_in_parts(query, key, value, None, SCALE)[order])


def test_compilers_see_one_operation_that_tells_its_shape() -> None:
    query, key, value = heads()
    torch.library.opcheck(attend_in_parts, (query, key, value, masks()["keys"], SCALE))


def changed(**changes: Any) -> dict[str, Any]:
    query, key, value = heads()
    return {"query": query, "key": key, "value": value, "mask": None, "dropout": 0.0} | changes


@pytest.mark.parametrize(
    "what",
    [
        changed(**dict(zip(("query", "key", "value"), map(Tensor.float, heads()), strict=True))),
        changed(query=heads()[0].requires_grad_()),
        changed(key=heads()[1].requires_grad_()),
        changed(value=heads()[2].requires_grad_()),
        changed(mask=torch.zeros(37, 37, dtype=torch.bfloat16, requires_grad=True)),
        changed(mask=torch.ones(37, 37, dtype=torch.bool).tril()),
    ],
    ids=[
        "float32",
        *(f"a {name}'s gradient" for name in ("query", "key", "value", "mask")),
        "truth values",
    ],
)
def test_elsewhere_it_is_sdpa(what: dict[str, Any]) -> None:
    found = attend(**what, scale=SCALE, implementation=IN_PARTS)
    wanted = scaled_dot_product_attention(
        what["query"], what["key"], what["value"], attn_mask=what["mask"], scale=SCALE
    )
    assert torch.equal(found, wanted.transpose(1, 2))
    asked = (what[name] for name in ("query", "key", "value", "mask") if what[name] is not None)
    assert found.requires_grad == any(each.requires_grad for each in asked)


def test_without_the_instructions_it_is_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BFLOAT16", False)
    query, key, value = heads()
    found = attend(query, key, value, None, scale=SCALE, dropout=0.0, implementation=IN_PARTS)
    assert torch.equal(
        found, scaled_dot_product_attention(query, key, value, scale=SCALE).transpose(1, 2)
    )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call in parts was given."""
    taken: list[int] = []

    def seen(query: Tensor, *others: Any) -> Tensor:
        taken.append(query.shape[2])
        return attend_in_parts(query, *others)

    monkeypatch.setattr(module, "attend_in_parts", seen)
    return taken


@pytest.mark.parametrize("reducer", ["none", "sta:r=3", "tome:r=5,proportional_attention=true"])
@pytest.mark.parametrize("family", sorted(ASKING))
@torch.no_grad()
def test_every_block_attends_in_parts(
    family: str, reducer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = counted(monkeypatch)
    dense = tiny(family, FAMILIES[family].grids.usual).bfloat16()
    set_attention(dense, None)
    assert dense.config._attn_implementation == IN_PARTS
    model = prune(dense, reducer)
    found = model(clips_for(model)).logits.double()
    # V-JEPA 2 pools by attention, too.
    assert len(taken) >= model.config.num_hidden_layers
    assert reducer == "none" or taken[0] > taken[3]
    set_attention(dense, "sdpa")
    torch.testing.assert_close(found, model(clips_for(model)).logits.double(), rtol=0.1, atol=0.3)


def clips_for(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *adapt(model).clip_shape, generator=generator).bfloat16()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_only_models_that_take_sdpa_from_transformers_change(family: str) -> None:
    model = tiny(family, FAMILIES[family].grids.usual)
    before = model.config._attn_implementation
    set_attention(model, None)
    assert model.config._attn_implementation == (IN_PARTS if family in ASKING else before)


@torch.no_grad()
def test_nothing_dropped_is_the_model_to_the_bit() -> None:
    dense = tiny_videomae().bfloat16()
    set_attention(dense, None)
    pixels = clips(2).bfloat16()
    assert torch.equal(prune(dense, "sta:r=0")(pixels).logits, dense(pixels).logits)


@pytest.mark.parametrize("probed", [False, True], ids=["told", "probed"])
@torch.no_grad()
def test_a_compiled_model_attends_in_parts(probed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a part of one graph; and also where the processor itself is asked."""
    if probed:
        monkeypatch.setattr(module, "_BFLOAT16", REAL)
    dense = tiny_videomae(num_hidden_layers=3).bfloat16()
    set_attention(dense, None)
    model, pixels = prune(dense, "sta:r=3,blocks=0/1/2"), clips(1).bfloat16()
    logits, code = captured(model, pixels)
    assert torch.equal(logits, model(pixels).logits)
    assert code.count("attend_in_parts") == (3 if module._BFLOAT16 else 0)


def test_causal_attention_is_sdpa_s() -> None:
    query, key, value = heads()
    causal = torch.nn.Module()
    causal.is_causal = True
    found, _ = module._attention_forward(
        causal, query, key, value, scaling=SCALE, implementation=IN_PARTS
    )
    wanted = scaled_dot_product_attention(query, key, value, is_causal=True, scale=SCALE)
    assert torch.equal(found, wanted.transpose(1, 2))


@torch.no_grad()
def test_traced_models_do_not_need_vidprune() -> None:
    dense = tiny_videomae(num_hidden_layers=2).bfloat16()
    set_attention(dense, None)
    traced = torch.jit.trace(dense, clips(1).bfloat16(), strict=False, check_trace=False)
    assert "vidprune" not in str(traced.inlined_graph)


@pytest.mark.parametrize(
    ("name", "dtype", "said"),
    [
        (None, torch.bfloat16, IN_PARTS),
        (None, torch.float32, None),
        ("sdpa", torch.bfloat16, None),
        ("eager", torch.float32, "eager"),
    ],
)
def test_what_attends_is_said_where_it_is_not_the_family_s_own(
    name: str | None, dtype: torch.dtype, said: str | None
) -> None:
    assert attention_of(load("demo", dtype=dtype, attn_implementation=name)) == said


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_a_family_takes_of_itself_is_not_said(family: str) -> None:
    model = tiny(family, FAMILIES[family].grids.usual)
    set_attention(model, None)
    assert attention_of(model) is None


@torch.no_grad()
def test_exported_models_do_not_need_vidprune() -> None:
    dense = tiny_videomae(num_hidden_layers=2).bfloat16()
    set_attention(dense, None)
    program = torch.export.export(dense, (clips(1).bfloat16(),))
    assert "vidprune" not in str(program.graph)


def test_load_chooses_it_unless_told() -> None:
    assert load("demo").config._attn_implementation == IN_PARTS
    assert load("demo", attn_implementation="eager").config._attn_implementation == "eager"


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(ValueError, match="attn_implementation='sdpaa' cannot be had: "):
        load("demo", attn_implementation="sdpaa")


def test_a_family_with_its_own_attention_refuses_others() -> None:
    model = tiny("timesformer-joint", FAMILIES["timesformer-joint"].grids.usual)
    with pytest.raises(ValueError, match="a TimesformerForVideoClassification has its own"):
        set_attention(model, "sdpa")
