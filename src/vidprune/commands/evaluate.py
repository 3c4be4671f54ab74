"""Top-1 and top-5 of a model on labelled videos, resumable and shared over processes."""

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.environment import environment, usable_cores
from vidprune.inference import Classifier, Request, Unreadable, ViewLogits
from vidprune.macs import gmacs_per_view
from vidprune.metrics import accuracy, mean_probabilities, rank_of
from vidprune.parallel import Process
from vidprune.pruned import Pruned
from vidprune.reducers.spec import describe
from vidprune.report import Progress, Report
from vidprune.runs import RunFolder, append, view_row, write_atomically, write_parquet
from vidprune.video import Protocol, Sample, UnreadableVideo

# What a configuration says beside what the model computes.
_NAMES_IN_CONFIG = {
    "id2label",
    "label2id",
    "_name_or_path",
    "architectures",
    "transformers_version",
}


Observer = Callable[[Progress], object]


@dataclass
class Tally:
    """Views as they come in, and the rank of the true class of each video that is complete."""

    samples: dict[str, Sample]
    views_per_video: int
    not_finite: list[str] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    _videos_by_rank: Counter[int] = field(default_factory=Counter)
    _pending: dict[str, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, view: int, logits: Tensor) -> None:
        """Count one view, logits (classes,), and its video once no view is missing."""
        views = self._pending[name]
        views[view] = logits
        if len(views) == self.views_per_video:
            stacked = torch.stack([views[index] for index in sorted(views)])
            rank = rank_of(self.samples[name].label, mean_probabilities(stacked))
            self.ranks[name] = rank
            if not stacked.isfinite().all():
                self.not_finite.append(name)
            self._videos_by_rank[rank] += 1
            del self._pending[name]

    def missing(self) -> list[Request]:
        """What has yet to be run, video by video."""
        return [
            Request(name, sample.path, self._missing_views(name))
            for name, sample in self.samples.items()
            if name not in self.ranks
        ]

    def _missing_views(self, name: str) -> tuple[int, ...]:
        there = self._pending.get(name, {})
        return tuple(view for view in range(self.views_per_video) if view not in there)

    @property
    def done(self) -> int:
        """Videos that are complete, or could not be read."""
        return len(self.ranks) + len(self.unreadable)

    @property
    def progress(self) -> Progress:
        """Where the count stands."""
        return Progress(
            done=self.done,
            total=len(self.samples),
            unreadable=len(self.unreadable),
            accuracy=accuracy(self._videos_by_rank),
        )


