"""`vidprune demo`."""

import argparse
from pathlib import Path
from typing import Any

from vidprune.cli.console import open_console
from vidprune.cli.options import named_path


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "demo",
        help="see pruning at work on generated clips, without any download",
        description="Write small clips in which the class lies in the motion, evaluate the model "
        "that ships with vidprune dense and pruned, and draw which tokens stayed.",
    )
    verb.add_argument(
        "--output",
        type=named_path,
        default=Path("demo-output"),
        metavar="DIR",
        help="(demo-output)",
    )
    verb.add_argument(
        "--per-class", type=int, default=40, metavar="N", help="clips of each class (40)"
    )
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.demo import PICTURE, demo
    from vidprune.terminal import demo_table

    console = open_console(stderr=True)
    with console.status("") as status:
        found = demo(arguments.output, per_class=arguments.per_class, tell=status.update)
    open_console().print(demo_table(found))
    print(f"Which tokens stayed: {arguments.output / PICTURE}")
    return 0
