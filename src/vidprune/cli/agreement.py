"""`vidprune agreement`."""

import argparse
import sys
from typing import Any

from vidprune.cli.classifiers import checkpoint_name, make_classifiers
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import add_model, add_views
from vidprune.cli.statuses import FAILURE


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "agreement",
        help="how near pruned predictions are to dense ones, without labels",
        description="Run a model on videos, dense and with each reducer, and say how often they "
        "give the same class, how far probabilities move, and what a view costs. Videos that "
        "cannot be read are named, the others go on, and the exit status is 1.",
    )
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder or glob pattern")
    add_model(verb, several_reducers=True)
    add_views(verb)
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.agreement import agreement
    from vidprune.video import expand_inputs

    found = agreement(
        make_classifiers(arguments, ["none", *arguments.reducers]),
        expand_inputs(arguments.videos),
        checkpoint=checkpoint_name(arguments),
        command=arguments.command,
        workers=arguments.workers,
    )
    if arguments.json:
        print(found.to_json(), end="")
    else:
        from vidprune.terminal import agreement_table

        open_console().print(agreement_table(found))
    name_unreadable(found.unreadable)
    for row in found.rows:
        if row.nearness is not None and row.nearness.not_finite:
            print(
                f"{row.nearness.not_finite} videos do not agree under {row.reducer} because logits "
                "are not finite; try --dtype bf16 or fp32",
                file=sys.stderr,
            )
    return FAILURE if found.unreadable else 0
