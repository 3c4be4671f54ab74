"""Every method at the same costs, evaluated on labelled videos and paired with dense and random."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from vidprune.backbones.checkpoints import configuration
from vidprune.commands.compare import read_report, read_run
from vidprune.commands.evaluate import check_labels
from vidprune.commands.pooling import points_of, pool
from vidprune.commands.side_by_side import Machine, evaluate_side_by_side, passes
from vidprune.commands.wishes import Setting, Wish, settings_of
from vidprune.earlier import set_aside
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES
from vidprune.macs import costs
from vidprune.prepare import class_names_of, load_model, protocol_for
from vidprune.reading import check_workers
from vidprune.reducers.spec import NONE
from vidprune.report import Progress, hardware
from vidprune.runs import write_atomically
from vidprune.sources import sources_of
from vidprune.tradeoff import TradeOff
from vidprune.video import read_dataset

RECORD = "curves.json"


def curves(
    wish: Wish,
    *,
    output: Path,
    machine: Machine | None = None,
    command: str = "",
    tell: Callable[[str], object] = lambda text: None,
    restart: bool = False,
    observe: Callable[[Progress], object] = lambda progress: None,
) -> TradeOff:
    """Evaluate every method at every cost, and write `curves.json` into `output`.

    Each setting has a run folder of `evaluate` below `output/runs`, so that what was cut off goes
    on, unless `restart`. Settings of one model and clip share a pass over the videos; `tell` hears
    which are next, `observe` how far they are.

    Raises ValueError as `evaluate` does, where a method does not fit the model, where models that
    are pooled differ, and where no video could be read.
    """
    machine = machine or Machine()
    _check_alike(wish)
    _check_smaller(wish)
    _check_data(wish, machine.workers)
    settings, out_of_reach = settings_of(wish)
    trials = [
        _Trial(wish, number, output, machine, command, restart) for number in range(len(wish.data))
    ]
    # Fewer views are a part of the dense model's run.
    rounds = passes(
        (setting for setting in settings if setting.views is None),
        lambda setting: (setting.frames, setting.size, setting.smaller),
    )
    for number, together in enumerate(rounds, start=1):
        for trial in trials:
            where = f", {wish.data[trial.number]}" if len(trials) > 1 else ""
            tell(f"pass {number} of {len(rounds)}{where}: {_told(together, wish)}")
            trial.run(together, observe)
    found = _record(trials, settings, out_of_reach)
    set_aside(output / RECORD, command, tell)
    write_atomically(output / RECORD, found.to_json())
    return found


def _record(
    trials: Sequence["_Trial"], settings: Sequence[Setting], out_of_reach: tuple[str, ...]
) -> TradeOff:
    """What the runs say, pooled over the trials."""
    wish = trials[0].wish
    runs = [
        [read_run(trial.folder(setting), chosen=setting.views) for trial in trials]
        for setting in settings
    ]
    pooled = pool(runs, settings)
    reports = [trial.report(settings[0]) for trial in trials]
    first = reports[0]
    return TradeOff(
        points=points_of(settings, pooled, wish),
        checkpoints=wish.models,
        data=tuple(map(str, wish.data)),
        num_videos=len(pooled[0].labels),
        num_classes=pooled[0].probabilities.shape[1],
        unreadable=tuple(video for report in reports for video in report["unreadable"]),
        out_of_reach=out_of_reach,
        protocol=first["protocol"],
        views_per_video=first["views_per_video"],
        dtype=first["dtype"],
        batch_size=first["batch_size"],
        environment=first["environment"],
        command=trials[0].command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        intervals=METHOD if wish.source is None else METHOD_OVER_SOURCES,
        not_finite=_not_finite(trials, settings),
        elsewhere=_elsewhere(trials, settings),
        digests=tuple(trial.digest(settings[0]) for trial in trials),
    )


def _check_alike(wish: Wish) -> None:
    """Models whose videos are pooled must cost the same, see the same views and tell the same
    classes apart."""
    for models in (wish.models, wish.smaller):
        known = {}
        for checkpoint in models:
            config = configuration(checkpoint, frames=wish.views.frames, size=wish.views.size)
            model = load_model(checkpoint, options=wish.views)
            gmacs = costs(config, NONE).gmacs_per_view
            known[checkpoint] = (gmacs, config.num_labels, protocol_for(model, wish.views))
        for checkpoint, found in known.items():
            if found != known[models[0]]:
                raise ValueError(
                    f"{checkpoint} and {models[0]} differ in arithmetic, classes or views: "
                    f"{found} and {known[models[0]]}; pool models of one kind"
                )


def _check_smaller(wish: Wish) -> None:
    """They must tell the same classes apart, for less."""
    for model, other in zip(wish.models, wish.smaller, strict=False):
        configs = [
            configuration(each, frames=wish.views.frames, size=wish.views.size)
            for each in (model, other)
        ]
        taken = [costs(config, NONE).gmacs_per_view for config in configs]
        if taken[1] >= taken[0]:
            raise ValueError(
                f"smaller={other} takes {taken[1]:.2f} GMACs a view and {model} {taken[0]:.2f}; "
                "give a cheaper model"
            )
        classes = [config.num_labels for config in configs]
        if len(set(classes)) > 1:
            raise ValueError(
                f"smaller={other} tells {classes[1]} classes apart, and {model} beside it "
                f"{classes[0]}; give a smaller model of the same classes"
            )


def _check_data(wish: Wish, workers: int | None) -> None:
    """All lists and labels, before the first hour goes into one of them."""
    check_workers(workers)
    names: list[str] = []
    for checkpoint, data in zip(wish.models, wish.data, strict=True):
        model = load_model(checkpoint, options=wish.views, labels=wish.labels)
        samples = read_dataset(data, classes=class_names_of(model))
        check_labels(samples, model.config.num_labels)
        names += [sample.name for sample in samples]
    if wish.source is not None:
        sources_of(names, wish.source)


def _told(settings: Sequence[Setting], wish: Wish) -> str:
    first = f"{settings[0].method} {settings[0].said(wish)}"
    return first if len(settings) == 1 else f"dense and {len(settings) - 1} reducers"


@dataclass
class _Trial:
    """One model on its own data."""

    wish: Wish
    number: int
    output: Path
    machine: Machine
    command: str
    restart: bool

    def folder(self, setting: Setting) -> Path:
        """Where its run of a setting is."""
        return self.output / "runs" / str(self.number) / setting.folder

    def checkpoint(self, setting: Setting) -> str:
        """The model that a setting runs."""
        return (self.wish.smaller if setting.smaller else self.wish.models)[self.number]

    def run(self, settings: Sequence[Setting], observe: Callable[[Progress], object]) -> None:
        """Evaluate settings of one model and clip."""
        wish, first = self.wish, settings[0]
        options = replace(
            wish.views,
            frames=first.frames or wish.views.frames,
            size=first.size or wish.views.size,
        )
        checkpoint = self.checkpoint(first)
        evaluate_side_by_side(
            load_model(checkpoint, options=options, labels=wish.labels, dtype=wish.dtype),
            {self.folder(setting): setting.reducer for setting in settings},
            views=options,
            checkpoint=checkpoint,
            data=wish.data[self.number],
            machine=self.machine,
            command=self.command,
            restart=self.restart,
            observe=observe,
        )

    def report(self, setting: Setting) -> dict[str, Any]:
        """What its run reports."""
        return read_report(self.folder(setting))

    def digest(self, setting: Setting) -> str:
        """Of the model that its run was claimed with."""
        run = json.loads((self.folder(setting) / "run.json").read_text(encoding="utf-8"))
        return str(run["model"])


def _not_finite(trials: Sequence["_Trial"], settings: Sequence[Setting]) -> dict[str, int]:
    """Of each setting how many videos have logits that are no numbers, where any has."""
    found = {
        setting.said(trials[0].wish): sum(
            len(trial.report(setting)["not_finite"]) for trial in trials
        )
        for setting in settings
        if setting.views is None
    }
    return {said: count for said, count in found.items() if count}


def _elsewhere(trials: Sequence["_Trial"], settings: Sequence[Setting]) -> dict[str, list[str]]:
    """What ran on other hardware than the dense model, by hardware: a run's report names it."""
    here = hardware(trials[0].report(settings[0])["environment"])
    found: dict[str, list[str]] = {}
    for setting, trial in product(settings, trials):
        there = hardware(trial.report(setting)["environment"])
        if there != here:
            which = trial.checkpoint(setting) if setting.smaller else setting.said(trial.wish)
            told = f"{setting.method} {which}, {trial.wish.data[trial.number]}"
            found.setdefault(there, []).append(told)
    return found
