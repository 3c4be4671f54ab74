"""What predict and embed share where their answers go into a folder."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import assembly_of, tell_random_weights
from vidprune.cli.console import open_console
from vidprune.cli.options import named_address
from vidprune.cli.statuses import FAILURE
from vidprune.printable import shown

if TYPE_CHECKING:
    import torch

    from vidprune.assembly import Assembly
    from vidprune.corpus.answers import Question
    from vidprune.corpus.job import Job, Progress, Summary
    from vidprune.inference import ViewModel


# What they are where nothing is said.
_OF_JOBS = {
    **{"ray": False, "address": None, "decoders": None, "models": None, "each_view": False},
    **{"shard_size": 256, "column": None, "remote": False, "decode_seconds": 300, "decode_gib": 4},
    **{"fetch_seconds": 300, "fetch_gib": 4},
    **{"retry_errors": False, "restart": False},
}


def add_job(verb: argparse.ArgumentParser, *, required: bool) -> None:
    """Where answers go, and what works on them."""
    group = verb.add_argument_group(
        "corpus",
        "answers to many videos, as Parquet shards; the same command takes up what was cut off",
    )
    group.add_argument(
        "--output",
        required=required,
        type=named_address,
        metavar="DIR",
        help="folder, or an address such as s3://...",
    )
    group.add_argument(
        "--ray", action="store_true", help="decode and compute in processes of their own, by Ray"
    )
    group.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster to join")
    group.add_argument(
        "--decoders", type=int, metavar="N", help="Ray's processes that decode (half of the cores)"
    )
    group.add_argument(
        "--models", type=int, metavar="N", help="Ray's processes with a model (GPUs, or 1)"
    )
    group.add_argument("--each-view", action="store_true", help="a row for each view of a video")
    for name, kind, what in (
        ("shard-size", int, "videos of a shard"),
        ("decode-seconds", float, "most to decode a video"),
        ("decode-gib", float, "most memory for that, on Linux"),
        ("fetch-seconds", float, "most to fetch a video from a store or out of a .tar"),
        ("fetch-gib", float, "most that is fetched of it"),
    ):
        usual = _OF_JOBS[name.replace("-", "_")]
        group.add_argument(
            f"--{name}", type=kind, default=usual, metavar="N", help=f"{what} ({usual})"
        )
    group.add_argument("--column", metavar="NAME", help="of paths, in tables (video, path, ...)")
    group.add_argument(
        "--remote", action="store_true", help="lists and tables may name addresses elsewhere"
    )
    group.add_argument(
        "--retry-errors", action="store_true", help="do shards again that hold an error"
    )
    group.add_argument(
        "--restart",
        action="store_true",
        help="discard what the folder holds, but for a restart that was cut off",
    )


def _assembly_for_all(arguments: argparse.Namespace, head: bool | None) -> "Assembly":
    """What the arguments say of a model, with paths as every process finds them."""
    from dataclasses import replace

    found = assembly_of(arguments, head=head)
    return replace(
        found,
        source=_from_anywhere(found.source),
        config=found.config and found.config.absolute(),
        labels=found.labels and _from_anywhere(found.labels),
    )


def _from_anywhere(name: str) -> str:
    """A path made absolute; what is none stays what it is."""
    return str(Path(name).absolute()) if Path(name).exists() else name


def run_job(arguments: argparse.Namespace, question: "Question", *, head: bool | None) -> int:
    """Answer for every video; the exit status."""
    from vidprune.corpus.apart import check_apart
    from vidprune.corpus.items import read_corpus
    from vidprune.corpus.job import run
    from vidprune.corpus.shards import Shards

    _check(arguments)
    items = read_corpus(
        arguments.videos, column=arguments.column, remote=arguments.remote, tell=_tell
    )
    check_apart(arguments.output, arguments.videos, items)
    assembly = _assembly_for_all(arguments, head)
    model = assembly.make(_device(arguments))
    _check_limits(arguments, model)
    tell_random_weights(arguments)
    job = _job(arguments, items, question, assembly, model)
    with _Shown() as observe:
        summary = run(
            job,
            Shards(arguments.output, tell=_tell),
            _engine(arguments, question, assembly, model),
            restart=arguments.restart,
            retry_errors=arguments.retry_errors,
            observe=observe,
        )
    return _finish(arguments.output, summary)


def check_no_job(arguments: argparse.Namespace) -> None:
    """Raise ValueError where options of a job are given and no --output."""
    for name, usual in _OF_JOBS.items():
        if getattr(arguments, name) != usual:
            raise ValueError(
                f"--{name.replace('_', '-')} is for answers that go into a folder; add --output"
            )


def _on_ray(arguments: argparse.Namespace) -> bool:
    return bool(arguments.ray or arguments.address)


def _check(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what cannot be and where options do not go together, before anything is
    loaded or claimed."""
    from vidprune.video.guarded import MOST

    for name in ("decode_seconds", "decode_gib", "fetch_seconds", "fetch_gib"):
        if not 0 < (value := getattr(arguments, name)) <= MOST:
            raise ValueError(
                f"--{name.replace('_', '-')} {value:g} must be above 0 and at most {MOST:.0f}"
            )
    if arguments.shard_size < 1:
        raise ValueError(f"--shard-size {arguments.shard_size} must be at least 1")
    if arguments.workers is not None and arguments.workers < 0:
        raise ValueError(f"--workers {arguments.workers} must be 0 (decode when asked) or more")
    if getattr(arguments, "json", False):
        raise ValueError("--json is for a job without --output, which leaves tables; omit it")
    if _on_ray(arguments) and arguments.workers is not None:
        raise ValueError("--workers is for a job without Ray; with it say --decoders")
    if _on_ray(arguments) and arguments.device not in (None, "cpu"):
        raise ValueError(
            f"--device {arguments.device} is for a job without Ray, which gives each model a GPU "
            "of its own; leave it out, or say cpu"
        )
    if _on_ray(arguments) and arguments.decoder != "pyav":
        raise ValueError(
            f"--decoder {arguments.decoder} is for a job without Ray, whose processes that decode "
            "have no GPU; leave it out"
        )
    for name in ("decoders", "models"):
        if getattr(arguments, name) is not None and not _on_ray(arguments):
            raise ValueError(f"--{name} is for Ray; add --ray or --address, or leave it out")


