"""Weights of an ONNX graph in 8 bits, which are made float32 again where they are used.

# Note [weights alone]
ONNX Runtime could also round what layers are given, but with one scale for a whole batch: a clip's
answer would depend on its neighbours. So the weights alone are rounded, once, with a scale for each
of a layer's outputs, and everything is computed in float32. A large model's file is a quarter as
large; nothing is faster for it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]


def rounded(weights: Weights) -> tuple[npt.NDArray[np.int8], Weights]:
    """Weights (inputs, outputs) as whole numbers from -127 to 127, and the scale of each output
    (outputs,) that makes them what they were, but for rounding."""
    largest = np.abs(weights).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weights / scales).astype(np.int8), scales


def round_weights(graph: Any) -> None:
    """Round what the products of an `onnx_ir` graph are taken with, where that is written down: the
    linear layers of blocks. Embedding and head keep theirs, which are few and matter most."""
    for name, weights in list(graph.initializers.items()):
        if _is_of_products(weights):
            _round(graph, name)


def _is_of_products(value: Any) -> bool:
    used = [(use.node.op_type, use.idx) for use in value.uses()]
    is_float = value.const_value is not None and str(value.dtype) == "FLOAT"
    return bool(used) and is_float and len(value.shape) == 2 and set(used) == {("MatMul", 1)}


def _round(graph: Any, name: str) -> None:
    import onnx_ir as ir

    old = graph.initializers[name]
    whole, scales = rounded(old.const_value.numpy())
    values = []
    for suffix, array in (("int8", whole), ("scales", scales)):
        tensor: Any = ir.tensor(array, name=f"{name}.{suffix}")
        value = ir.Value(
            name=tensor.name,
            shape=tensor.shape,
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        graph.register_initializer(value)
        values.append(value)
    node = ir.node("DequantizeLinear", inputs=values, attributes={"axis": 1})
    node.outputs[0].name = f"{name}.float32"
    graph.insert_before(old.uses()[0].node, node)
    for use in tuple(old.uses()):
        use.node.replace_input_with(use.idx, node.outputs[0])
    graph.initializers.pop(name)
