"""`vidprune reproduce`."""

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprune.cli.console import name_unreadable, observers_of_evaluations, open_console
from vidprune.cli.options import add_machine, machine_of, named_path
from vidprune.cli.statuses import FAILURE

# Repeated here, so that help costs no import of torch; a test keeps them alike.
TABLES = ("table2", "table3", "table6", "fig5", "views")


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "reproduce",
        help="rerun a table of the STA paper and see both side by side",
        description="Rerun a table of the STA paper (ICCV 2023) on your own copies of its data and "
        "checkpoints. A change is judged against the run's own unpruned model. The output folder "
        "gets the record, such as table2.json, and a run of evaluate for each figure; the same "
        "command takes up what was cut off, and torchrun shares it over processes. The exit "
        "status is 1 where a figure differs, but for torchrun.",
    )
    verb.add_argument(
        "table",
        choices=TABLES,
        help="table2: ViTs over r; table3: VideoSwin over r; table6: what the method is made of; "
        "fig5: STA and random; views: clips of a video",
    )
    verb.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="SET=PATH",
        help="k400=PATH, ssv2=PATH: labelled videos, as of evaluate",
    )
    verb.add_argument(
        "--checkpoints",
        nargs="+",
        required=True,
        metavar="ARCH/SET=SOURCE",
        help="such as vit_base_patch16_224/k400=checkpoint.pth; rows without one are left out",
    )
    verb.add_argument(
        "--output", type=named_path, required=True, metavar="DIR", help="folder of it all"
    )
    add_machine(verb)
    verb.add_argument(
        "--restart", action="store_true", help="discard the runs that the output folder holds"
    )
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.reproduce import Wanted, reproduce
    from vidprune.holding import held
    from vidprune.parallel import join, leave
    from vidprune.runs import make_folder
    from vidprune.terminal import reproduction_table

    data = _pairs("data", arguments.data)
    wanted = Wanted(
        table=arguments.table,
        data={name: Path(path) for name, path in data.items()},
        checkpoints=_pairs("checkpoints", arguments.checkpoints),
        dtype=arguments.dtype,
    )
    process = join()
    try:
        make_folder(arguments.output)
        with ExitStack() as stack:
            if process.reports:
                stack.enter_context(held(arguments.output))
            found = reproduce(
                wanted,
                output=arguments.output,
                machine=replace(machine_of(arguments), process=process),
                command=arguments.command,
                restart=arguments.restart,
                **(observers_of_evaluations(stack) if process.reports else {}),
            )
    finally:
        leave()
    if found is None:
        return 0
    if arguments.json:
        print(found.to_json(), end="")
    else:
        open_console().print(reproduction_table(found))
    name_unreadable(found.unreadable)
    verdicts = {verdict for row in found.rows for verdict in (row.verdict, row.gmacs_verdict)}
    # torchrun would call a run that has come to its end a failed one.
    return FAILURE if "differs" in verdicts and process.count == 1 else 0


def _pairs(argument: str, words: list[str]) -> dict[str, str]:
    """`name=value` words as a dictionary."""
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name or not value:
            raise ValueError(f"{argument} {word!r} must be a name and a path, such as k400=PATH")
        if name in found:
            raise ValueError(f"{argument} names {name!r} twice; give it once")
        found[name] = value
    return found
