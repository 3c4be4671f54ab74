"""A table of the paper rerun on one's own copies of its data and checkpoints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidprune.commands.compare import Run, change_of, read_run
from vidprune.commands.evaluate import evaluate
from vidprune.inference import Classifier
from vidprune.intervals import share_interval
from vidprune.metrics import top_class
from vidprune.parallel import Process
from vidprune.prepare import ViewOptions, class_names_of, load_model, protocol_for
from vidprune.pruned import prune
from vidprune.published import (
    CHANGE_TOLERANCE,
    GMACS_TOLERANCE,
    GMACS_TOLERANCE_SHARE,
    TABLES,
    Cell,
)
from vidprune.reducers.spec import NONE
from vidprune.report import Progress
from vidprune.reproduction import Reproduction, Rerun, Verdict, verdict_of
from vidprune.runs import write_atomically
from vidprune.video import read_dataset

RECORD = "reproduction.json"
_READ_OFF = 0.1  # points by which a figure that was read off a plot may be wrong


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A table by its name, and what there is to rerun it with.

    `data`: videos by the name of their data set, k400 or ssv2, as `evaluate` takes them.
    `checkpoints`: sources, as `load` takes them, by `architecture/data set`. Rows whose data or
    checkpoint is not there are left out.

    Raises ValueError for names that the table does not know, and where nothing is left of it.
    """

    table: str
    data: Mapping[str, Path]
    checkpoints: Mapping[str, str]
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ValueError(
                f"table={self.table!r} is not known; choose one of {', '.join(TABLES)}"
            )
        known = {cell.data for cell in TABLES[self.table]}
        _refuse_strangers("data", self.data, known, self.table)
        needed = {cell.needs for cell in TABLES[self.table]}
        _refuse_strangers("checkpoints", self.checkpoints, needed, self.table)
        if not self.cells:
            raise ValueError(
                f"nothing of {self.table} can be rerun: it needs data ({', '.join(sorted(known))}) "
                f"and checkpoints of the same data ({', '.join(sorted(needed))})"
            )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The figures for which there are data and a checkpoint."""
        return tuple(
            cell
            for cell in TABLES[self.table]
            if cell.data in self.data and cell.needs in self.checkpoints
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """What the other figures need, each once."""
        rest = (cell for cell in TABLES[self.table] if cell not in self.cells)
        lacking = (
            cell.needs if cell.data in self.data else f"the videos of {cell.data}" for cell in rest
        )
        return tuple(dict.fromkeys(lacking))


def _refuse_strangers(
    argument: str, given: Mapping[str, object], known: set[str], table: str
) -> None:
    for name in given:
        if name not in known:
            raise ValueError(
                f"{argument}={name!r} is not in {table}; it has {', '.join(sorted(known))}"
            )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the evaluations run on."""

    batch_size: int = 8
    device: torch.device | None = None
    workers: int | None = None
    process: Process = field(default_factory=Process)


