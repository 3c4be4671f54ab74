"""Every method at the same costs, evaluated on labelled videos and paired with dense and random."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidprune.backbones.checkpoints import configuration
from vidprune.commands.compare import Run, change_of, read_report, read_run
from vidprune.commands.evaluate import check_labels, evaluate_each
from vidprune.commands.wishes import NEAR, Setting, Wish, settings_of
from vidprune.inference import Classifier, check_workers
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES, mean_interval, share_interval
from vidprune.macs import costs
from vidprune.metrics import Nearness, divergence, nearness, top_class
from vidprune.prepare import class_names_of, load_model, protocol_for
from vidprune.pruned import prune
from vidprune.reducers.spec import NONE
from vidprune.report import Change, Progress, hardware
from vidprune.runs import write_atomically
from vidprune.sources import sources_of
from vidprune.tradeoff import Pairing, Point, TradeOff
from vidprune.video import Sample, read_dataset

RECORD = "curves.json"


def curves(
    wish: Wish,
    *,
    output: Path,
    batch_size: int = 8,
    device: torch.device | None = None,
    workers: int | None = None,
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
    _check_alike(wish)
    _check_smaller(wish)
    _check_data(wish, workers)
    settings, out_of_reach = settings_of(wish)
    trials = [
        _Trial(wish, number, output, batch_size, device, workers, command, restart)
        for number in range(len(wish.data))
    ]
    passes = _passes(settings)
    for number, together in enumerate(passes, start=1):
        for trial in trials:
            where = f", {wish.data[trial.number]}" if len(trials) > 1 else ""
            tell(f"pass {number} of {len(passes)}{where}: {_told(together, wish)}")
            trial.run(together, observe)
    pooled = _pooled(trials, settings)
    reports = [trial.report(settings[0]) for trial in trials]
    first = reports[0]
    found = TradeOff(
        points=_points(settings, pooled, wish),
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
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        intervals=METHOD if wish.source is None else METHOD_OVER_SOURCES,
        not_finite=_not_finite(trials, settings),
        elsewhere=_elsewhere(trials, settings),
        digests=tuple(trial.digest(settings[0]) for trial in trials),
    )
    write_atomically(output / RECORD, found.to_json())
    return found


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


def _passes(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Those of one model and clip together; fewer views are a part of the dense model's run."""
    found: dict[tuple[Any, ...], list[Setting]] = {}
    for setting in settings:
        if setting.views is None:
            key = (setting.frames, setting.size, setting.smaller)
            found.setdefault(key, []).append(setting)
    return list(found.values())


def _told(settings: Sequence[Setting], wish: Wish) -> str:
    first = f"{settings[0].method} {settings[0].said(wish)}"
    return first if len(settings) == 1 else f"dense and {len(settings) - 1} reducers"


