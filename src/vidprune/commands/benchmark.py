"""What pruning buys on this machine: speed and arithmetic, against the best dense model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import torch
from transformers import PreTrainedModel

from vidprune.backbones.architectures import next_smaller
from vidprune.backbones.checkpoints import configuration, load
from vidprune.backbones.quantized import Quantization, check_device
from vidprune.backbones.registry import promises_head, shape_of
from vidprune.benchmarking.budget import matched_frames, matched_reducer, matched_size
from vidprune.benchmarking.compiled import MODES
from vidprune.benchmarking.contest import Candidate, contest
from vidprune.benchmarking.rates import Rates, machine_rates
from vidprune.benchmarking.report import Benchmark, BenchmarkRow, Setting
from vidprune.benchmarking.table import markdown
from vidprune.benchmarking.videos import over_videos
from vidprune.earlier import set_aside
from vidprune.environment import environment
from vidprune.inference import Unreadable, best_device
from vidprune.macs import costs
from vidprune.prepare import DTYPES
from vidprune.pruned import prune
from vidprune.reducers.spec import NONE, describe, parse
from vidprune.runs import write_atomically
from vidprune.video import PROTOCOLS, Decoder, check_decoder


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured: every combination of these.

    `reducers` with their r; `against`: rivals without, each given the r at which it costs what the
    reducer costs (see `matched_reducer`). `alternatives`: dense models of that cost, by fewer
    frames and by smaller frames, and the next smaller architecture (or `smaller`, a checkpoint).
    `videos`: also from files to logits, which models need a head for, at the largest batch size
    and in the first mode, with the views of the preset `protocol` (None: what checkpoints record);
    `decoder` as of `ViewModel`, `workers` as in `Classifier.classify`; `onednn`, `quantize` and
    `attn_implementation` as in `load`, for dense models as for pruned ones.
    """

    models: tuple[str, ...]
    reducers: tuple[str, ...]
    against: tuple[str, ...] = ()
    alternatives: bool = True
    smaller: str | None = None
    arch: str | None = None
    frames: int | None = None
    size: int | None = None
    dtypes: tuple[str, ...] = ("fp32",)
    batch_sizes: tuple[int, ...] = (1, 8)
    modes: tuple[str, ...] = ("eager",)
    repeats: int = 10
    videos: tuple[Path, ...] = ()
    protocol: str | None = None
    decoder: Decoder = "pyav"
    workers: int | None = None
    onednn: bool = False
    quantize: Quantization | None = None
    attn_implementation: str | None = None

    def __post_init__(self) -> None:
        for name, known in (("dtypes", DTYPES), ("modes", MODES)):
            if unknown := [value for value in getattr(self, name) if value not in known]:
                raise ValueError(
                    f"{name} holds {unknown[0]!r}, which is not known; choose from "
                    f"{', '.join(known)}"
                )
        if self.arch is not None and not any(map(_is_file, self.models)):
            raise ValueError(
                f"arch={self.arch!r} is of original checkpoint files, and none of the models "
                f"{self.models} is one (.pth, .pt, .safetensors); leave it out"
            )
        if not self.batch_sizes:
            raise ValueError("batch_sizes is empty; give one at least, such as (1, 8)")
        if self.repeats < 2:
            raise ValueError(f"repeats={self.repeats} must be at least 2")
        if (smallest := min(self.batch_sizes)) < 1:
            raise ValueError(f"batch_size={smallest} must be at least 1")
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ValueError(
                f"protocol={self.protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}"
            )
        check_decoder(self.decoder)
        if self.workers is not None and self.workers < 0:
            raise ValueError(
                f"workers={self.workers} must be 0 (decode in this process) or more, or left out"
            )


@dataclass(frozen=True)
class Subject:
    """A model on clips of a shape, with a reducer; and whose arithmetic it was chosen to equal."""

    checkpoint: str
    frames: int
    size: int
    reducer: str = NONE
    matched: str | None = None