def _check_limits(arguments: argparse.Namespace, model: "ViewModel") -> None:
    """Raise ValueError for limits that do not bind what reads the videos."""
    from vidprune.video.readers import on_gpu

    for name in ("decode_seconds", "decode_gib"):
        if on_gpu(model.decoder, model.device) and getattr(arguments, name) != _OF_JOBS[name]:
            raise ValueError(
                f"--{name.replace('_', '-')} binds a process that decodes, and with --decoder "
                f"torchcodec {model.device} decodes in this one; leave one of the two out"
            )


def _device(arguments: argparse.Namespace) -> "torch.device | None":
    """Where this process has its model; under Ray it only looks at it."""
    import torch

    from vidprune.inference import named_device

    if _on_ray(arguments):
        return torch.device("cpu")
    return named_device(arguments.device) if arguments.device else None


def _job(
    arguments: argparse.Namespace,
    items: Any,
    question: "Question",
    assembly: "Assembly",
    model: "ViewModel",
) -> "Job":
    from dataclasses import asdict

    from vidprune.commands.evaluate import model_digest
    from vidprune.corpus.job import Job
    from vidprune.reducers.spec import describe

    reducer = describe(model.model.reducer)
    digest = model_digest(model.model)
    return Job(
        items=items,
        question=question,
        told={"model": f"{arguments.model} {digest}", "reducer": reducer},
        settings={
            "dtype": assembly.dtype,
            "batch_size": assembly.batch_size,
            "compiled": assembly.compiled,
            "onednn": assembly.onednn,
            "attn_implementation": assembly.attn_implementation,
            # Named where they are, so that folders of before go on.
            **({"replayed": True} if assembly.replayed else {}),
            **({"decoder": model.read_by} if model.read_by != "pyav" else {}),
            **({"quantize": assembly.quantize} if assembly.quantize else {}),
            "protocol": asdict(model.protocol),
        },
        shard_size=arguments.shard_size,
    )


def _engine(
    arguments: argparse.Namespace, question: "Question", assembly: "Assembly", model: "ViewModel"
) -> Any:
    from vidprune.video.guarded import Limits

    limits = Limits(seconds=arguments.decode_seconds, gib=arguments.decode_gib)
    fetch = Limits(seconds=arguments.fetch_seconds, gib=arguments.fetch_gib)
    if _on_ray(arguments):
        from vidprune.corpus.on_ray import OnRay

        return OnRay(
            assembly=assembly,
            protocol=model.protocol,
            question=question,
            limits=limits,
            fetch=fetch,
            decoders=arguments.decoders,
            models=arguments.models,
            address=arguments.address,
            on_cpu=arguments.device == "cpu",
        )
    from vidprune.corpus.alone import Alone

    return Alone(model, question, limits, fetch, workers=arguments.workers)


class _Shown:
    """Progress on a terminal, and a line now and then elsewhere."""

    _EVERY_SECONDS = 30.0

    def __init__(self) -> None:
        self._last = float("-inf")

    def __enter__(self) -> "_Shown":
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def __call__(self, progress: "Progress") -> None:
        live = sys.stderr.isatty()
        if progress.seconds - self._last < (0.2 if live else self._EVERY_SECONDS):
            return
        self._last = progress.seconds
        end = "\r" if live else "\n"
        print(f"\x1b[2K{_line(progress)}" if live else _line(progress), end=end, file=sys.stderr)
        sys.stderr.flush()


def _line(progress: "Progress") -> str:
    left = progress.seconds_left
    parts = [f"{progress.done} of {_counted(progress.total, 'video')}"]
    if left is not None:
        parts.append(f"{progress.videos_per_second:.3g}/s, {_clock(left)} left")
    if progress.errors:
        parts.append(f"{progress.errors} unreadable")
    return ", ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _tell(text: str) -> None:
    print(f"vidprune: {shown(text)}", file=sys.stderr)


def _finish(output: str, summary: "Summary") -> int:
    errors = f", {summary.errors} with an error" if summary.errors else ""
    held = f"{_counted(summary.videos, 'video')} in {_counted(summary.shards, 'shard')}"
    open_console().print(f"{held}{errors}: {shown(output)}", markup=False)
    return FAILURE if summary.errors else 0
