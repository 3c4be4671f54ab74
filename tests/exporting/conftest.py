"""One model, in every format but the compiled one."""

import shutil
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from tiny_exports import exported, pruned


@pytest.fixture(scope="session")
def model() -> PreTrainedModel:
    return pruned()


@pytest.fixture(scope="session")
def folder(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in every format but the compiled one, which takes a minute."""
    folder = tmp_path_factory.mktemp("exported")
    for name in ("m.onnx", "m.pt2"):
        exported(model, folder / name)
    return folder


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for name in ("m.onnx", "m.onnx.json", "m.pt2", "m.pt2.json"):
        shutil.copy(folder / name, tmp_path / name)
    return tmp_path / "m.onnx"
