"""What a compiler is given of a model."""

from typing import Any

import torch
from torch import Tensor


def captured(model: Any, pixels: Tensor) -> tuple[Tensor, str]:
    """The logits of a model compiled as one graph, operation by operation, and the graph's code."""
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        seen.append(graph.code)
        return graph

    torch._dynamo.reset()
    logits: Tensor = torch.compile(model, fullgraph=True, backend=backend)(pixels).logits
    (code,) = seen
    return logits, code
