"""Tokens are chosen in full precision, whatever the process is told to multiply in."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reducers.precision_cases import SPECS, is_same, multiplying_in, reduction
from tiny_videomae import clips, tiny_videomae
from vidprune import prune
from vidprune.reducers.exact import for_products


class TF32(TorchFunctionMode):
    """Products of float32 as a GPU's tensor cores take them: of ten bits."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in ("matmul", "__matmul__"):
            args = tuple(map(self._rounded, args))
        return function(*args, **(kwargs or {}))

    def _rounded(self, value: Tensor) -> Tensor:
        if value.dtype != torch.float32:
            return value
        return (value.view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("spec", SPECS)
def test_a_coarser_product_would_choose_others_and_is_not_let_in(spec: str) -> None:
    wanted = reduction(spec, "cpu")
    with TF32():
        if spec != "vid-tldr:r=100":
            # That one does not choose by products of its own, but merges by them.
            assert not is_same(reduction(spec, "cpu"), wanted), "the test can fail"
        for precision in ("high", "medium"):
            with multiplying_in(precision):
                assert is_same(reduction(spec, "cpu"), wanted)


@pytest.mark.parametrize("setting", ["tf32", "bf16"])
def test_torch_s_newer_switches_count_too(setting: str) -> None:
    values = torch.ones(2)
    assert for_products(values).dtype == torch.float32
    products = torch.backends.mkldnn.matmul
    before, products.fp32_precision = products.fp32_precision, setting
    try:
        assert for_products(values).dtype == torch.float64
    finally:
        products.fp32_precision = before


def test_other_devices_have_no_such_switch_and_perhaps_no_float64() -> None:
    with multiplying_in("high"):
        assert for_products(torch.ones(2, device="meta")).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("spec", ["sta:r=3", "ward:r=2", "tome:r=5"])
def test_a_graph_multiplies_in_float64_and_what_is_exported_does_not(spec: str) -> None:
    model, pixels = prune(tiny_videomae(), spec), clips(2)
    widths: list[set[torch.dtype]] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        widths.append(products_of(graph))
        return graph

    def forward(given: Tensor) -> Tensor:
        return model(given).logits

    with multiplying_in("high"):
        torch._dynamo.reset()
        torch.compile(forward, fullgraph=True, backend=backend)(pixels)
        exported = torch.export.export(model, (pixels,))
    assert torch.float64 in widths[0]
    assert products_of(exported.graph_module) == {torch.float32}


def products_of(graph: torch.fx.GraphModule) -> set[torch.dtype]:
    """What the products of a graph are taken in."""
    named = ("matmul", "bmm", "mm", "addmm", "linear")
    return {
        (node.meta["val"] if "val" in node.meta else node.meta["example_value"]).dtype
        for node in graph.graph.nodes
        if getattr(node.target, "__name__", "").split(".")[0] in named
    }
