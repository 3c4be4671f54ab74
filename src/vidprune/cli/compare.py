"""`vidprune compare`."""

import argparse
import sys
from typing import Any

from vidprune.cli.console import open_console
from vidprune.cli.options import add_source_pattern, named_path


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "compare",
        help="runs of evaluate against each other, video by video",
        description="Compare runs of `evaluate` on the same videos with the first of them: paired "
        "difference in top-1, agreement, divergence, rank correlation, each with its interval, and "
        "the arithmetic of a whole video. Runs may differ in model, reducer, dtype and views.",
    )
    verb.add_argument("reference", type=named_path, metavar="RUN", help="folder of the reference")
    verb.add_argument(
        "runs", type=named_path, nargs="+", metavar="RUN", help="folders of other runs"
    )
    add_source_pattern(verb)
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.compare import compare

    found = compare(
        [arguments.reference, *arguments.runs], source=arguments.source, command=arguments.command
    )
    if arguments.json:
        print(found.to_json(), end="")
    else:
        from vidprune.terminal import comparison_table

        open_console().print(comparison_table(found))
    for run in found.runs:
        if run.not_finite:
            print(
                f"{run.not_finite} videos of {run.run} count as misses because their logits are "
                "not finite",
                file=sys.stderr,
            )
    return 0