def subjects(plan: Plan, checkpoint: str) -> list[Subject]:
    """What is compared for one model, the dense one first, each once."""
    config = configuration(
        checkpoint, arch=_arch(plan, checkpoint), frames=plan.frames, size=plan.size
    )
    frames, _, size, _ = shape_of(config).clip_shape
    dense = Subject(checkpoint, frames, size)
    found = [dense]
    # As `describe` writes them, the same reducer is the same text.
    for reducer in (describe(parse(text)) for text in plan.reducers if parse(text)):
        gmacs = costs(config, reducer).gmacs_per_view
        found.append(replace(dense, reducer=reducer))
        for rival in plan.against:
            rival = matched_reducer(config, rival, gmacs, like=reducer)
            found.append(replace(dense, reducer=rival, matched=reducer))
        if plan.alternatives:
            fewer, lower = matched_frames(config, gmacs), matched_size(config, gmacs)
            found += [replace(dense, frames=fewer, matched=reducer)] if fewer else []
            found += [replace(dense, size=lower, matched=reducer)] if lower else []
    if plan.alternatives and (smaller := plan.smaller or next_smaller(checkpoint)):
        found.append(replace(dense, checkpoint=smaller))
    if plan.videos:
        _check_heads(plan, found)
    unique = {replace(subject, matched=None): subject for subject in reversed(found)}
    return [subject for subject in found if unique[replace(subject, matched=None)] is subject]


def _check_heads(plan: Plan, found: Iterable[Subject]) -> None:
    """Raise ValueError where one of the models has no classes to give videos."""
    for checkpoint in dict.fromkeys(subject.checkpoint for subject in found):
        if not promises_head(configuration(checkpoint, arch=_arch(plan, checkpoint))):
            raise ValueError(
                f"videos are classified, but {checkpoint} is an encoder without a head, which has "
                "no classes to choose from; leave the videos out (speed is measured without "
                "them), or give a classifier's checkpoint"
            )


def _arch(plan: Plan, checkpoint: str) -> str | None:
    """The architecture of original checkpoints; what else a model is named by says its own."""
    return plan.arch if _is_file(checkpoint) else None


def _is_file(checkpoint: str) -> bool:
    return checkpoint.endswith((".pth", ".pt", ".safetensors"))


def benchmark(
    plan: Plan,
    *,
    device: torch.device | None = None,
    command: str = "",
    tell: Callable[[str], object] = lambda text: None,
    observe: Callable[[Benchmark], object] = lambda found: None,
) -> Benchmark:
    """Measure all that `plan` names; `tell` hears what is going on.

    Runs of the same model, dtype and batch size take turns. `observe` is given the record as it
    grows, after each such group, so that nothing is lost where a long run is cut off.
    """
    device = device or best_device()
    # Before anything is loaded: what does not fit is refused at once.
    check_decoder(plan.decoder, device)
    known = {checkpoint: subjects(plan, checkpoint) for checkpoint in plan.models}
    found = Benchmark(
        rows=(),
        repeats=plan.repeats,
        videos=0,
        unreadable=(),
        environment=environment(device),
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        rates=_rates(plan, device, tell),
    )
    for checkpoint, dtype in product(plan.models, plan.dtypes):
        for grown in _grown(plan, found, known[checkpoint], dtype, device, tell):
            found = grown
            observe(found)
    return found


def _rates(plan: Plan, device: torch.device, tell: Callable[[str], object]) -> dict[str, Rates]:
    tell("what the machine does at best")
    return {dtype: machine_rates(DTYPES[dtype], device) for dtype in plan.dtypes}


def _grown(
    plan: Plan,
    found: Benchmark,
    known: Sequence[Subject],
    dtype: str,
    device: torch.device,
    tell: Callable[[str], object],
) -> Iterator[Benchmark]:
    """The record with the rows of one more model and dtype, each time that it has grown."""
    models = _models(plan, known, dtype, device)
    own: list[BenchmarkRow] = []
    for batch_size in plan.batch_sizes:
        title = f"{known[0].checkpoint}, {dtype}, batch {batch_size}"
        tell(title)
        candidates = _candidates(plan, models, batch_size, device)
        number = len({row.contest for row in (*found.rows, *own)})
        rows = _timed(plan, models, dtype, candidates, number)
        if plan.videos and batch_size == max(plan.batch_sizes):
            yield replace(found, rows=(*found.rows, *own, *rows))
            tell(f"{title}, videos")
            rows, unreadable = _over_videos(plan, rows, candidates)
            found = _with_unreadable(plan, found, unreadable)
        own += rows
        yield replace(found, rows=(*found.rows, *_with_nearness(own)))


