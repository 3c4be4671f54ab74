"""`vidprune curves`."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.console import name_unreadable, observers_of_evaluations, open_console
from vidprune.cli.options import add_machine, add_source_pattern, add_views, machine_of, named_path
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from vidprune.commands.wishes import Wish
    from vidprune.tradeoff import TradeOff


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "curves",
        help="accuracy over arithmetic: every method at the same costs",
        description="Evaluate reducers, random pruning and cheaper dense models at the same shares "
        "of the dense arithmetic, paired video by video. The output folder gets curves.json, "
        "curves.svg, curves.png and a run of evaluate for each setting; the same command takes up "
        "what was cut off; another one uses the same runs and keeps the earlier record beside "
        "its own, as curves.1.json.",
    )
    verb.add_argument(
        "--data",
        type=named_path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="labelled videos, as of evaluate; several are pooled, each with its own --model",
    )
    verb.add_argument(
        "--output", type=named_path, required=True, metavar="DIR", help="folder of it all"
    )
    _add_points(verb.add_argument_group("models"))
    add_views(verb)
    add_source_pattern(verb)
    verb.add_argument(
        "--restart", action="store_true", help="discard the runs that the output folder holds"
    )
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def _add_points(group: Any) -> None:
    """What is compared at which costs."""
    group.add_argument(
        "--model",
        nargs="+",
        required=True,
        metavar="SOURCE",
        help="Hugging Face ids or folders, or `demo`",
    )
    group.add_argument(
        "--smaller",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="cheaper dense models beside them",
    )
    group.add_argument(
        "--reducer",
        dest="methods",
        nargs="+",
        required=True,
        metavar="SPEC",
        help="without r: sta, random:fold=true, tome, ... (random comes along in any case)",
    )
    group.add_argument(
        "--against",
        metavar="SPEC",
        help="pair each with this method too, in top-1 and in KL, at the same cost",
    )
    group.add_argument(
        "--at",
        nargs="+",
        type=float,
        metavar="SHARE",
        help="of the dense arithmetic (0.9 0.75 0.6 0.5 0.4 0.3 0.2 0.15)",
    )
    group.add_argument(
        "--no-alternatives",
        action="store_true",
        help="leave the dense model on fewer frames, smaller frames and fewer views out",
    )
    group.add_argument("--labels", metavar="SET", help="names of the classes, as of evaluate")
    add_machine(group)


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.curves import curves
    from vidprune.holding import held
    from vidprune.runs import make_folder
    from vidprune.terminal import tradeoff_table

    wish = _wish(arguments)
    make_folder(arguments.output)
    with ExitStack() as stack:
        stack.enter_context(held(arguments.output))
        found = curves(
            wish,
            output=arguments.output,
            machine=machine_of(arguments),
            command=arguments.command,
            restart=arguments.restart,
            **observers_of_evaluations(stack),
        )
    _draw(found, arguments.output)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        open_console().print(tradeoff_table(found))
    name_unreadable(found.unreadable)
    for setting, count in found.not_finite.items():
        print(
            f"{count} videos count as misses with {setting} because their logits are not finite",
            file=sys.stderr,
        )
    return FAILURE if found.unreadable else 0


def _wish(arguments: argparse.Namespace) -> "Wish":
    from vidprune.commands.wishes import SHARES, Wish
    from vidprune.prepare import ViewOptions

    names = ("protocol", "sampling", "segments", "crops", "stride", "frames", "size")
    return Wish(
        models=tuple(arguments.model),
        data=tuple(arguments.data),
        methods=tuple(arguments.methods),
        shares=tuple(arguments.at) if arguments.at else SHARES,
        smaller=tuple(arguments.smaller),
        alternatives=not arguments.no_alternatives,
        labels=arguments.labels,
        dtype=arguments.dtype,
        source=arguments.source,
        against=arguments.against,
        views=ViewOptions(**{name: getattr(arguments, name) for name in names}),
    )


def _draw(found: "TradeOff", folder: Path) -> None:
    from vidprune.drawing.tradeoff import draw_tradeoff

    try:
        draw_tradeoff(found, folder / "curves")
    except RuntimeError as error:
        # The record is there.
        print(f"vidprune: {error}", file=sys.stderr)
