"""Reducers of one model, evaluated on the same views of the same videos in one pass."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from transformers import PreTrainedModel

from vidprune.commands.evaluate import evaluate_each
from vidprune.inference import Classifier
from vidprune.parallel import Process
from vidprune.prepare import ViewOptions, class_names_of, protocol_for
from vidprune.pruned import prune
from vidprune.report import Progress, Report
from vidprune.video import read_dataset

Thing = TypeVar("Thing")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What evaluations run on: `batch_size` views at once, on `device` (None: the best there is),
    with so many `workers` that decode (None: as the cores allow)."""

    batch_size: int = 8
    device: torch.device | None = None
    workers: int | None = None
    process: Process = field(default_factory=Process)


def passes(things: Iterable[Thing], key: Callable[[Thing], Hashable]) -> list[list[Thing]]:
    """Those of one key together, in the order in which keys come first."""
    found: dict[Hashable, list[Thing]] = {}
    for thing in things:
        found.setdefault(key(thing), []).append(thing)
    return list(found.values())


def evaluate_side_by_side(
    model: PreTrainedModel,
    reducers: Mapping[Path, str],
    *,
    views: ViewOptions,
    checkpoint: str,
    data: Path,
    machine: Machine,
    command: str = "",
    restart: bool = False,
    observe: Callable[[Progress], object] = lambda progress: None,
) -> list[Report]:
    """Evaluate a model with each reducer, every one into the run folder that it is named for.

    Raises what `evaluate_each` does, and ValueError for a reducer that does not fit the model.
    Reports are the first process's; others have none.
    """
    protocol = protocol_for(model, views)
    reports = evaluate_each(
        {
            folder: Classifier(
                prune(model, reducer),
                protocol,
                batch_size=machine.batch_size,
                device=machine.device,
            )
            for folder, reducer in reducers.items()
        },
        read_dataset(data, classes=class_names_of(model)),
        checkpoint=checkpoint,
        data=str(data),
        command=command,
        workers=machine.workers,
        restart=restart,
        process=machine.process,
        observe=observe,
    )
    return list(reports.values())