def _models(
    plan: Plan, known: Sequence[Subject], dtype: str, device: torch.device
) -> dict[Subject, PreTrainedModel]:
    """Each subject's model; those of one checkpoint and shape share their weights."""
    dense: dict[Subject, PreTrainedModel] = {}
    for subject in known:
        bare = replace(subject, reducer=NONE, matched=None)
        if bare not in dense:
            loaded = load(
                subject.checkpoint,
                arch=_arch(plan, subject.checkpoint),
                frames=subject.frames,
                size=subject.size,
                dtype=DTYPES[dtype],
                attn_implementation=plan.attn_implementation,
                onednn=plan.onednn,
                quantize=plan.quantize,
            )
            check_device(loaded, device)
            dense[bare] = loaded.to(device)
    return {
        subject: prune(dense[replace(subject, reducer=NONE, matched=None)], subject.reducer)
        for subject in known
    }


def _candidates(
    plan: Plan, models: dict[Subject, PreTrainedModel], batch_size: int, device: torch.device
) -> list[Candidate]:
    """All runs of one model, dtype and batch size; the dense one, in every mode, comes first."""
    return [
        Candidate(model, mode, batch_size, device)
        for model in models.values()
        for mode in plan.modes
    ]


def _timed(
    plan: Plan,
    models: Iterable[Subject],
    dtype: str,
    candidates: Sequence[Candidate],
    number: int,
) -> list[BenchmarkRow]:
    """A row for each candidate of a contest, which is the `number`-th."""
    batch_size = candidates[0].run.shape[0]
    speeds = contest(candidates, dense=len(plan.modes), repeats=plan.repeats)
    settings = (_setting(s, dtype, batch_size, m) for s, m in product(models, plan.modes))
    return [
        BenchmarkRow(
            setting=setting,
            gmacs_per_view=candidate.costs.gmacs_per_view,
            gmacs_dense=candidates[0].costs.gmacs_per_view,
            tokens=candidate.costs.tokens,
            speed=speed,
            reason=candidate.reason,
            contest=number,
        )
        for setting, candidate, speed in zip(settings, candidates, speeds, strict=True)
    ]


def _over_videos(
    plan: Plan, rows: Sequence[BenchmarkRow], candidates: Sequence[Candidate]
) -> tuple[list[BenchmarkRow], list[Unreadable]]:
    """The rows, of which those of the first mode went over the videos, and what was unreadable."""
    modes = len(plan.modes)
    raced, unreadable = over_videos(
        rows[::modes],
        candidates[::modes],
        plan.videos,
        protocol=plan.protocol,
        decoder=plan.decoder,
        workers=plan.workers,
        fewer_views=plan.alternatives,
    )
    known = {row.setting: row for row in raced}
    merged = {row.setting: known.get(row.setting, row) for row in (*rows, *raced)}
    return list(merged.values()), unreadable


def _with_unreadable(plan: Plan, found: Benchmark, unreadable: Iterable[Unreadable]) -> Benchmark:
    """The record with what could not be read, each video once, and how many could."""
    reasons = {video["path"]: video["reason"] for video in found.unreadable}
    reasons |= {video.name: video.reason for video in unreadable}
    return replace(
        found,
        videos=len(set(plan.videos)) - len(reasons),
        unreadable=tuple({"path": name, "reason": why} for name, why in reasons.items()),
    )


def _with_nearness(rows: Sequence[BenchmarkRow]) -> tuple[BenchmarkRow, ...]:
    """What was found in one batch size and mode stands in all rows of the same model."""

    def model(row: BenchmarkRow) -> Setting:
        return replace(row.setting, batch_size=0, mode="")

    near = {model(row): row.nearness for row in rows if row.nearness}
    return tuple(replace(row, nearness=near.get(model(row))) for row in rows)


def _setting(subject: Subject, dtype: str, batch_size: int, mode: str) -> Setting:
    return Setting(
        checkpoint=subject.checkpoint,
        frames=subject.frames,
        size=subject.size,
        reducer=subject.reducer,
        matched=subject.matched,
        dtype=dtype,
        batch_size=batch_size,
        mode=mode,
    )


def write(
    found: Benchmark, folder: Path, tell: Callable[[str], object] = lambda text: None
) -> None:
    """Leave the record in `folder`: benchmark.json, benchmark.csv and benchmark.md.

    Those of another command are kept under a number, which `tell` hears.
    """
    folder.mkdir(parents=True, exist_ok=True)
    set_aside(folder / "benchmark.json", found.command, tell)
    texts = {"json": found.to_json(), "csv": found.to_csv(), "md": markdown(found)}
    for kind, text in texts.items():
        write_atomically(folder / f"benchmark.{kind}", text)
