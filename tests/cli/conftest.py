"""What the tests of the command line begin with."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig
from transformers.utils import logging

import tiny_job
from tiny_job import write_checkpoint, write_list


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """As the command line finds it in a process of its own: transformers not yet imported."""
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good things to name (`model`, `test.csv`, `00.mp4`), and in `bad` what is wrong."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=2)
    bad = folder / "bad"
    for name in ("folder", "run"):
        (bad / name).mkdir(parents=True)
    for name, content in {
        "empty.csv": "\n# nothing\n",
        "line.csv": "00.mp4\n",
        "word.csv": "00.mp4 seven\n",
        "wide.csv": "00.mp4 0\n01.mp4 9\n",
        "config.json": "{",
        "names.txt": "one\ntwo\n",
        "file": "",
        "run/run.json": '{"reducer": "none"}',
        "foreign/views.jsonl": "{}\n",
    }.items():
        (bad / name).parent.mkdir(exist_ok=True)
        (bad / name).write_text(content)
    (bad / "latin.csv").write_bytes("é.mp4 0\n".encode("latin-1"))
    (bad / "random.pth").write_bytes(bytes(range(256)) * 9)
    (bad / "pickle.pth").write_bytes(pickle.dumps({"model": range(3)}))
    torch.save({"model": {"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}}, bad / "small.pth")
    torch.save({"head.weight": torch.zeros(3, 3)}, bad / "other.pth")
    ViTConfig().save_pretrained(bad / "vit")
    return folder
