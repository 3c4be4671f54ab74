"""`vidprune benchmark`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import (
    SOURCES,
    SPECS,
    add_clip_shape,
    add_decoder,
    add_products,
    add_workers,
    named_path,
)
from vidprune.cli.statuses import FAILURE
from vidprune.printable import shown

if TYPE_CHECKING:
    from vidprune.benchmarking.report import Benchmark


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "benchmark",
        help="what pruning buys on this machine, against the best dense model",
        description="Time models, dense and pruned, in turn on fresh random clips; rivals and "
        "cheaper dense models of equal arithmetic stand beside them. DIR gets benchmark.json, "
        ".csv and .md, and plots. Speeds of different runs do not compare; ratios in one run do.",
    )
    verb.add_argument(
        "--model", dest="models", nargs="+", required=True, metavar="SOURCE", help=SOURCES
    )
    verb.add_argument("--arch", metavar="NAME", help="architecture of original checkpoints")
    verb.add_argument(
        "--reducer", dest="reducers", nargs="+", default=(), metavar="SPEC", help=SPECS
    )
    verb.add_argument(
        "--against",
        nargs="+",
        default=(),
        metavar="SPEC",
        help="rivals without r, such as random random:fold=true tome; each is given the r at "
        "which it costs what each --reducer costs",
    )
    verb.add_argument(
        "--no-alternatives",
        action="store_true",
        help="leave out dense models that cost as little: fewer or smaller frames, a smaller model",
    )
    verb.add_argument("--smaller", metavar="SOURCE", help="a smaller dense model to compare with")
    add_clip_shape(verb)
    _add_runs(verb)
    verb.add_argument(
        "--output",
        type=named_path,
        metavar="DIR",
        help="folder of the record and plots; another "
        "command's record in it is kept under a number",
    )
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def _add_runs(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group(
        "runs", "every combination is timed, classifiers and encoders without a head alike"
    )
    group.add_argument(
        "--batch-size",
        dest="batch_sizes",
        type=int,
        nargs="+",
        default=[1, 8],
        metavar="N",
        help="(1 8)",
    )
    group.add_argument(
        "--dtype",
        dest="dtypes",
        nargs="+",
        choices=("fp32", "bf16", "fp16"),
        default=["fp32"],
        help="(fp32)",
    )
    group.add_argument(
        "--mode",
        dest="modes",
        nargs="+",
        choices=("eager", "blocks", "graph", "graph-frozen", "blocks-replayed", "cuda-graph"),
        default=["eager"],
        help="as it stands, blocks compiled, compiled as one graph, the same with weights laid out"
        " for a CPU; on CUDA the launches of compiled blocks or of the graph replayed (eager)",
    )
    group.add_argument("--repeats", type=int, default=10, metavar="N", help="(10)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of a forward")
    add_products(group)
    group.add_argument("--device", help="cuda, cuda:1, mps or cpu (the best there is)")
    videos = verb.add_argument_group(
        "videos", "also from files to logits, and nearness to dense; for models with a head"
    )
    videos.add_argument(
        "--video", dest="videos", nargs="+", default=(), metavar="VIDEO", help="files, folders"
    )
    videos.add_argument("--protocol", metavar="NAME", help="views, such as k400 (the model's own)")
    add_decoder(videos)
    add_workers(videos)


# Arguments that go into the plan under their own names.
PLANNED = (
    *("models", "reducers", "against", "smaller", "arch", "frames", "size"),
    *("onednn", "quantize", "attn_implementation"),
    *("dtypes", "batch_sizes", "modes", "repeats", "protocol", "decoder", "workers"),
)


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
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
            write(found, arguments.output, _tell)

    with open_console(stderr=True).status("") as status:
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
        console = open_console()
        for table in benchmark_tables(found, width=console.width):
            console.print(table)
    name_unreadable(found.unreadable)
    if not any(row.speed for row in found.rows):
        return FAILURE
    return FAILURE if found.unreadable else 0


def _tell(text: str) -> None:
    print(f"vidprune: {shown(text)}", file=sys.stderr)


def _draw(found: "Benchmark", folder: Path) -> None:
    from vidprune.benchmarking.plots import draw

    try:
        draw(found, folder)
    except RuntimeError as error:
        # The record is there, which plots can be drawn from later.
        print(f"vidprune: {error}", file=sys.stderr)
