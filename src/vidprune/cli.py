"""The command line: the one place that parses arguments, prints and exits."""

import argparse
import json
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

    from vidprune.commands.evaluate import Observer
    from vidprune.inference import Classifier
    from vidprune.report import Prediction

FAILURE, USAGE, INTERRUPTED = 1, 2, 130

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
    arguments = _parser().parse_args(argv)
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
                checkpoint=" ".join(filter(None, (arguments.model, arguments.arch))),
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
        for video in report.unreadable:
            print(f"unreadable: {video['path']}: {video['reason']}", file=sys.stderr)
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


def _classifier(arguments: argparse.Namespace) -> "Classifier":
    from vidprune.backbones.videomae_checkpoints import ARCHITECTURES
    from vidprune.inference import Classifier, named_device
    from vidprune.model import prune
    from vidprune.prepare import ViewOptions, load_model, protocol_for

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
    return Classifier(
        prune(model, arguments.reducer),
        protocol_for(model, options),
        batch_size=arguments.batch_size,
        device=named_device(arguments.device) if arguments.device else None,
    )


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"vidprune: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vidprune",
        description="Video transformers made cheaper to run, without training.",
    )
    parser.add_argument("--version", action="version", version=f"vidprune {version('vidprune')}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for add in (_add_predict, _add_evaluate, _add_demo):
        add(verbs).add_argument(
            "--debug", action="store_true", help="show tracebacks and what libraries say"
        )
    return parser


def _add_predict(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "predict",
        help="the most likely classes of videos",
        description="Classify videos, dense or pruned. Videos that cannot be read are named, the "
        "others go on, and the exit status is 1.",
    )
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder or glob pattern")
    _add_model(verb)
    _add_views(verb)
    verb.add_argument("--top-k", type=int, default=5, metavar="K", help="classes shown (5)")
    verb.add_argument("--json", action="store_true", help="one JSON object per input, in order")
    verb.set_defaults(run=_predict)
    return verb


def _add_evaluate(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="top-1 and top-5 on labelled videos",
        description="Evaluate a model, dense or pruned. The output folder gets report.json and "
        "views.jsonl (logits of every view); the same command takes up a run that was cut off, "
        "and under torchrun (torchrun -m vidprune evaluate ...) every process does its share.",
    )
    verb.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="list file of `path label` lines, folder with such a test.csv, or folder of folders "
        "named after the classes",
    )
    verb.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    _add_model(verb)
    _add_views(verb)
    verb.add_argument(
        "--strict", action="store_true", help="stop at the first video that cannot be read"
    )
    verb.add_argument(
        "--restart", action="store_true", help="discard what the output folder holds of a run"
    )
    verb.add_argument("--parquet", action="store_true", help="also write views.parquet")
    verb.add_argument(
        "--tensorboard", action="store_true", help="also write scalars to DIR/tensorboard"
    )
    verb.set_defaults(run=_evaluate)
    return verb


def _add_demo(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "demo",
        help="see pruning at work on generated clips, without any download",
        description="Write small clips in which the class lies in the motion, evaluate the model "
        "that ships with vidprune dense and pruned, and draw which tokens stayed.",
    )
    verb.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="(demo-output)"
    )
    verb.add_argument(
        "--per-class", type=int, default=40, metavar="N", help="clips of each class (40)"
    )
    verb.set_defaults(run=_demo)
    return verb


def _add_model(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("model")
    group.add_argument(
        "--model",
        required=True,
        metavar="SOURCE",
        help="Hugging Face id or folder, original .pth or .safetensors (with --arch or --config), "
        "name of an architecture for random weights, or `demo`",
    )
    group.add_argument("--arch", metavar="NAME", help="architecture of an original checkpoint")
    group.add_argument(
        "--config", type=Path, metavar="JSON", help="VideoMAEConfig of an original checkpoint"
    )
    group.add_argument(
        "--reducer", default="none", metavar="SPEC", help="none, sta:r=64, random:r=64, ... (none)"
    )
    group.add_argument(
        "--labels", metavar="SET", help="kinetics400, something_something_v2, or a file of names"
    )
    group.add_argument(
        "--positions",
        choices=("interpolate", "recompute"),
        default="interpolate",
        help="position table at other sizes than the checkpoint's (interpolate)",
    )
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)")
    group.add_argument("--device", help="cuda, cuda:1, mps or cpu (the best there is)")
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="views at once (8)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (one per core)"
    )


def _add_views(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "views", "a preset, and options that replace its parts; frames and size also fit the model"
    )
    group.add_argument(
        "--protocol",
        metavar="NAME",
        help="k400 (5x3 views), ssv2 (2x3), ucf101, hmdb51 or single (what the checkpoint "
        "records, else single)",
    )
    group.add_argument(
        "--sampling",
        choices=("dense", "segment"),
        help="every stride-th frame, or one from each equal part of the video",
    )
    for name, what in (
        ("segments", "clips along time"),
        ("crops", "squares along the longer side"),
        ("stride", "frames between neighbours of a dense clip"),
        ("frames", "frames of a clip"),
        ("size", "pixels of a square"),
    ):
        group.add_argument(f"--{name}", type=int, metavar="N", help=what)
