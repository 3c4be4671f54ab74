"""The command line: the one place that prints and exits; `arguments` says what it takes."""

import argparse
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vidprune.arguments import USAGE, parser

if TYPE_CHECKING:
    from rich.console import Console

    from vidprune.benchmarking.report import Benchmark
    from vidprune.commands.evaluate import Observer
    from vidprune.inference import Classifier
    from vidprune.report import Prediction

FAILURE, INTERRUPTED = 1, 130

# Errors about the arguments themselves; whatever else goes wrong is a failure.
_ARGUMENT_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 for a failure, 2 for wrong arguments."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser(RUNS).parse_args(argv)
    arguments.command = shlex.join(["vidprune", *argv])
    if not arguments.debug:
        _quieten_libraries()
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, arguments.debug)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from failing over it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _ARGUMENT_ERRORS as error:
        return _fail(_sentence(error), USAGE, arguments.debug)
    except Exception as error:  # noqa: BLE001 - the last stop: users get a sentence, not a traceback
        return _fail(_sentence(error), FAILURE, arguments.debug)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        raise
    print(f"vidprune: {message}", file=sys.stderr)
    return status


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).strip().splitlines() or [""]
    # An error of a decoding process comes with its traceback before it.
    message = " ".join((lines[-1] if "Original Traceback" in str(error) else str(error)).split())
    ours = type(error).__module__.startswith("vidprune") or isinstance(error, _ARGUMENT_ERRORS)
    return message if ours and message else f"{type(error).__name__}: {message} (see --debug)"


