"""Products by oneDNN are products: against float64, and wherever they must stay torch's own."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from captured_graphs import captured
from matrix import FAMILIES
from tiny_models import tiny
from tiny_videomae import clips, tiny_videomae
from vidprune import STA, load, prune
from vidprune.backbones import onednn as module
from vidprune.backbones import parts
from vidprune.backbones.attention import head_mean
from vidprune.backbones.attention_in_parts import (
    BY_ONEDNN,
    attend,
    attend_in_parts,
    attention_of,
    set_attention,
)
from vidprune.backbones.onednn import OneDNNLinear, product, use_onednn, uses_onednn
from vidprune.backbones.registry import adapt
from vidprune.benchmarking.account import account

pytestmark = pytest.mark.skipif(not module.HAS_ONEDNN, reason="this torch is without oneDNN")

SCALE = 0.3


class Watched(TorchFunctionMode):
    """Counts the products of linear layers by oneDNN, and those by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.by_onednn = self.by_torch = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.by_onednn += function is module._PRODUCT
        self.by_torch += function is linear
        return function(*args, **(kwargs or {}))


def layer(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    made = torch.nn.Sequential(Linear(48, 80, bias=bias))
    use_onednn(made)  # type: ignore[arg-type]
    (only,) = made
    return only


def both(family: str) -> tuple[Any, Any]:
    """A model, and the same by oneDNN."""
    model = tiny(family, FAMILIES[family].grids.usual)
    other = copy.deepcopy(model)
    use_onednn(other)
    set_attention(other, None, own=BY_ONEDNN)
    return model, other


def clips_for(model: Any) -> Tensor:
    return torch.randn(2, *adapt(model).clip_shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 300])