def reproduce(
    wanted: Wanted,
    *,
    output: Path,
    machine: Machine | None = None,
    command: str = "",
    restart: bool = False,
    tell: Callable[[str], object] = lambda text: None,
    observe: Callable[[Progress], object] = lambda progress: None,
) -> Reproduction | None:
    """Evaluate what the table needs, and write `reproduction.json` into `output`.

    Every evaluation has a run folder of `evaluate` below `output/runs`, so that what was cut off
    goes on, unless `restart`. Under torchrun every process does its share and the first returns
    the record, the others None. `tell` hears which evaluation is next.

    Raises ValueError as `evaluate` does, and where an evaluation could read no video.
    """
    machine = machine or Machine()
    folders = _folders(wanted.cells, output)
    for number, (cell, folder) in enumerate(folders.values(), start=1):
        tell(f"{number} of {len(folders)}: {cell.needs}, {_views(cell)}, {cell.reducer}")
        _evaluate(wanted, cell, folder, machine, command, restart, observe)
    if not machine.process.reports:
        return None
    runs = {key: read_run(folder) for key, (_, folder) in folders.items()}
    for run in runs.values():
        if not run.labels:
            raise ValueError(f"run {run.path} could read no video; see what its report names")
    first = next(iter(runs.values())).report
    found = Reproduction(
        table=wanted.table,
        rows=tuple(_rerun(cell, runs, wanted.cells) for cell in wanted.cells),
        missing=wanted.missing,
        checkpoints=dict(wanted.checkpoints),
        data={name: str(path) for name, path in wanted.data.items()},
        unreadable=_unreadable(runs.values()),
        dtype=first["dtype"],
        batch_size=first["batch_size"],
        environment=first["environment"],
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(output / RECORD, found.to_json())
    return found


def _unreadable(runs: Iterable[Run]) -> tuple[dict[str, str], ...]:
    found = {video["path"]: video for run in runs for video in run.report["unreadable"]}
    return tuple(found.values())


def _key(cell: Cell) -> tuple[Any, ...]:
    return *cell.series, cell.reducer


def _folders(cells: Sequence[Cell], output: Path) -> dict[tuple[Any, ...], tuple[Cell, Path]]:
    """Each evaluation once, with its folder; several figures may be about the same one."""
    return {
        _key(cell): (cell, output / "runs" / cell.needs / _views(cell) / _plain(cell.reducer))
        for cell in cells
    }


def _plain(reducer: str) -> str:
    return reducer.replace(":", "-").replace("/", "+")


def _views(cell: Cell) -> str:
    return f"{cell.protocol.segments}x{cell.protocol.crops}"


def _evaluate(
    wanted: Wanted,
    cell: Cell,
    folder: Path,
    machine: Machine,
    command: str,
    restart: bool,
    observe: Callable[[Progress], object],
) -> None:
    source = wanted.checkpoints[cell.needs]
    views = cell.protocol
    options = ViewOptions(
        sampling=views.sampling, segments=views.segments, crops=views.crops, stride=views.stride
    )
    # A file of the authors' does not say its size.
    arch = cell.arch if Path(source).is_file() else None
    model = load_model(source, options=options, arch=arch, dtype=wanted.dtype)
    evaluate(
        Classifier(
            prune(model, cell.reducer),
            protocol_for(model, options),
            batch_size=machine.batch_size,
            device=machine.device,
        ),
        read_dataset(wanted.data[cell.data], classes=class_names_of(model)),
        output=folder,
        checkpoint=source,
        data=str(wanted.data[cell.data]),
        command=command,
        workers=machine.workers,
        restart=restart,
        process=machine.process,
        observe=observe,
    )


def _rerun(cell: Cell, runs: Mapping[tuple[Any, ...], Run], cells: Sequence[Cell]) -> Rerun:
    run = runs[_key(cell)]
    base = next(c for c in cells if c.series == cell.series and c.reducer == NONE)
    dense = runs[_key(base)]
    names = [name for name in dense.labels if name in run.labels]
    before, after = (_hits(each, names) for each in (dense, run))
    top1 = share_interval(after)
    assert top1 is not None, "runs have videos"
    change = None if cell.reducer == NONE else change_of(before, after)
    told = None if change is None else round(cell.top1 - base.top1, 2)
    tolerance = CHANGE_TOLERANCE + _READ_OFF * cell.read_off
    gmacs = run.report["gmacs_per_view"]
    return Rerun(
        needs=cell.needs,
        reducer=cell.reducer,
        setting=cell.said,
        views=_views(cell),
        num_videos=len(names),
        told_top1=cell.top1,
        top1=top1,
        told_change=told,
        change=change,
        told_gmacs=cell.gmacs,
        gmacs=gmacs,
        verdict=None
        if change is None or told is None
        else verdict_of(change.points, told, tolerance),
        gmacs_verdict=None if cell.gmacs is None else _cost_verdict(gmacs, cell.gmacs),
    )


def _hits(run: Run, names: Sequence[str]) -> Tensor:
    """Which of the videos it gets right, (V,) bool."""
    probabilities = torch.stack([run.probabilities[name] for name in names])
    return top_class(probabilities) == torch.tensor([run.labels[name] for name in names])


def _cost_verdict(gmacs: float, told: float) -> Verdict:
    tolerance = max(GMACS_TOLERANCE, GMACS_TOLERANCE_SHARE * told)
    return "agrees" if abs(gmacs - told) <= tolerance else "differs"