def _quieten_libraries() -> None:
    """Leave the terminal to our own words; transformers prints tables while it loads."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


# --- predict ------------------------------------------------------------------------------------


def _predict(arguments: argparse.Namespace) -> int:
    from vidprune.commands.predict import predict
    from vidprune.video import expand_inputs

    classifier = _classifier(arguments)
    videos = expand_inputs(arguments.videos)
    found = predict(classifier, videos, top_k=arguments.top_k, workers=arguments.workers)
    if arguments.json:
        # One after the other, so that a long list needs no memory and shows where it is.
        failures = [_print_json(prediction) for prediction in found]
    else:
        from vidprune.terminal import prediction_table

        predictions = list(found)
        _console().print(prediction_table(predictions))
        failures = [prediction.error is not None for prediction in predictions]
    return FAILURE if any(failures) else 0


def _print_json(prediction: "Prediction") -> bool:
    """Print one line; whether it is an error."""
    row = asdict(prediction)
    del row["error" if prediction.error is None else "top"]
    print(json.dumps(row), flush=True)
    return prediction.error is not None


# --- evaluate -----------------------------------------------------------------------------------


def _evaluate(arguments: argparse.Namespace) -> int:
    from vidprune.commands.evaluate import evaluate
    from vidprune.parallel import join, leave
    from vidprune.prepare import class_names_of
    from vidprune.video import read_dataset

    process = join()
    try:
        classifier = _classifier(arguments)
        samples = read_dataset(arguments.data, classes=class_names_of(classifier.model))
        with ExitStack() as stack:
            report = evaluate(
                classifier,
                samples,
                output=arguments.output,
                checkpoint=_checkpoint(arguments),
                data=str(arguments.data),
                command=arguments.command,
                workers=arguments.workers,
                strict=arguments.strict,
                restart=arguments.restart,
                parquet=arguments.parquet,
                process=process,
                **({"observe": _observer(arguments, stack)} if process.reports else {}),
            )
    finally:
        leave()
    if report is not None:
        from vidprune.terminal import report_table

        _console().print(report_table(report))
        _name_unreadable(report.unreadable)
        if report.not_finite:
            print(
                f"{len(report.not_finite)} videos count as misses because their logits are not "
                "finite; try --dtype bf16 or fp32",
                file=sys.stderr,
            )
        if not report.num_videos:
            return FAILURE
    return 0


def _observer(arguments: argparse.Namespace, stack: ExitStack) -> "Observer":
    """Whatever wants to know how an evaluation goes: the progress bar, TensorBoard."""
    from rich.progress import Progress as Bar

    from vidprune.terminal import ProgressBar, progress_columns

    bar = Bar(*progress_columns(), console=_console(stderr=True))
    observers: list[Observer] = [stack.enter_context(closing(ProgressBar(bar)))]
    if arguments.tensorboard:
        from vidprune.tensorboard import Scalars

        observers.append(stack.enter_context(closing(Scalars(arguments.output / "tensorboard"))))
    return lambda progress: [observe(progress) for observe in observers]


# --- compare, agreement -------------------------------------------------------------------------


def _compare(arguments: argparse.Namespace) -> int:
    from vidprune.commands.compare import compare

    found = compare([arguments.reference, *arguments.runs], command=arguments.command)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        from vidprune.terminal import comparison_table

        _console().print(comparison_table(found))
    for run in found.runs:
        if run.not_finite:
            print(
                f"{run.not_finite} videos of {run.run} count as misses because their logits are "
                "not finite",
                file=sys.stderr,
            )
    return 0


def _agreement(arguments: argparse.Namespace) -> int:
    from vidprune.commands.agreement import agreement
    from vidprune.video import expand_inputs

    found = agreement(
        _classifiers(arguments, ["none", *arguments.reducers]),
        expand_inputs(arguments.videos),
        checkpoint=_checkpoint(arguments),
        command=arguments.command,
        workers=arguments.workers,
    )
    if arguments.json:
        print(found.to_json(), end="")
    else:
        from vidprune.terminal import agreement_table

        _console().print(agreement_table(found))
    _name_unreadable(found.unreadable)
    for row in found.rows:
        if row.nearness is not None and row.nearness.not_finite:
            print(
                f"{row.nearness.not_finite} videos do not agree under {row.reducer} because logits "
                "are not finite; try --dtype bf16 or fp32",
                file=sys.stderr,
            )
    return FAILURE if found.unreadable else 0


# --- costs --------------------------------------------------------------------------------------


def _costs(arguments: argparse.Namespace) -> int:
    from vidprune.backbones.checkpoints import configuration
    from vidprune.macs import costs
    from vidprune.terminal import costs_table

    config = configuration(
        arguments.model,
        arch=arguments.arch,
        config=arguments.config,
        frames=arguments.frames,
        size=arguments.size,
    )
    found = {reducer: costs(config, reducer) for reducer in arguments.reducers}
    if arguments.json:
        for reducer, cost in found.items():
            print(json.dumps({"model": arguments.model, "reducer": reducer, **asdict(cost)}))
    else:
        _console().print(costs_table(found))
    return 0


# --- benchmark ----------------------------------------------------------------------------------

# Arguments that go into the plan under their own names.
PLANNED = (
    *("models", "reducers", "against", "smaller", "arch", "frames", "size"),
    *("dtypes", "batch_sizes", "modes", "repeats", "protocol", "workers"),
)


def _benchmark(arguments: argparse.Namespace) -> int:
    import torch

    from vidprune.commands.benchmark import Plan, benchmark, write
    from vidprune.inference import named_device
    from vidprune.runs import make_folder
    from vidprune.terminal import benchmark_tables
    from vidprune.video import expand_inputs

    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"threads={arguments.threads} must be at least 1")
        torch.set_num_threads(arguments.threads)
    given = {name: value for name, value in vars(arguments).items() if name in PLANNED}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    videos = expand_inputs(arguments.videos) if arguments.videos else ()
    given |= {"alternatives": not arguments.no_alternatives, "videos": videos}
    plan = Plan(**given)
    if arguments.output is not None:
        # Before anything is timed: nothing must be lost for want of a place.
        make_folder(arguments.output)

    def keep(found: "Benchmark") -> None:
        if arguments.output is not None:
            write(found, arguments.output)

    with _console(stderr=True).status("") as status:
        found = benchmark(
            plan,
            device=named_device(arguments.device) if arguments.device else None,
            command=arguments.command,
            tell=status.update,
            observe=keep,
        )
    if arguments.output is not None:
        _draw(found, arguments.output)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        console = _console()
        for table in benchmark_tables(found, width=console.width):
            console.print(table)
    _name_unreadable(found.unreadable)
    if not any(row.speed for row in found.rows):
        return FAILURE
    return FAILURE if found.unreadable else 0


def _draw(found: "Benchmark", folder: Path) -> None:
    from vidprune.benchmarking.plots import draw

    try:
        draw(found, folder)
    except RuntimeError as error:
        # The record is there, which plots can be drawn from later.
        print(f"vidprune: {error}", file=sys.stderr)


# --- demo ---------------------------------------------------------------------------------------


def _demo(arguments: argparse.Namespace) -> int:
    from vidprune.commands.demo import PICTURE, demo
    from vidprune.terminal import demo_table

    console = _console(stderr=True)
    with console.status("") as status:
        found = demo(arguments.output, per_class=arguments.per_class, tell=status.update)
    _console().print(demo_table(found))
    print(f"Which tokens stayed: {arguments.output / PICTURE}")
    return 0


# --- what several commands share ----------------------------------------------------------------


def _name_unreadable(videos: Iterable[Mapping[str, str]]) -> None:
    """Say on stderr which videos could not be read, a line each whatever their names hold."""
    from vidprune.terminal import shown

    for video in videos:
        print(f"unreadable: {shown(video['path'])}: {shown(video['reason'])}", file=sys.stderr)


def _checkpoint(arguments: argparse.Namespace) -> str:
    """How records name the model."""
    return " ".join(filter(None, (arguments.model, arguments.arch)))


def _classifier(arguments: argparse.Namespace) -> "Classifier":
    (classifier,) = _classifiers(arguments, [arguments.reducer])
    return classifier


def _classifiers(arguments: argparse.Namespace, reducers: Sequence[str]) -> list["Classifier"]:
    """The model with each of these reducers, over the same weights."""
    from vidprune.backbones.architectures import ARCHITECTURES
    from vidprune.inference import Classifier, named_device
    from vidprune.prepare import ViewOptions, load_model, protocol_for
    from vidprune.pruned import prune

    names = ("protocol", "sampling", "segments", "crops", "stride", "frames", "size")
    options = ViewOptions(**{name: getattr(arguments, name) for name in names})
    model = load_model(
        arguments.model,
        options=options,
        arch=arguments.arch,
        config=arguments.config,
        positions=arguments.positions,
        labels=arguments.labels,
        dtype=arguments.dtype,
    )
    if arguments.model in ARCHITECTURES and not Path(arguments.model).exists():
        print(f"vidprune: {arguments.model} has random weights", file=sys.stderr)
    return [
        Classifier(
            prune(model, reducer),
            protocol_for(model, options),
            batch_size=arguments.batch_size,
            device=named_device(arguments.device) if arguments.device else None,
        )
        for reducer in reducers
    ]


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


RUNS = {
    "predict": _predict,
    "evaluate": _evaluate,
    "compare": _compare,
    "agreement": _agreement,
    "costs": _costs,
    "benchmark": _benchmark,
    "demo": _demo,
}
