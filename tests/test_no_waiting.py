"""A forward never waits for its device: no value of a tensor decides what is done next."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from matrix import CLASSIFIERS, PAIRS, Model
from tiny_models import tiny
from vidprune.backbones.registry import adapt
from vidprune.pruned import prune

# What brings values to the host, or needs them there to know a shape.
WAITING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.item.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.repeat_interleave.Tensor,
    torch.ops.aten.unique_consecutive.default,
    torch.ops.aten.unique_dim.default,
    torch.ops.aten._unique2.default,
}


class Counted(TorchDispatchMode):
    """Notes which operations had the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        masked = function in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
        by_mask = masked and any(i is not None and i.dtype == torch.bool for i in args[1])
        if function in WAITING or by_mask:
            self.waited.append(str(function))
        return function(*args, **(kwargs or {}))


def small(name: Model) -> PreTrainedModel:
    return tiny(name.family, name.grids.usual, head=name.head)


def waits(model: Any, *, keys: bool = True) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, *adapt(model).clip_shape, generator=generator)
    given = {"clip_keys": torch.arange(2)} if keys else {}
    with torch.inference_mode():
        # What is worked out once and remembered may wait.
        model(pixels, **given)
        with Counted() as counted:
            model(pixels, **given)
    return counted.waited


def test_waiting_is_counted() -> None:
    with Counted() as counted:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
        if torch.ones(()) > 0:
            torch.ones(3)[torch.ones(3) > 0]
    assert len(counted.waited) == 4


@pytest.mark.parametrize(("name", "spec"), PAIRS, ids=str)
def test_no_reducer_waits_on_any_model(name: Model, spec: str) -> None:
    if "threshold" in spec:
        # How many tokens stay depends on the clip, as the docs say: that has to be waited for.
        assert set(waits(prune(small(name), spec))) == {"aten.item.default"}
    else:
        assert waits(prune(small(name), spec)) == []


@pytest.mark.parametrize("name", CLASSIFIERS, ids=str)
def test_no_dense_model_waits(name: Model) -> None:
    assert waits(prune(small(name), None)) == []


def test_keys_of_pixels_do_not_wait() -> None:
    """Where the caller gives none."""
    assert waits(prune(small(CLASSIFIERS[0]), "random:r=3"), keys=False) == []
