"""A batch beyond memory ends in one sentence, wherever it runs; what was done is kept."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vidprune.inference
from tiny_job import write_checkpoint, write_list
from vidprune import cli
from vidprune.inference import ViewModel
from vidprune.shortage import OutOfMemory, batch_in_memory

SAYS = "batch_size=2: so many views at once take more memory than cpu has left; give a smaller"


def beyond_the_machine(*given: object, **options: object) -> torch.Tensor:
    return torch.empty(2**55, dtype=torch.uint8)


def beyond_numbers(*given: object, **options: object) -> torch.Tensor:
    return torch.empty(2**60, 2**30)


def on_a_gpu(*given: object, **options: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=2)
    return folder


def command(job: Path, verb: str, output: Path) -> list[str]:
    words = {
        "predict": ["predict", f"{job}/00.mp4"],
        "predict --output": ["predict", f"{job}/00.mp4", "--output", str(output)],
        "embed": ["embed", f"{job}/00.mp4", "--output", str(output)],
        "evaluate": ["evaluate", "--data", f"{job}/test.csv", "--output", str(output)],
    }[verb]
    return [*words, "--model", f"{job}/model", "--batch-size", "2", "--device", "cpu"]


@pytest.mark.parametrize("verb", ["predict", "predict --output", "embed", "evaluate"])
@pytest.mark.parametrize("forward", [beyond_the_machine, beyond_numbers, on_a_gpu])
def test_commands_say_what_to_do(
    job: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    forward: Callable[..., torch.Tensor],
) -> None:
    words = [*command(job, verb, tmp_path / "out"), "--workers", "0"]
    with monkeypatch.context() as patched:
        patched.setattr(vidprune.inference, "normalise", forward)
        assert cli.main(words) == cli.FAILURE
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"vidprune: {SAYS} --batch-size"
    assert cli.main(words) == 0, "what stands there is taken up"


@pytest.mark.parametrize("batch_size", [10**18, 10**30])
def test_batches_of_more_than_can_be_listed(
    job: Path, capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    words = [*command(job, "predict", job), "--workers", "0", "--batch-size", str(batch_size)]
    assert cli.main(words) == cli.FAILURE
    assert f"vidprune: batch_size={batch_size}: so many views" in capsys.readouterr().err


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2") as raised:  # noqa: SIM117
        with batch_in_memory(2, torch.device("cpu")):
            torch.ones(2, 3) @ torch.ones(2, 3)
    assert not isinstance(raised.value, OutOfMemory)


@pytest.mark.slow
def test_on_ray_it_is_the_same_sentence(job: Path) -> None:
    pytest.importorskip("ray")
    from vidprune.assembly import Assembly
    from vidprune.corpus.answers import Question
    from vidprune.corpus.items import Item
    from vidprune.corpus.on_ray import OnRay
    from vidprune.video.guarded import Limits

    source, real = str(job / "model"), Assembly

    def make(device: torch.device | None) -> ViewModel:
        import torch

        model = real(source=source, batch_size=2).make(device)
        model._forward = lambda *given: torch.empty(2**55, dtype=torch.uint8)
        return model

    stand_in: Any = SimpleNamespace(by_content=False, make=make, batch_size=2)
    engine = OnRay(
        assembly=stand_in,
        protocol=real(source=source).make(torch.device("cpu")).protocol,
        question=Question(kind="classes"),
        limits=Limits(),
        fetch=Limits(),
        decoders=1,
        models=1,
    )
    with pytest.raises(OutOfMemory) as raised:
        list(engine([(0, Item("00.mp4", f"{job}/00.mp4"))]))
    assert str(raised.value) == f"{SAYS} --batch-size"
