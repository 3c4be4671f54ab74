"""A table of the paper rerun on one's own copies of its data and checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.architectures import architecture
from vidprune.backbones.base import Shape
from vidprune.backbones.registry import shape_of
from vidprune.commands.compare import Run, change_of, read_run
from vidprune.commands.evaluate import check_labels
from vidprune.commands.side_by_side import Machine, evaluate_side_by_side, passes
from vidprune.intervals import share_interval
from vidprune.macs import costs
from vidprune.metrics import top_class
from vidprune.prepare import ViewOptions, class_names_of, load_model
from vidprune.pruned import prune
from vidprune.published import LEVEL_TOLERANCE, TABLES, Cell
from vidprune.reducers.spec import NONE, file_name
from vidprune.report import Progress, Report
from vidprune.reproduction import Reproduction, Rerun, Verdict, verdict_of
from vidprune.runs import write_atomically
from vidprune.video import PROTOCOLS, Sample, read_dataset

# As a share: by how much the arithmetic of another head may differ.
_SAME_ARITHMETIC = 0.01


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
        for name in self.data:
            if not any(each.endswith(f"/{name}") for each in self.checkpoints):
                raise ValueError(f"data {name!r} goes with no checkpoint; give one of {name}, too")
        for name in self.checkpoints:
            if name.rpartition("/")[2] not in self.data:
                raise ValueError(f"checkpoints {name!r} goes with no data; give those videos, too")
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
    """Evaluate what the table needs, and write it into `output`, as `table2.json` and so on.

    Every evaluation has a run folder of `evaluate` below `output/runs`, so that what was cut off
    goes on, unless `restart`; those of one model on the same views share a pass over the videos.
    Under torchrun every process does its share and the first returns the record, the others None.
    `tell` hears which pass is next.

    Raises ValueError as `evaluate` does and for a model that a reducer of the table does not fit,
    before anything is evaluated; and where no video can be read.
    """
    machine = machine or Machine()
    unlike = {needs: _check(wanted, needs, cells) for needs, cells in _by_checkpoint(wanted.cells)}
    folders = _folders(wanted.cells, output)
    rounds = passes(folders.values(), lambda run: run[0].series)
    for number, together in enumerate(rounds, start=1):
        first, _ = together[0]
        reducers = ", ".join(cell.reducer for cell, _ in together)
        tell(f"pass {number} of {len(rounds)}: {first.needs}, {_views(first)} views, {reducers}")
        for report in _evaluate(wanted, together, machine, command, restart, observe):
            _refuse_unreadable(report, first)
    if not machine.process.reports:
        return None
    runs = {key: read_run(folder) for key, (_, folder) in folders.items()}
    first_report = next(iter(runs.values())).report
    found = Reproduction(
        table=wanted.table,
        rows=tuple(_rerun(cell, runs, wanted.cells, unlike) for cell in wanted.cells),
        missing=wanted.missing,
        checkpoints=dict(wanted.checkpoints),
        data={name: str(path) for name, path in wanted.data.items()},
        unreadable=_unreadable(folders, runs),
        dtype=first_report["dtype"],
        batch_size=first_report["batch_size"],
        processes=machine.process.count,
        environment=first_report["environment"],
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(output / f"{wanted.table}.json", found.to_json())
    return found


def _by_checkpoint(cells: Sequence[Cell]) -> Iterator[tuple[str, list[Cell]]]:
    for needs, group in groupby(sorted(cells, key=lambda cell: cell.needs), lambda c: c.needs):
        yield needs, list(group)


def _check(wanted: Wanted, needs: str, cells: Sequence[Cell]) -> str | None:
    """Refuse what cannot be evaluated; why it is not the published model, or None."""
    model = _model(wanted, cells[0])
    unlike = _unlike(model.config, cells[0].arch)
    try:
        for cell in cells:
            prune(model, cell.reducer)
    except ValueError as error:
        reason = f"{unlike} (so {error})" if unlike else str(error)
        raise ValueError(f"{needs} cannot take {cell.reducer}: {reason}") from error
    check_labels(_samples(wanted, cells[0], model), model.config.num_labels)
    return unlike


def _unlike(config: PreTrainedConfig, arch: str) -> str | None:
    """What tells a configuration from the architecture whose figures it would stand beside."""
    own, wanted = shape_of(config), shape_of(architecture(arch))
    if (own.depth, own.levels) != (wanted.depth, wanted.levels):
        return f"the checkpoint is no {arch}: it has {_said(own)}, not {_said(wanted)}"
    gmacs, told = (costs(each, NONE).gmacs_per_view for each in (config, architecture(arch)))
    if abs(gmacs - told) > _SAME_ARITHMETIC * told:
        return f"the checkpoint is no {arch}: a view takes {gmacs:.1f} GMACs, not {told:.1f}"
    return None


def _said(shape: Shape) -> str:
    grid = shape.levels[0].grid
    return f"{shape.depth} blocks over {grid.frames}x{grid.rows}x{grid.columns} tokens"


def _unreadable(
    folders: Mapping[tuple[Any, ...], tuple[Cell, Path]], runs: Mapping[tuple[Any, ...], Run]
) -> tuple[dict[str, str], ...]:
    """Each once for its data set."""
    found = {
        (cell.data, video["path"]): {"data": cell.data, **video}
        for key, (cell, _) in folders.items()
        for video in runs[key].report["unreadable"]
    }
    return tuple(found.values())


def _key(cell: Cell) -> tuple[Any, ...]:
    return *cell.series, cell.reducer


def _folders(cells: Sequence[Cell], output: Path) -> dict[tuple[Any, ...], tuple[Cell, Path]]:
    """Each evaluation once, with its folder; several figures may be about the same one."""
    return {
        _key(cell): (cell, output / "runs" / cell.needs / _views(cell) / file_name(cell.reducer))
        for cell in cells
    }


def _options(cell: Cell) -> ViewOptions:
    return ViewOptions(protocol=cell.preset, segments=cell.segments)


def _views(cell: Cell) -> str:
    protocol = PROTOCOLS[cell.preset]
    return f"{cell.segments or protocol.segments}x{protocol.crops}"


def _model(wanted: Wanted, cell: Cell) -> PreTrainedModel:
    source = wanted.checkpoints[cell.needs]
    # A file of the authors' does not say its size.
    arch = cell.arch if Path(source).is_file() else None
    return load_model(source, options=_options(cell), arch=arch, dtype=wanted.dtype)


def _samples(wanted: Wanted, cell: Cell, model: PreTrainedModel) -> Sequence[Sample]:
    return read_dataset(wanted.data[cell.data], classes=class_names_of(model))


def _evaluate(
    wanted: Wanted,
    together: Sequence[tuple[Cell, Path]],
    machine: Machine,
    command: str,
    restart: bool,
    observe: Callable[[Progress], object],
) -> list[Report]:
    """Reducers of one model on the same views."""
    first, _ = together[0]
    return evaluate_side_by_side(
        _model(wanted, first),
        {folder: cell.reducer for cell, folder in together},
        views=_options(first),
        checkpoint=wanted.checkpoints[first.needs],
        data=wanted.data[first.data],
        machine=machine,
        command=command,
        restart=restart,
        observe=observe,
    )


def _refuse_unreadable(report: Report, cell: Cell) -> None:
    if not report.num_videos:
        first = report.unreadable[0]
        raise ValueError(
            f"no video of {cell.data} can be read, such as {first['path']!r} "
            f"({first['reason']}); are their paths right?"
        )


def _rerun(
    cell: Cell,
    runs: Mapping[tuple[Any, ...], Run],
    cells: Sequence[Cell],
    unlike: Mapping[str, str | None],
) -> Rerun:
    run = runs[_key(cell)]
    base = next(c for c in cells if c.series == cell.series and c.reducer == NONE)
    dense = runs[_key(base)]
    names = _names(dense, run)
    before, after = (_hits(each, names) for each in (dense, run))
    top1 = share_interval(after)
    assert top1 is not None, "runs have videos"
    change = None if cell.reducer == NONE else change_of(before, after)
    told = None if change is None else round(cell.top1 - base.top1, 2)
    not_finite = len({*dense.report["not_finite"], *run.report["not_finite"]})
    reason = unlike[cell.needs] or _doubt(base, before, not_finite)
    verdict = None
    if change is not None and told is not None and reason is None:
        verdict = verdict_of(change.points, told, cell.tolerance)
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
        tolerance=cell.tolerance,
        verdict=verdict,
        gmacs_verdict=_cost_verdict(gmacs, cell),
        not_finite=not_finite,
        not_judged=reason,
    )


def _doubt(base: Cell, hits: Tensor, not_finite: int) -> str | None:
    """Why changes against a run of the unpruned model, with its `hits` (V,), say nothing; or
    None."""
    if not_finite:
        return f"{base.needs}: logits of {not_finite} videos are not finite; try another dtype"
    level = share_interval(hits)
    assert level is not None, "runs have videos"
    assert level.high is not None, "shares have bounds"
    if level.high >= base.top1 - LEVEL_TOLERANCE:
        return None
    return (
        f"unpruned, {base.needs} has {level.value:.1f} % where the paper has {base.top1:g}; are "
        "these its weights and videos, and the labels in its order?"
    )


def _names(dense: Run, run: Run) -> list[str]:
    """The videos that both could read."""
    names = [name for name in dense.labels if name in run.labels]
    if not names:
        raise ValueError(
            f"the runs {dense.path} and {run.path} share no video that both could read; see what "
            "their reports name as unreadable"
        )
    return names


def _hits(run: Run, names: Sequence[str]) -> Tensor:
    """Which of the videos it gets right, (V,) bool."""
    probabilities = torch.stack([run.probabilities[name] for name in names])
    return top_class(probabilities) == torch.tensor([run.labels[name] for name in names])


def _cost_verdict(gmacs: float, cell: Cell) -> Verdict | None:
    if cell.gmacs is None:
        return None
    return "agrees" if abs(gmacs - cell.gmacs) <= cell.gmacs_tolerance else "differs"
