"""The setting of a model that reaches a target, found on some videos and checked on others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head
from vidprune.benchmarking.budget import matched_reducer
from vidprune.commands.evaluate import check_labels, model_digest
from vidprune.earlier import set_aside
from vidprune.environment import environment
from vidprune.exporting.running import Exported
from vidprune.inference import best_device
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES
from vidprune.macs import costs
from vidprune.reading import Request, read_requests
from vidprune.reducers.by_content import SIGNALS, Signal
from vidprune.reducers.spec import NONE, parse, with_r
from vidprune.runs import write_atomically
from vidprune.sources import source_pattern, sources_of
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.limits import best_budget
from vidprune.tuning.record import Tuning
from vidprune.tuning.search import Budget, Search, Tried, best_of, nearest_of
from vidprune.tuning.space import METHODS
from vidprune.tuning.target import Target
from vidprune.tuning.trying import Bench, Video
from vidprune.video import Protocol, Sample

RECORD, RECIPE = "tune.json", "recipe.json"
# Videos, at the least, on either side.
_FEWEST = 4
_CHECK_REPEATS = 11
_SEEDS = 2**32


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a search is for, what it may choose and how long it goes on. `by_content`: the signals
    by which a budget may choose, clip by clip, among settings that were tried. `check_share`: of
    the videos, or of their sources, those that it does not see, on which what it found is checked.

    Raises ValueError where that leaves nothing, or a target of top-1 has no labels.
    """

    target: Target
    methods: tuple[str, ...] = METHODS
    budget: Budget = field(default_factory=Budget)
    check_share: float = 1 / 3
    source: str | None = None
    seed: int = 0
    batch_size: int = 8
    by_content: tuple[Signal, ...] = ()

    def __post_init__(self) -> None:
        self._check_by_content()
        if not 0 < self.check_share < 1:
            raise ValueError(f"check_share={self.check_share:g} must lie between 0 and 1")
        if not self.methods:
            raise ValueError("methods is empty; name one, such as sta")
        if NONE in self.methods:
            raise ValueError(
                "method none drops nothing, so that there is nothing to find; leave it out"
            )
        if not 0 <= self.seed < _SEEDS:
            raise ValueError(f"seed={self.seed} must lie between 0 and {_SEEDS - 1}")
        if self.source is not None:
            source_pattern(self.source)
        for method in self.methods:
            options = {each.partition("=")[0] for each in method.partition(":")[2].split(",")}
            if settled := sorted(options & {"r", "schedule", "blocks", "stages", "threshold"}):
                raise ValueError(
                    f"method {method!r} says {' and '.join(settled)}, which the search is to find; "
                    "leave that out"
                )
            parse(with_r(method, 1))

    def _check_by_content(self) -> None:
        for signal in self.by_content:
            if signal not in SIGNALS:
                raise ValueError(
                    f"by_content={signal!r} is not known; choose among {', '.join(SIGNALS)}"
                )
        if self.by_content and self.target.kind == "latency_ms":
            raise ValueError(
                "latency_ms is kept to by every batch, and a budget by content has none that is "
                "the same for all; leave by_content out, or ask for speedup"
            )


@dataclass(frozen=True)
class Sighted:
    """A video by its name and path, with its class where it is known."""

    name: str
    path: Path
    label: int | None = None


