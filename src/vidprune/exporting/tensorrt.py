"""What TensorRT's parser is known not to take of an ONNX graph, by its own list.

onnx-tensorrt, docs/operators.md of TensorRT 10.15. Nothing of it has been run.
"""

from pathlib import Path
from typing import Any

from vidprune.exporting.onnx import OPERATOR_SETS

# Of the operators that exported models are made of, those that it takes.
_TAKEN = """
    Abs Add And ArgMax ArgMin Attention Cast Ceil Clip Concat Constant ConstantOfShape Conv Cos
    CumSum DequantizeLinear Div Einsum Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm Greater GreaterOrEqual Identity IsInf IsNaN LayerNormalization Less
    LessOrEqual Log MatMul Max Min Mod Mul Neg Not OneHot Or Pad Pow Range Reciprocal ReduceL1
    ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape ScatterElements
    ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Split Sqrt Squeeze Sub Sum Tanh Tile
    TopK Transpose Trilu Unsqueeze Where Xor
"""
TAKEN = frozenset(_TAKEN.split())
_LATEST_OPSET = 24
_MOST_SORTED = 3839
# Whose second input it wants to know beforehand.
_SETTLED = ("Reduce", "TopK", "Squeeze", "Unsqueeze")


def obstacles(path: Path) -> tuple[str, ...]:
    """What its parser would refuse of a graph, each once; none where it takes all of it."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    settled = _settled(model.graph)
    found = [_obstacle(node, settled) for node in model.graph.node]
    opset = next(each.version for each in model.opset_import if each.domain in OPERATOR_SETS)
    if opset > _LATEST_OPSET:
        found.insert(0, f"opset {opset}")
    return tuple(dict.fromkeys(each for each in found if each))


def _settled(graph: Any) -> dict[str, Any]:
    """Values of a graph that are known beforehand, by name; None for large ones."""
    from onnx import numpy_helper

    constants = {
        node.output[0]: next((each.t for each in node.attribute if each.name == "value"), None)
        for node in graph.node
        if node.op_type == "Constant"
    }
    tensors = constants | {each.name: each for each in graph.initializer}
    return {
        name: numpy_helper.to_array(each) if each is not None and list(each.dims) == [1] else None
        for name, each in tensors.items()
    }


def _obstacle(node: Any, settled: dict[str, Any]) -> str | None:
    if node.domain not in OPERATOR_SETS or node.op_type not in TAKEN:
        return str(node.op_type)
    if node.op_type.startswith(_SETTLED) and len(node.input) > 1:
        if node.input[1] not in settled:
            return f"{node.op_type} of what is not known beforehand"
        count = settled[node.input[1]]
        if node.op_type == "TopK" and count is not None and count.item() > _MOST_SORTED:
            return f"TopK of {count.item()} values"
    return None