def evaluate(
    classifier: Classifier,
    samples: Sequence[Sample],
    *,
    output: Path,
    checkpoint: str,
    data: str,
    command: str = "",
    workers: int | None = None,
    strict: bool = False,
    restart: bool = False,
    parquet: bool = False,
    process: Process | None = None,
    observe: Observer = lambda progress: None,
) -> Report | None:
    """Evaluate, and write `run.json`, `views.jsonl` and `report.json` into `output`.

    A run that was cut off goes on where it stopped. Under torchrun every process does its share
    and the first one reports; the others return None. `checkpoint`, `data` and `command` are how
    the report names what was evaluated. `workers` decode for each process (None: the cores of its
    machine are shared out). `observe` is told after every video.

    A video that cannot be read is named in the report and left out; `strict` raises
    UnreadableVideo instead. Raises ValueError for labels outside the head's classes and
    FileExistsError where `output` belongs to another run.
    """
    process = process or Process()
    check_labels(samples, classifier.model.config.num_labels)
    if parquet and find_spec("pyarrow") is None:
        raise ValueError("parquet needs pyarrow; install vidprune[parquet], or do without it")
    # Before anything runs: what is read of the code later may have been changed meanwhile.
    ran_on = environment(classifier.device)
    folder = RunFolder(output, process)
    folder.claim(_settings(classifier, samples, checkpoint), restart=restart)
    tally = _tally(folder, process.share(samples), classifier.protocol)
    requests = tally.missing()
    if workers is None:
        workers = max(1, usable_cores() // process.local_count)
    started = time.monotonic()
    _run(classifier, requests, tally, folder, workers, strict, observe)
    seconds = time.monotonic() - started
    shares = process.gather((tally.unreadable, len(requests) - len(tally.unreadable), seconds))
    if not process.reports:
        return None
    named = {"checkpoint": checkpoint, "data": data, "command": command, "environment": ran_on}
    report = _report(classifier, samples, folder, shares, named)
    if parquet:
        write_parquet(output / "views.parquet", folder.rows())
    write_atomically(output / "report.json", report.to_json())
    return report


def check_labels(samples: Sequence[Sample], classes: int) -> None:
    """Raise ValueError for the first label that the head does not have."""
    for sample in samples:
        if sample.label >= classes:
            raise ValueError(
                f"label {sample.label} of {sample.name} is outside the head's {classes} classes "
                f"(0 to {classes - 1}); is this the checkpoint for these data?"
            )


def _tally(folder: RunFolder, samples: Sequence[Sample], protocol: Protocol) -> Tally:
    """What is already done of these samples."""
    tally = Tally({sample.name: sample for sample in samples}, len(protocol.views))
    for row in folder.rows():
        if row["video"] in tally.samples:
            tally.add(row["video"], row["view"], torch.tensor(row["logits"]))
    return tally


def _run(
    classifier: Classifier,
    requests: Sequence[Request],
    tally: Tally,
    folder: RunFolder,
    workers: int,
    strict: bool,
    observe: Observer,
) -> None:
    paths = {request.name: request.path for request in requests}
    observe(tally.progress)
    with folder.journal() as journal:
        for outcome in classifier.classify(requests, workers=workers):
            before = tally.done
            if isinstance(outcome, Unreadable):
                if strict:
                    raise UnreadableVideo(paths[outcome.name], outcome.reason)
                tally.unreadable[outcome.name] = outcome.reason
            else:
                append(journal, _row(outcome, tally, classifier.protocol))
                tally.add(outcome.name, outcome.view, outcome.logits)
            if tally.done > before:
                observe(tally.progress)


def _row(outcome: ViewLogits, tally: Tally, protocol: Protocol) -> dict[str, Any]:
    label = tally.samples[outcome.name].label
    return view_row(outcome, label=label, place=protocol.views[outcome.view])


def _report(
    classifier: Classifier,
    samples: Sequence[Sample],
    folder: RunFolder,
    shares: Sequence[tuple[dict[str, str], int, float]],
    named: dict[str, Any],
) -> Report:
    views = range(len(classifier.protocol.views))
    folder.gather((sample.name, view) for sample in samples for view in views)
    tally = _tally(folder, samples, classifier.protocol)
    reasons = {name: reason for unreadable, _, _ in shares for name, reason in unreadable.items()}
    done, seconds = sum(share[1] for share in shares), max(share[2] for share in shares)
    return Report(
        **asdict(tally.progress.accuracy),
        **named,
        not_finite=tuple(tally.not_finite),
        unreadable=tuple(
            {"path": sample.name, "reason": reasons[sample.name]}
            for sample in samples
            if sample.name in reasons
        ),
        gmacs_per_view=gmacs_per_view(classifier.model),
        views_per_video=len(views),
        videos_per_second=done / seconds if done else None,
        reducer=_reducer(classifier.model),
        protocol=asdict(classifier.protocol),
        dtype=_dtype(classifier.model),
        batch_size=classifier.batch_size,
        processes=len(shares),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _settings(classifier: Classifier, samples: Sequence[Sample], checkpoint: str) -> dict[str, Any]:
    """What makes two runs the same, so that their rows may stand in one file."""
    listed = "\n".join(f"{sample.name} {sample.label}" for sample in samples)
    return {
        "checkpoint": checkpoint,
        "model": model_digest(classifier.model),
        "reducer": _reducer(classifier.model),
        "protocol": asdict(classifier.protocol),
        "dtype": _dtype(classifier.model),
        "attention": classifier.model.config._attn_implementation,
        "videos": f"{len(samples)}, {_digest(listed.encode(errors='surrogatepass'))}",
    }


def model_digest(model: PreTrainedModel) -> str:
    """A short name for exactly this model: its weights, fixed tables and configuration."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in _NAMES_IN_CONFIG}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    # Fixed tables, such as VideoMAE's positions, are plain attributes and in no state dict.
    tables = {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }
    for name, tensor in sorted({**model.state_dict(), **tables}.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _reducer(model: PreTrainedModel) -> str:
    return describe(model.reducer if isinstance(model, Pruned) else None)


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")
