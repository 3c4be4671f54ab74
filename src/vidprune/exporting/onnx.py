"""A program as an ONNX graph."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidprune.exporting.eight_bits import round_weights
from vidprune.exporting.program import Program

# The lowest that has LayerNormalization and what the selection needs; runtimes know it well.
OPSETS = (18, 19, 20, 21, 22, 23)
OPSET = 18
# Of ONNX itself, by both of its names.
OPERATOR_SETS = ("", "ai.onnx")
# A protocol buffer holds at most 2 GiB.
_LARGEST = 1_900_000_000


def write_onnx(
    program: Program, path: Path, *, opset: int = OPSET, quantize: str | None = None
) -> None:
    """Write it, with weights in the file or, where they are too large for one, in a file beside it
    with `.data` behind its name; `quantize` (int8): weights of its linear layers in 8 bits.

    Raises RuntimeError without the packages for it, ValueError for an operation that ONNX has no
    word for.
    """
    check_onnx()
    _quieten()
    _free_views(program.exported)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            written = torch.onnx.export(
                program.exported,
                dynamo=True,
                opset_version=opset,
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort()},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(f"ONNX cannot express this model: {_reason(error)}") from error
    assert written is not None, "it is given by torch's newer exporter"
    if quantize:
        round_weights(written.model.graph)
    graph: Any = written.model.graph
    size = sum(each.const_value.nbytes for each in graph.initializers.values())
    written.save(path, external_data=size > _LARGEST)


def check_onnx() -> None:
    """Raise RuntimeError without the packages that write ONNX and run it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            f"ONNX needs the package {error.name}; pip install 'vidprune[onnx]'"
        ) from error


def _free_views(exported: torch.export.ExportedProgram) -> None:
    """Let views be copies where they must: fused attention is taken apart for ONNX, after which its
    answer lies otherwise in memory than the view behind it was traced with."""
    for node in exported.graph.nodes:
        if node.target == torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    exported.graph_module.recompile()


def _stable_sort() -> Any:
    """Torch's stable sort, for which torch's exporter has no translation.

    ONNX's TopK sorts so that of equal values the one of the lower index comes first, whichever way
    it sorts: taken of all values it is a stable sort. Only the batch has no set size, along which
    nothing is sorted.
    """
    from onnxscript import opset18

    # Its types know tensors that are written down, not those that stand for them.
    op: Any = opset18

    def sort(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
        # Written down, for runtimes that want to know it before they run.
        count = op.Constant(value_ints=[int(self.shape[dim])])
        return op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)

    return sort


def _quieten() -> None:
    """Leave the terminal to our own words: the exporter tells of packages that are not needed."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)


def _reason(error: Exception) -> str:
    """The innermost reason, in its first line."""
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    return str(error).strip().splitlines()[0]
