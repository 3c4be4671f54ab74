"""What the tests of evaluation begin with."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from torch import Tensor
from transformers import PreTrainedModel

import tiny_job
from evaluation_job import BROKEN, VIDEOS, run
from tiny_job import write_checkpoint, write_list
from vidprune.inference import Classifier
from vidprune.macs import gmacs_per_view
from vidprune.reducers.spec import describe


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module", autouse=True)
def counted_once() -> Iterator[None]:
    """Counting arithmetic takes longer than these runs; all have models of one shape."""
    known: dict[str, float] = {}

    def count(model: PreTrainedModel, settings: object) -> float:
        reducer = describe(model.reducer)
        if reducer not in known:
            known[reducer] = gmacs_per_view(model)
        return known[reducer]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("vidprune.commands.shares.gmacs_per_view", count)
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `test.csv`: nine videos, of which one is broken."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=VIDEOS, broken=BROKEN)
    return folder


@pytest.fixture(scope="module")
def undisturbed(job: Path) -> Callable[[str], Path]:
    """The output of a whole run with a reducer, made once."""

    def run_once(reducer: str) -> Path:
        output = job / f"whole-{reducer.replace(':', '-')}"
        if not output.exists():
            run(job, output, reducer)
        return output

    return run_once


@pytest.fixture
def run_keys(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clip keys of all views that go through a model from here on."""
    seen: list[int] = []
    start = Classifier.start

    def count(self: Classifier, clips: Sequence[Tensor], clip_keys: Sequence[int]) -> Tensor:
        seen.extend(clip_keys)
        return start(self, clips, clip_keys)

    monkeypatch.setattr(Classifier, "start", count)
    return seen
