"""`vidprune visualize`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import checkpoint_name, make_models
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import add_model, add_views, named_path
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from vidprune.insight.summary import Summary


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "visualize",
        help="see which tokens go, and why",
        description="Draw one view of each video, and below it what each reducer leaves of it "
        "after every stage. DIR gets a picture and films of each clip, a page to look through, and "
        "the figures behind them. Videos that cannot be read are named, the others go on, and the "
        "exit status is 1.",
    )
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder or glob pattern")
    verb.add_argument(
        "--output", type=named_path, required=True, metavar="DIR", help="folder of it all"
    )
    add_model(verb, several_reducers=True, batches=False)
    add_views(verb)
    group = verb.add_argument_group("pictures")
    group.add_argument(
        "--formats",
        nargs="*",
        default=["png", "mp4", "gif", "html"],
        choices=("png", "mp4", "gif", "html"),
        help="(all: png mp4 gif html); none of them for the figures alone",
    )
    group.add_argument(
        "--scores", action="store_true", help="also draw what reducers judged tokens by (sta)"
    )
    group.add_argument(
        "--view", type=int, metavar="N", help="which of the protocol's views (the middle one)"
    )
    group.add_argument(
        "--label",
        metavar="CLASS",
        help="name or number of the class whose loss GradNorm takes (the one predicted)",
    )
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.visualize import Wish, visualize
    from vidprune.inference import best_device, named_device
    from vidprune.prepare import class_number
    from vidprune.terminal import progress_of
    from vidprune.video import expand_inputs

    models, protocol = make_models(arguments, ["none", *arguments.reducers])
    models[0].to(named_device(arguments.device) if arguments.device else best_device())
    label = None if arguments.label is None else class_number(models[0], arguments.label)
    videos = expand_inputs(arguments.videos)
    with progress_of(len(videos), "clips", open_console(stderr=True)) as observe:
        found = visualize(
            models,
            protocol,
            videos,
            output=arguments.output,
            wish=Wish(
                formats=tuple(arguments.formats),
                scores=arguments.scores,
                view=arguments.view,
                label=label,
            ),
            checkpoint=checkpoint_name(arguments),
            command=arguments.command,
            workers=arguments.workers,
            observe=observe,
        )
    return _tell(found, arguments)


def _tell(found: "Summary", arguments: argparse.Namespace) -> int:
    from vidprune.commands.visualize import ON_PAGE, PAGE

    name_unreadable(found.unreadable)
    if not found.rows:
        return FAILURE
    if found.num_clips > ON_PAGE and "html" in arguments.formats:
        print(f"{PAGE} shows the first {ON_PAGE} clips of {found.num_clips}", file=sys.stderr)
    _draw_curves(found, arguments.output)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        from vidprune.terminal import summary_table

        open_console().print(summary_table(found))
        print(f"pictures, films and figures: {arguments.output}")
    return FAILURE if found.unreadable else 0


def _draw_curves(found: "Summary", folder: Path) -> None:
    from vidprune.commands.visualize import CURVES
    from vidprune.drawing.curves import draw_curves

    try:
        draw_curves(found, folder / CURVES)
    except RuntimeError as error:
        # All else is there.
        print(f"vidprune: {error}", file=sys.stderr)