@torch.no_grad()
def test_a_product_is_the_formula(rows: int, bias: bool) -> None:
    made = layer(bias)
    values = torch.randn(2, rows, 48)
    wanted = values.double() @ made.weight.double().T
    if bias:
        wanted += made.bias.double()
    torch.testing.assert_close(made(values).double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_a_model_answers_the_same_and_multiplies_by_onednn(family: str) -> None:
    model, other = both(family)
    pixels = clips_for(model)
    with Watched() as watched:
        found = other(pixels).logits
    torch.testing.assert_close(found, model(pixels).logits, rtol=1e-4, atol=1e-4)
    assert watched.by_onednn > 3 * len(adapt(model).levels)
    assert watched.by_torch == 0


@torch.no_grad()
def test_the_same_tokens_stay() -> None:
    model, other = both("videomae")
    pixels = clips_for(model)
    reducer = STA(r=3, blocks=(0, 1))
    kept, wanted = (prune(each, reducer)(pixels, return_trace=True) for each in (other, model))
    assert all(map(torch.equal, kept.trace.kept, wanted.trace.kept))


@pytest.mark.parametrize("mask", ["none", "keys", "pairs"])
@pytest.mark.parametrize("size", [2**20, 37 * 4 * 4 * 10], ids=["whole", "ten rows"])
def test_attention_in_float32_is_the_formula(
    mask: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_BYTES", size)
    drawn = torch.randn(3, 2, 37, 3, 8, generator=torch.Generator().manual_seed(0))
    query, key, value = (each.transpose(1, 2) for each in drawn)
    bias = {"none": None, "keys": torch.randn(2, 1, 1, 37), "pairs": torch.randn(2, 3, 37, 37)}
    found = attend(
        query, key, value, bias[mask], scale=SCALE, dropout=0.0, implementation=BY_ONEDNN
    )
    logits = SCALE * torch.einsum("bhnd,bhmd->bhnm", query.double(), key.double())
    if (added := bias[mask]) is not None:
        logits += added.double()
    wanted = torch.einsum("bhnm,bhmd->bnhd", logits.softmax(-1), value.double())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_attention_s_gradients_are_sdpa_s() -> None:
    query = torch.randn(2, 3, 7, 8, requires_grad=True)
    found = attend(query, query, query, None, scale=SCALE, dropout=0.0, implementation=BY_ONEDNN)
    wanted = scaled_dot_product_attention(query, query, query, scale=SCALE)
    assert torch.equal(found, wanted.transpose(1, 2))
    assert found.requires_grad


def test_a_clip_s_answer_does_not_depend_on_its_neighbours() -> None:
    _, model = both("videomae")
    pixels = torch.cat([clips_for(model)] * 2)
    order = torch.tensor([2, 3, 1, 0])
    with torch.inference_mode():
        assert torch.equal(model(pixels[order]).logits, model(pixels).logits[order])


def test_gradients_are_those_of_torch() -> None:
    made = layer()
    plain = Linear(48, 80)
    plain.load_state_dict(made.state_dict())
    values = torch.randn(3, 48)
    for each in (made, plain):
        each(values).square().sum().backward()
    assert torch.equal(made.weight.grad, plain.weight.grad)


@torch.no_grad()
def test_a_changed_weight_counts_at_once() -> None:
    """However it was changed: nothing is kept beside it."""
    made, values = layer(), torch.randn(3, 48)
    before = made(values)
    made.weight.data.mul_(2)
    made.bias.data.mul_(2)
    torch.testing.assert_close(made(values), 2 * before)


@pytest.mark.parametrize("what", ["bfloat16", "autocast", "double"])
@torch.no_grad()
def test_elsewhere_it_is_torch_s_own(what: str) -> None:
    made = layer()
    values = torch.randn(3, 48)
    if what != "autocast":
        dtype = torch.bfloat16 if what == "bfloat16" else torch.double
        made, values = made.to(dtype), values.to(dtype)
    with torch.autocast("cpu", enabled=what == "autocast"), Watched() as watched:
        assert torch.equal(made(values), linear(values, made.weight, made.bias))
    assert watched.by_onednn == 0


@torch.no_grad()
def test_it_compiles_as_one_graph_that_multiplies_by_onednn() -> None:
    _, dense = both("videomae")
    model, pixels = prune(dense, STA(r=3, blocks=(0, 1))), clips_for(dense)
    logits, code = captured(model, pixels)
    torch.testing.assert_close(logits, model(pixels).logits)
    assert "torch.ops.vidprune.linear" in code or "sealed_product" in code


@pytest.mark.slow
@torch.no_grad()
def test_torch_s_own_compiler_takes_it() -> None:
    _, dense = both("videomae")
    model, pixels = prune(dense, STA(r=3, blocks=(0, 1))), clips_for(dense)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(pixels).logits, model(pixels).logits, rtol=1e-4, atol=1e-4)


def test_compilers_see_one_operation_that_tells_its_shape() -> None:
    made = layer()
    taken = torch.randn(2, 5, 48), made.weight.detach(), made.bias.detach()
    torch.library.opcheck(module._sealed_product, taken)
    heads = torch.randn(3, 2, 4, 9, 8).unbind()
    torch.library.opcheck(attend_in_parts, (*heads, None, SCALE))


@torch.no_grad()
def test_exported_models_are_torch_s_own() -> None:
    _, dense = both("videomae")
    program = torch.export.export(dense, (clips_for(dense),))
    text = str(program.graph)
    assert "vidprune" not in text
    assert "mkldnn" not in text


def test_copies_and_files_are_of_the_plain_weights() -> None:
    model, other = both("videomae")
    assert list(other.state_dict()) == list(model.state_dict())
    again = pickle.loads(pickle.dumps(other))
    with torch.no_grad():
        pixels = clips_for(model)
        assert torch.equal(again(pixels).logits, other(pixels).logits)


def test_only_plain_layers_change() -> None:
    class Adapted(Linear):
        """What knows alone what it computes."""

    made = torch.nn.Sequential(Linear(3, 3), Adapted(3, 3))
    use_onednn(made)  # type: ignore[arg-type]
    assert [type(each) for each in made] == [OneDNNLinear, Adapted]


class Quantised(Tensor):
    """As torchao's: of the kind, shape and type of a weight, and something else inside."""

    def unflatten(self, *arguments: Any) -> Any:
        # What a layer gives is of this kind, too.
        assert self.shape != (80, 48), "nobody looks inside the weight"
        return super().unflatten(*arguments)


@torch.no_grad()
def test_what_is_not_a_plain_weight_is_left_to_itself() -> None:
    made, values = layer(), torch.randn(3, 48)
    wanted = made(values)
    made.weight = torch.nn.Parameter(made.weight.detach().as_subclass(Quantised))
    assert isinstance(made.weight, Quantised)
    with Watched() as watched:
        found = made(values)
    torch.testing.assert_close(found.as_subclass(Tensor), wanted)
    assert watched.by_onednn == 0
    assert not module.is_linear(made)
    head_mean(made, values[None], 2)


def test_an_account_books_its_products_as_linear_and_attention() -> None:
    model = tiny_videomae(num_hidden_layers=3)
    use_onednn(model)
    set_attention(model, None, own=BY_ONEDNN)
    spent = account(prune(model, None), clips(2))
    assert spent["linear"] > 0
    assert spent["attention"] > 0
    assert spent["rest"] < sum(spent.values()) - spent["rest"]


def test_load_takes_it_when_asked_and_says_so() -> None:
    plain, fast = load("demo"), load("demo", onednn=True)
    assert (uses_onednn(plain), attention_of(plain)) == (False, None)
    assert (uses_onednn(fast), attention_of(fast)) == (True, BY_ONEDNN)
    half = load("demo", onednn=True, dtype=torch.bfloat16)
    assert not uses_onednn(half)
    own = load("demo", onednn=True, attn_implementation="eager")
    assert (uses_onednn(own), attention_of(own)) == (True, "eager")


def test_without_onednn_its_attention_is_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names it."""
    monkeypatch.setattr("vidprune.backbones.attention_in_parts.HAS_ONEDNN", False)
    query = torch.randn(2, 3, 7, 8)
    found = attend(query, query, query, None, scale=SCALE, dropout=0.0, implementation=BY_ONEDNN)
    wanted = scaled_dot_product_attention(query, query, query, scale=SCALE)
    assert torch.equal(found, wanted.transpose(1, 2))
    assert attention_of(load("demo", attn_implementation=BY_ONEDNN)) is None


def test_without_onednn_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidprune.backbones.onednn.HAS_ONEDNN", False)
    with pytest.raises(ValueError, match="onednn=True cannot be had: this torch was built without"):
        load("demo", onednn=True)


def test_products_of_one_head_are_taken_as_they_lie() -> None:
    """Heads are strided views of what layers give."""
    values = torch.randn(5, 3, 8)[:, 1]
    weight = torch.randn(4, 8, 2)[..., 0]
    torch.testing.assert_close(product(values, weight.contiguous()), values @ weight.T)