def tune(
    model: PreTrainedModel,
    protocol: Protocol,
    videos: Sequence[Sighted],
    asked: Asked,
    *,
    output: Path,
    checkpoint: str,
    device: torch.device | None = None,
    workers: int | None = None,
    command: str = "",
    tell: Callable[[str], object] = lambda text: None,
    observe: Callable[[Tried, Tried | None], object] = lambda tried, best: None,
) -> Tuning:
    """Search, check, and write `tune.json` and `recipe.json` into `output`.

    All videos are decoded first and held in memory. `observe` hears every setting that was tried
    and the best so far. What another command left in `output` is kept beside, and `tell` hears so.
    A video that cannot be read is named in the record and left out.

    Raises ValueError for too few videos and for labels that the head does not have, RuntimeError
    without Optuna.
    """
    begun = time.monotonic()
    if asked.target.kind == "drop_points" and any(video.label is None for video in videos):
        raise ValueError(
            "drop_points counts top-1, which needs labels: give a list or class folders"
        )
    _check_target(asked.target, model)
    bench, unreadable = _bench(model, protocol, videos, asked.batch_size, device, workers)
    sources = _sources(bench.videos, asked.source)
    seen, unseen = _parted(len(bench.videos), sources, asked)
    _check_answers(bench)
    _check_shown(asked.target, len(seen))
    kept = None if asked.source is None else sources
    search = Search(
        bench,
        asked.target,
        seen,
        sources=None if kept is None else kept[list(seen)],
        methods=asked.methods,
        seed=asked.seed,
    )
    tried: list[Tried] = []
    for each in search(asked.budget):
        tried.append(each)
        observe(each, best_of(asked.target, tried))
    held = _Held(bench, unseen, None if kept is None else kept[list(unseen)])
    record = Tuning(
        **_outcome(search, held, tried, asked.by_content),
        target=asked.target,
        tried=tuple(tried),
        methods=asked.methods,
        seed=asked.seed,
        seconds=time.monotonic() - begun,
        checkpoint=checkpoint,
        model=model_digest(model),
        dtype=str(model.dtype).removeprefix("torch."),
        batch_size=asked.batch_size,
        protocol=asdict(protocol),
        views_per_video=len(protocol.views),
        searched=len(seen),
        unreadable=unreadable,
        environment=environment(bench.device),
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        intervals=METHOD if asked.source is None else METHOD_OVER_SOURCES,
    )
    for name in (RECORD, RECIPE):
        set_aside(output / name, command, tell)
    write_atomically(output / RECORD, record.to_json())
    write_atomically(output / RECIPE, record.recipe())
    return record


def _check_target(target: Target, model: PreTrainedModel) -> None:
    """Refuse what any setting reaches, and a model that has no answers to compare."""
    if isinstance(model, Exported):
        raise ValueError(
            f"{model.path} is exported, with its reducer; tune takes the model that it was made "
            "from"
        )
    if not has_head(model):
        raise ValueError(
            f"model is a {type(model).__name__}, an encoder without a head, which gives no classes "
            "to compare; give a classifier's checkpoint"
        )
    dense = costs(model, NONE).gmacs_per_view
    if target.kind == "gmacs" and target.value >= dense:
        raise ValueError(
            f"gmacs={target.value:g} leaves nothing to save: the dense model takes {dense:.2f}"
        )


def _check_answers(bench: Bench) -> None:
    """Refuse what nothing can be near to."""
    finite = bench.probabilities(NONE, range(len(bench.videos))).isfinite().all(-1)
    if not finite.all():
        raise ValueError(
            f"the dense model's logits are not finite for {int((~finite).sum())} of {len(finite)} "
            "videos, so that nothing can be compared with them; try another dtype, bf16 or fp32"
        )


def _check_shown(target: Target, videos: int) -> None:
    """Refuse an agreement that so few videos cannot show, were all of them the same."""
    most = 100 * videos / (videos + 1)
    if target.kind == "agreement" and target.value > most:
        enough = (
            "no number of videos does"
            if target.value >= 100
            else (f"{ceil(target.value / (100 - target.value))} would do")
        )
        raise ValueError(
            f"agreement={target.value:g} cannot be shown by the {videos} videos of the search, "
            f"which with one standard error to spare show {most:.1f} at most ({enough}); give more "
            "videos, or ask for less"
        )


