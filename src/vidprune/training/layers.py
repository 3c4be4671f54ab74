"""What each weight learns at: rates that fall from the head towards the pixels, decay for matrices.

Layer-wise rates as in BEiT (Bao et al., ICLR 2022), which VideoMAE fine-tunes with.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt

# By their names in transformers and in our VideoSwin.
_TABLES = ("position_embeddings", "time_embeddings", "cls_token", "query_tokens", "bias_table")


def depths(model: PreTrainedModel) -> dict[str, int]:
    """How far from the pixels each parameter is: 0 before the blocks, i + 1 in block i (and, in a
    pyramid, what follows it), the number of blocks + 1 behind the last."""
    backbone = adapt(model)
    block_of = {
        id(weight): block
        for block in range(backbone.depth)
        for weight in backbone.layer(block).parameters()
    }
    found, depth = {}, 0
    for name, weight in model.named_parameters():
        if id(weight) in block_of:
            found[name] = depth = block_of[id(weight)] + 1
        else:
            # Modules stand in the order in which they run. (VideoPrism's norms and its positions
            # in time stand before its blocks, and learn as slowly as its pixels.)
            found[name] = depth + (depth == backbone.depth)
    return found


def groups(
    model: PreTrainedModel, *, rate: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """An optimizer's parameter groups: of one depth and one decay each, `rate` at the head and
    `layer_decay` times as much with every step towards the pixels."""
    by_kind = defaultdict(list)
    found = depths(model)
    top = max(found.values())
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            by_kind[found[name], _decays(name, weight)].append(weight)
    return [
        {
            "params": weights,
            "lr": rate * layer_decay ** (top - depth),
            "weight_decay": weight_decay if decays else 0.0,
        }
        # The head first: it is the first group's rate that the Trainer logs.
        for (depth, decays), weights in sorted(by_kind.items(), key=lambda kind: -kind[0][0])
    ]


def _decays(name: str, weight: Tensor) -> bool:
    """Matrices do; biases, norms, tables of positions and tokens of the model's own do not."""
    return weight.ndim > 1 and not any(word in name for word in _TABLES)


def matrices_in_blocks(model: PreTrainedModel) -> set[int]:
    """The identity of the matrix of every linear layer inside a block: what Muon is for."""
    backbone = adapt(model)
    layers = (backbone.layer(block) for block in range(backbone.depth))
    return {
        id(module.weight)
        for layer in layers
        for module in layer.modules()
        if isinstance(module, nn.Linear)
    }


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon (Jordan, 2024) for the matrices of the blocks and AdamW for the rest, as one optimizer.

    From little data and no pre-training it learns in a fraction of AdamW's steps. Muon's updates
    are scaled to the size of AdamW's, so one learning rate serves both.
    """

    def __init__(
        self, groups: list[dict[str, Any]], matrices: set[int], betas: tuple[float, float]
    ) -> None:
        chosen, rest = (_only(groups, matrices, inside) for inside in (True, False))
        self.parts = [
            torch.optim.Muon(chosen, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=betas),
        ]
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Schedules write rates into our groups; the parts must read them there."""
        first = len(self.parts[0].param_groups)
        self.parts[0].param_groups = self.param_groups[:first]
        self.parts[1].param_groups = self.param_groups[first:]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of both."""
        assert closure is None, "the Trainer gives none"
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self._share_groups()


def _only(
    groups: Iterable[dict[str, Any]], matrices: set[int], inside: bool
) -> list[dict[str, Any]]:
    def kept(weights: Iterable[Tensor]) -> list[Tensor]:
        return [weight for weight in weights if (id(weight) in matrices) is inside]

    return [group | {"params": own} for group in groups if (own := kept(group["params"]))]
