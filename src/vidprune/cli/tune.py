"""`vidprune tune`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import (
    assembly_of,
    check_no_export,
    checkpoint_name,
    tell_random_weights,
)
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import (
    add_machine,
    add_products,
    add_source,
    add_source_pattern,
    add_views,
    named_path,
)
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from vidprune.commands.tune import Asked, Sighted
    from vidprune.tuning.record import Tuning
    from vidprune.tuning.target import Target

_TARGETS = {
    "gmacs": ("N", "at most so many GMACs a view"),
    "speedup": ("X", "at least X times as fast as dense, on this machine at --batch-size"),
    "latency_ms": ("MS", "at most so many milliseconds a batch of --batch-size"),
    "agreement": ("PERCENT", "at least so many videos with the dense model's class"),
    "kl_nats": ("NATS", "at most so much KL from the dense model"),
    "drop_points": ("POINTS", "at most so many points of top-1 lost; takes labels"),
}


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "tune",
        help="the reducer that reaches a target, found on some dozens of your videos",
        description="Search for the method, its places and amounts that reach a target, on videos "
        "with or without labels, and check what is found on others. The output folder gets "
        "recipe.json, which --reducer of every command takes, tune.json and a plot. The exit "
        "status is 1 where the target is not reached.",
    )
    verb.add_argument(
        "--data",
        type=named_path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="videos or folders of them; one list file or folder of class folders has labels",
    )
    verb.add_argument(
        "--output",
        type=named_path,
        required=True,
        metavar="DIR",
        help="of recipe and record",
    )
    group = verb.add_argument_group("target", "one of these")
    one = group.add_mutually_exclusive_group(required=True)
    for name, (unit, said) in _TARGETS.items():
        flag = f"--{name.replace('_', '-')}"
        one.add_argument(flag, dest=f"target_{name}", type=float, metavar=unit, help=said)
    group = verb.add_argument_group("model")
    add_source(group)
    group.add_argument(
        "--labels", metavar="SET", help="kinetics400, something_something_v2, or a file of names"
    )
    add_products(group)
    add_machine(group, decodes_beside=False)
    group = verb.add_argument_group("search")
    group.add_argument(
        "--method",
        dest="methods",
        nargs="+",
        metavar="SPEC",
        help="without r, places or schedule (sta sta:fold=true random:fold=true tome ward)",
    )
    group.add_argument(
        "--by-content",
        nargs="+",
        default=(),
        choices=("confidence", "change"),
        metavar="SIGNAL",
        help="also let a clip's confidence or change choose between two settings (docs/content.md)",
    )
    group.add_argument("--trials", type=int, default=60, metavar="N", help="at most (60)")
    group.add_argument("--minutes", type=float, metavar="N", help="at most, of the search itself")
    group.add_argument(
        "--check-share",
        type=float,
        default=1 / 3,
        metavar="SHARE",
        help="of the videos, which the search does not see (a third)",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="(0)")
    add_views(verb)
    add_source_pattern(verb)
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.tune import RECIPE, tune
    from vidprune.holding import held
    from vidprune.inference import named_device
    from vidprune.runs import make_folder
    from vidprune.terminal import tried_line, tuning_table

    check_no_export(arguments)
    asked = _asked(arguments)
    (model,), protocol = assembly_of(arguments).models(["none"])
    tell_random_weights(arguments)
    videos = _videos(arguments.data, model)
    make_folder(arguments.output)
    with held(arguments.output), open_console(stderr=True).status("decoding") as status:
        found = tune(
            model,
            protocol,
            videos,
            asked,
            output=arguments.output,
            checkpoint=checkpoint_name(arguments),
            device=named_device(arguments.device) if arguments.device else None,
            workers=arguments.workers,
            command=arguments.command,
            tell=lambda text: print(f"vidprune: {text}", file=sys.stderr),
            observe=lambda tried, best: status.update(tried_line(tried, best)),
        )
    _draw(found, arguments.output)
    if arguments.json:
        print(found.to_json(), end="")
    else:
        open_console().print(tuning_table(found))
        open_console().print(f"{arguments.output / RECIPE}", markup=False)
    name_unreadable(found.unreadable)
    return 0 if found.reached else FAILURE


def _asked(arguments: argparse.Namespace) -> "Asked":
    from vidprune.commands.tune import Asked
    from vidprune.tuning.search import Budget
    from vidprune.tuning.space import METHODS

    minutes = arguments.minutes
    if minutes is not None and not minutes > 0:
        raise ValueError(f"--minutes {minutes:g} must be above 0")
    return Asked(
        target=_target(arguments),
        methods=tuple(arguments.methods or METHODS),
        budget=Budget(trials=arguments.trials, seconds=None if minutes is None else 60 * minutes),
        check_share=arguments.check_share,
        source=arguments.source,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        by_content=tuple(arguments.by_content),
    )


def _target(arguments: argparse.Namespace) -> "Target":
    from vidprune.tuning.target import Target

    given = {name: getattr(arguments, f"target_{name}") for name in _TARGETS}
    (kind,) = [name for name, value in given.items() if value is not None]
    return Target(kind=kind, value=given[kind])  # type: ignore[arg-type]


def _videos(data: list[Path], model: Any) -> "list[Sighted]":
    """Labelled where one list or folder says so, else whatever videos there are."""
    from vidprune.commands.tune import Sighted
    from vidprune.prepare import class_names_of
    from vidprune.video import expand_inputs, read_dataset

    if len(data) == 1 and _says_labels(data[0]):
        samples = read_dataset(data[0], classes=class_names_of(model))
        return [Sighted(each.name, each.path, each.label) for each in samples]
    paths = expand_inputs([str(path) for path in data])
    return [Sighted(str(path), path) for path in dict.fromkeys(paths)]


def _says_labels(path: Path) -> bool:
    """A list file, a folder that holds one, or a folder of folders and no videos."""
    if path.is_file():
        return path.suffix in (".csv", ".txt")
    inside = list(path.iterdir()) if path.is_dir() else []
    return (path / "test.csv").is_file() or (bool(inside) and all(each.is_dir() for each in inside))


def _draw(found: "Tuning", folder: Path) -> None:
    from vidprune.drawing.tuning import draw_tuning

    try:
        draw_tuning(found, folder / "tune")
    except RuntimeError as error:
        # The record is there.
        print(f"vidprune: {error}", file=sys.stderr)