def _outcome(
    search: Search, held: "_Held", tried: Sequence[Tried], by_content: Sequence[Signal]
) -> dict[str, Any]:
    """What the search comes to, and how that holds on what it did not see."""
    base = best_of(search.target, tried) or nearest_of(search.target, tried)
    others = tuple(search.at_other_costs(base)) if base else ()
    # It may be one of these: what comes at another cost of places that were found.
    alike = best_of(search.target, (*tried, *others))
    budget = best_budget(search, (*tried, *others), by_content, alike) if by_content else None
    found = best_of(search.target, [each for each in (alike, budget) if each is not None])
    if found is None:
        nothing = dict.fromkeys(("found", "check", "costs", "published"))
        return {"reducer": NONE, "reached": False, "others": others, **nothing}
    check, spent = held.losses(found.reducer), held.spent(found.reducer)
    figure = spent.of(search.target) if search.target.is_cost else check.of(search.target)
    return {
        "reducer": found.reducer,
        "reached": search.target.excess(figure) <= 0,
        "found": found,
        "check": check,
        "costs": spent,
        "published": held.published(found),
        "others": others,
        "fixed": held.tried(alike.reducer) if alike and found is budget else None,
    }


def _bench(
    model: PreTrainedModel,
    protocol: Protocol,
    videos: Sequence[Sighted],
    batch_size: int,
    device: torch.device | None,
    workers: int | None,
) -> tuple[Bench, tuple[dict[str, str], ...]]:
    """All videos, decoded; and those that cannot be."""
    labelled = [
        Sample(video.path, video.label, video.name) for video in videos if video.label is not None
    ]
    check_labels(labelled, model.config.num_labels)
    views = tuple(range(len(protocol.views)))
    labels = {video.name: video.label for video in videos}
    requests = [Request(video.name, video.path, views) for video in videos]
    held, unreadable = [], []
    for request, pixels in read_requests(requests, protocol, workers):
        if isinstance(pixels, str):
            unreadable.append({"path": request.name, "reason": pixels})
        else:
            held.append(Video(request.name, pixels, labels[request.name]))
    if len(held) < 2 * _FEWEST:
        such = "".join(f", such as {each['path']}: {each['reason']}" for each in unreadable[:1])
        raise ValueError(
            f"{len(held)} videos can be read and {len(unreadable)} not{such}; give {2 * _FEWEST} "
            "at least, and some dozens for an answer to rely on"
        )
    device = device or best_device()
    return Bench(model.to(device), protocol, held, batch_size, device), tuple(unreadable)


def _sources(videos: Sequence[Video], pattern: str | None) -> Tensor:
    if pattern is None:
        return torch.arange(len(videos))
    return sources_of([video.name for video in videos], pattern)


def _parted(videos: int, sources: Tensor, asked: Asked) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The videos that the search sees, in an order drawn at random, and the others; no source is
    on both sides."""
    generator = torch.Generator().manual_seed(asked.seed)
    order = torch.randperm(int(sources.max()) + 1, generator=generator)
    unseen = set(order[: max(1, round(asked.check_share * len(order)))].tolist())
    drawn = torch.randperm(videos, generator=generator).tolist()
    parts = (
        tuple(each for each in drawn if (int(sources[each]) in unseen) is side)
        for side in (False, True)
    )
    seen, rest = parts
    if min(len(seen), len(rest)) < _FEWEST:
        raise ValueError(
            f"of {videos} videos {len(seen)} are left for the search and {len(rest)} for the "
            f"check; give more, or another check_share, so that both have {_FEWEST}"
        )
    return seen, rest


@dataclass(frozen=True, eq=False)
class _Held:
    """The videos that the search did not see."""

    bench: Bench
    videos: tuple[int, ...]
    sources: Tensor | None

    def losses(self, reducer: str) -> Losses:
        """Of a setting on these."""
        return self.bench.losses(reducer, self.videos, self.sources)

    def spent(self, reducer: str) -> Spent:
        """Once more, more often, and with the clock in any case."""
        return self.bench.spent(reducer, self.videos, repeats=_CHECK_REPEATS)

    def tried(self, reducer: str) -> Tried:
        """A setting on these, its cost by arithmetic."""
        return Tried(
            reducer=reducer,
            costs=self.bench.spent(reducer, self.videos),
            losses=self.losses(reducer),
            whole=True,
        )

    def published(self, found: Tried) -> Tried | None:
        """The paper's STA at that cost; None where none fits the model."""
        try:
            reducer = matched_reducer(self.bench.model.config, "sta", found.costs.gmacs)
        except ValueError:
            return None
        return self.tried(reducer)
