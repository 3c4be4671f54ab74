"""`vidprune costs`."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from vidprune.cli.console import open_console
from vidprune.cli.options import SPECS, add_clip_shape, add_source


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "costs",
        help="multiply-accumulates of a view, dense and pruned",
        description="Count what a forward costs by kind of module, from the shapes alone: no "
        "weights are read and nothing is run.",
    )
    add_source(verb)
    verb.add_argument(
        "--reducer",
        dest="reducers",
        nargs="+",
        default=(),
        metavar="SPEC",
        help=f"none, {SPECS} (what the checkpoint records, or none)",
    )
    add_clip_shape(verb)
    verb.add_argument("--json", action="store_true", help="one JSON object per reducer")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.backbones.checkpoints import configuration
    from vidprune.macs import costs
    from vidprune.pruned import RECORDED
    from vidprune.reducers.spec import NONE
    from vidprune.terminal import costs_table

    config = configuration(
        arguments.model,
        arch=arguments.arch,
        config=arguments.config,
        frames=arguments.frames,
        size=arguments.size,
    )
    reducers = arguments.reducers or [str(getattr(config, RECORDED, NONE))]
    found = {reducer: costs(config, reducer) for reducer in reducers}
    if arguments.json:
        for reducer, cost in found.items():
            print(json.dumps({"model": arguments.model, "reducer": reducer, **asdict(cost)}))
    else:
        open_console().print(costs_table(found))
    return 0
