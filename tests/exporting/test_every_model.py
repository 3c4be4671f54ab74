"""Every family with every reducer as an ONNX graph: what the table of models promises."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from matrix import EXPORTED, Model, on_grids
from test_every_reducer import for_graphs
from vidprune.exporting.onnx import write_onnx
from vidprune.exporting.program import Answering, example, trace
from vidprune.layout import TokenGrid
from vidprune.pruned import prune


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spec", "grid"), on_grids(EXPORTED), ids=str)
def test_it_becomes_an_onnx_graph_of_any_batch(
    name: Model, spec: str, grid: TokenGrid, tmp_path: Path
) -> None:
    model = prune(for_graphs(name, grid), spec)
    program = trace(model)
    write_onnx(program, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    for batch in (1, 3):
        given = example(model, batch)
        with torch.inference_mode():
            answer, *origin = Answering(model).eval()(*given)
        named = {name: each.numpy() for name, each in zip(program.inputs, given, strict=True)}
        found, *places = session.run(None, named)
        np.testing.assert_allclose(found, answer.numpy(), rtol=1e-4, atol=1e-5)
        assert len(places) == len(origin) > 0
        for ours, theirs in zip(places, origin, strict=True):
            np.testing.assert_array_equal(ours, theirs.numpy())
