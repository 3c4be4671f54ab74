"""`vidprune evaluate`."""

import argparse
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import checkpoint_name, make_classifier
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import add_model, add_views, named_path
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from vidprune.commands.evaluate import Observer


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="top-1 and top-5 on labelled videos",
        description="Evaluate a model, dense or pruned. The output folder gets report.json and "
        "views.jsonl (logits of every view); the same command takes up a run that was cut off, "
        "and under torchrun (torchrun -m vidprune evaluate ...) every process does its share.",
    )
    verb.add_argument(
        "--data",
        type=named_path,
        required=True,
        metavar="PATH",
        help="list file of `path label` lines, folder with such a test.csv, or folder of folders "
        "named after the classes",
    )
    verb.add_argument(
        "--output", type=named_path, required=True, metavar="DIR", help="folder of the run"
    )
    add_model(verb)
    add_views(verb)
    verb.add_argument(
        "--strict", action="store_true", help="stop at the first video that cannot be read"
    )
    verb.add_argument(
        "--restart",
        action="store_true",
        help="discard what the output folder holds of a run; if cut off, go on without it",
    )
    verb.add_argument("--parquet", action="store_true", help="also write views.parquet")
    verb.add_argument(
        "--tensorboard", action="store_true", help="also write scalars to DIR/tensorboard"
    )
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.evaluate import evaluate
    from vidprune.parallel import join, leave
    from vidprune.prepare import class_names_of
    from vidprune.video import read_dataset

    process = join()
    try:
        classifier = make_classifier(arguments)
        samples = read_dataset(arguments.data, classes=class_names_of(classifier.model))
        with ExitStack() as stack:
            report = evaluate(
                classifier,
                samples,
                output=arguments.output,
                checkpoint=checkpoint_name(arguments),
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

        open_console().print(report_table(report))
        name_unreadable(report.unreadable)
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

    bar = Bar(*progress_columns(), console=open_console(stderr=True))
    observers: list[Observer] = [stack.enter_context(closing(ProgressBar(bar)))]
    if arguments.tensorboard:
        from vidprune.tensorboard import Scalars

        observers.append(stack.enter_context(closing(Scalars(arguments.output / "tensorboard"))))
    return lambda progress: [observe(progress) for observe in observers]