@dataclass
class _Trial:
    """One model on its own data."""

    wish: Wish
    number: int
    output: Path
    batch_size: int
    device: torch.device | None
    workers: int | None
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
        model = load_model(checkpoint, options=options, labels=wish.labels, dtype=wish.dtype)
        data = wish.data[self.number]
        samples: Sequence[Sample] = read_dataset(data, classes=class_names_of(model))
        evaluate_each(
            {
                self.folder(setting): Classifier(
                    prune(model, setting.reducer),
                    protocol_for(model, options),
                    batch_size=self.batch_size,
                    device=self.device,
                )
                for setting in settings
            },
            samples,
            checkpoint=checkpoint,
            data=str(data),
            command=self.command,
            workers=self.workers,
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


@dataclass(frozen=True, eq=False)
class _Pooled:
    """A setting over the videos of all trials: `names`, labels (V,), probabilities (V, classes)."""

    names: tuple[str, ...]
    labels: Tensor
    probabilities: Tensor
    gmacs_per_video: float

    @property
    def hits(self) -> Tensor:
        """Which videos it gets right, (V,) bool."""
        return top_class(self.probabilities) == self.labels


@dataclass(frozen=True, eq=False)
class _Entry:
    """A setting with what came of it."""

    setting: Setting
    pooled: _Pooled

    def apart(self, other: "_Entry", dense: _Pooled) -> float:
        """How far their costs are from each other, as a share of the dense cost."""
        gmacs = other.pooled.gmacs_per_video - self.pooled.gmacs_per_video
        return abs(gmacs) / dense.gmacs_per_video

    def strayed(self, dense: _Pooled) -> float:
        """How far its predictions are from the dense model's, in nats a video."""
        return divergence(dense.probabilities, self.pooled.probabilities).mean().item()


def _alike(entry: _Entry, others: Sequence[_Entry], dense: _Pooled) -> _Entry | None:
    """The one of the others that it is compared with, None where none costs about as much: where it
    is told where to drop, of those that drop there the nearest in cost; or else the one that stays
    nearest to the dense model's predictions."""
    near = [other for other in others if entry.apart(other, dense) <= NEAR]
    places = entry.setting.places
    same = [other for other in near if places and other.setting.places == places]
    if same:
        return min(same, key=lambda other: entry.apart(other, dense))
    return min(near, key=lambda other: other.strayed(dense), default=None)


def _pooled(trials: Sequence["_Trial"], settings: Sequence[Setting]) -> list[_Pooled]:
    """Every setting over the videos that all settings could read, in one order."""
    runs = [
        [read_run(trial.folder(setting), chosen=setting.views) for trial in trials]
        for setting in settings
    ]
    names = [
        [name for name in own[0].labels if all(name in run.labels for run in own)]
        for own in zip(*runs, strict=True)
    ]
    if not any(names):
        raise ValueError(
            "no video could be read in every setting; see what the reports below runs/ name as "
            "unreadable"
        )
    return [_pool(own, names, setting) for own, setting in zip(runs, settings, strict=True)]


def _pool(runs: Sequence[Run], names: Sequence[Sequence[str]], setting: Setting) -> _Pooled:
    pairs = [(run, name) for run, own in zip(runs, names, strict=True) for name in own]
    report = runs[0].report
    views = report["views_per_video"] if setting.views is None else len(setting.views)
    return _Pooled(
        tuple(name for _, name in pairs),
        torch.tensor([run.labels[name] for run, name in pairs]),
        torch.stack([run.probabilities[name] for run, name in pairs]),
        report["gmacs_per_view"] * views,
    )


def _change(reference: _Pooled | None, each: _Pooled, sources: Tensor | None) -> Change | None:
    return None if reference is None else change_of(reference.hits, each.hits, sources)


def _near(reference: _Pooled | None, each: _Pooled, sources: Tensor | None) -> Nearness | None:
    if reference is None:
        return None
    return nearness(reference.probabilities, each.probabilities, sources)


def _points(
    settings: Sequence[Setting], pooled: Sequence[_Pooled], wish: Wish
) -> tuple[Point, ...]:
    dense = pooled[0]
    sources = None if wish.source is None else sources_of(dense.names, wish.source)
    entries = [_Entry(setting, each) for setting, each in zip(settings, pooled, strict=True)]
    chance = [entry for entry in entries if entry.setting.is_random]
    rivals = [entry for entry in entries if entry.setting.method == wish.against]
    points = []
    for entry in entries:
        setting, each = entry.setting, entry.pooled
        reference = None if each is dense else dense
        random = None if setting.is_random or each is dense else _alike(entry, chance, dense)
        rival = None if entry in rivals or each is dense else _alike(entry, rivals, dense)
        top1 = share_interval(each.hits, sources)
        assert top1 is not None, "there are videos"
        points.append(
            Point(
                method=setting.method,
                setting=setting.said(wish),
                share=each.gmacs_per_video / dense.gmacs_per_video,
                gmacs_per_video=each.gmacs_per_video,
                top1=top1,
                change=_change(reference, each, sources),
                nearness=_near(reference, each, sources),
                over_random=_change(random.pooled if random else None, each, sources),
                random=None if random is None else random.setting.said(wish),
                against=None if rival is None else _pairing(entry, rival, dense, sources, wish),
            )
        )
    return tuple(points)


def _pairing(
    entry: _Entry, rival: _Entry, dense: _Pooled, sources: Tensor | None, wish: Wish
) -> Pairing:
    """One against the other, the same videos."""
    own, theirs = (
        divergence(dense.probabilities, each.pooled.probabilities) for each in (entry, rival)
    )
    return Pairing(
        setting=rival.setting.said(wish),
        change=change_of(rival.pooled.hits, entry.pooled.hits, sources),
        kl_nats=mean_interval(own - theirs, sources),
    )
