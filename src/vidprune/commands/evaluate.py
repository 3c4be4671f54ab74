"""Top-1 and top-5 of a model on labelled videos, resumable and shared over processes."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from vidprune.backbones.attention_in_parts import attention_of
from vidprune.backbones.onednn import uses_onednn
from vidprune.backbones.quantized import quantized_as
from vidprune.commands.shares import spent_on
from vidprune.environment import environment, usable_cores
from vidprune.inference import Classifier, Unreadable, ViewLogits, check_alike, classify_with_each
from vidprune.parallel import Process
from vidprune.reading import Request, check_workers, default_workers
from vidprune.reducers.spec import describe
from vidprune.report import Progress, Report
from vidprune.runs import RunFolder, append, view_row, write_atomically, write_parquet
from vidprune.tally import Tally
from vidprune.video import Sample, UnreadableVideo

# What a configuration says beside what the model computes.
_NAMES_IN_CONFIG = {
    "id2label",
    "label2id",
    "_name_or_path",
    "architectures",
    "transformers_version",
}
# What a report says of the run that did the views, not of the model and the videos.
_PROVENANCE = ("environment", "command", "date", "batch_size", "processes", "videos_per_second")

Observer = Callable[[Progress], object]


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
    FileExistsError where `output` belongs to another run, or another command is at work in it.
    """
    reports = evaluate_each(
        {output: classifier},
        samples,
        checkpoint=checkpoint,
        data=data,
        command=command,
        workers=workers,
        strict=strict,
        restart=restart,
        parquet=parquet,
        process=process,
        observe=observe,
    )
    return reports.get(output)


def evaluate_each(
    classifiers: Mapping[Path, Classifier],
    samples: Sequence[Sample],
    *,
    checkpoint: str,
    data: str,
    command: str = "",
    workers: int | None = None,
    strict: bool = False,
    restart: bool = False,
    parquet: bool = False,
    process: Process | None = None,
    observe: Observer = lambda progress: None,
) -> dict[Path, Report]:
    """Evaluate several reducers of one model side by side, each into a run folder of its own.

    As `evaluate` does, but videos are decoded once for all whose runs have come equally far, and
    `observe` is told of the first of them. How many videos a second one alone would take is not
    known then. Reports are written at the end; where one reducer fails, the views that all have
    until then are kept. Under torchrun the reports are the first process's; others have none.

    Raises ValueError where the classifiers do not share one protocol and one batch size.
    """
    process = process or Process()
    check_workers(workers)
    if parquet and find_spec("pyarrow") is None:
        raise ValueError("parquet needs pyarrow; install vidprune[parquet], or do without it")
    check_alike(list(classifiers.values()))
    for classifier in classifiers.values():
        check_labels(samples, classifier.model.config.num_labels)
    # Before anything runs: what is read of the code later may have been changed meanwhile.
    named = {"checkpoint": checkpoint, "data": data, "command": command}
    jobs = [
        _Job(
            classifier,
            RunFolder(output, process),
            samples,
            named,
            environment(classifier.device),
        )
        for output, classifier in classifiers.items()
    ]
    if workers is None:
        cores = max(1, usable_cores() // process.local_count)
        first = jobs[0].classifier
        workers = default_workers(first.device, cores, first.decoder)
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(job.folder.held())
        for job in jobs:
            job.begin(restart)
        for requests, group in _equally_far(jobs):
            _run(group, requests, workers, strict, observe)
        found = {job.folder.path: job.end(parquet) for job in jobs}
    return {path: report for path, report in found.items() if report is not None}


def check_labels(samples: Sequence[Sample], classes: int) -> None:
    """Raise ValueError for the first label that the head does not have."""
    for sample in samples:
        if sample.label >= classes:
            raise ValueError(
                f"label {sample.label} of {sample.name} is outside the head's {classes} classes "
                f"(0 to {classes - 1}); is this the checkpoint for these data?"
            )


@dataclass
class _Job:
    """One classifier's evaluation, in its folder."""

    classifier: Classifier
    folder: RunFolder
    samples: Sequence[Sample]
    named: dict[str, Any]
    ran_on: dict[str, Any]
    # What `begin` finds, and how long the rest took, where that is known of this job alone.
    tally: Tally = field(init=False)
    done_before: int = field(init=False)
    seconds: float | None = 0.0

    def begin(self, restart: bool) -> None:
        """Take up what the folder holds."""
        self.folder.claim(self._settings(), restart=restart)
        self.tally = self._tally(self.folder.process.share(self.samples))
        self.done_before = len(self.tally.ranks)

    def take(self, outcome: ViewLogits | Unreadable, journal: TextIO) -> None:
        """Keep what the classifier says of a view, or that a video cannot be read."""
        if isinstance(outcome, Unreadable):
            self.tally.unreadable[outcome.name] = outcome.reason
            return
        label = self.tally.samples[outcome.name].label
        place = self.classifier.protocol.views[outcome.view]
        append(journal, view_row(outcome, label=label, place=place))
        self.tally.add(outcome.name, outcome.view, outcome.logits, outcome.setting)

    def end(self, parquet: bool) -> Report | None:
        """Write the report, on the first process."""
        process = self.folder.process
        done = len(self.tally.ranks) - self.done_before
        shares = process.gather((self.tally.unreadable, done, self.seconds))
        if not process.reports:
            return None
        report = self._report(shares)
        if not any(share[1] for share in shares):
            report = replace(report, **self._provenance())
        if parquet:
            write_parquet(self.folder.path / "views.parquet", self.folder.rows())
        write_atomically(self.folder.path / "report.json", report.to_json())
        return report

    def _provenance(self) -> dict[str, Any]:
        """How an earlier report says that it came about, which stays true of views that all were
        there already."""
        try:
            earlier = json.loads((self.folder.path / "report.json").read_text(encoding="utf-8"))
            return {name: earlier[name] for name in _PROVENANCE}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _tally(self, samples: Sequence[Sample]) -> Tally:
        """What is already done of these samples."""
        views = len(self.classifier.protocol.views)
        tally = Tally({sample.name: sample for sample in samples}, views)
        for row in self.folder.rows():
            if row["video"] in tally.samples:
                logits = torch.tensor(row["logits"])
                tally.add(row["video"], row["view"], logits, row.get("setting"))
        return tally

    def _report(self, shares: Sequence[tuple[dict[str, str], int, float | None]]) -> Report:
        model, protocol = self.classifier.model, self.classifier.protocol
        views = range(len(protocol.views))
        self.folder.gather((sample.name, view) for sample in self.samples for view in views)
        tally = self._tally(self.samples)
        reasons = {name: why for unreadable, *_ in shares for name, why in unreadable.items()}
        return Report(
            **asdict(tally.progress.accuracy),
            **self.named,
            environment=self.ran_on,
            not_finite=tuple(tally.not_finite),
            unreadable=tuple(
                {"path": sample.name, "reason": reasons[sample.name]}
                for sample in self.samples
                if sample.name in reasons
            ),
            **spent_on(model, tally.settings.elements()),
            views_per_video=len(views),
            videos_per_second=_per_second(shares),
            reducer=_reducer(model),
            protocol=asdict(protocol),
            dtype=_dtype(model),
            attention=attention_of(model),
            onednn=uses_onednn(model),
            compiled=self.classifier.compiled,
            replayed=self.classifier.replayed,
            decoder=self.classifier.read_by,
            quantized=quantized_as(model),
            batch_size=self.classifier.batch_size,
            processes=len(shares),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _settings(self) -> dict[str, Any]:
        """What makes two runs the same, so that their rows may stand in one file."""
        model = self.classifier.model
        listed = "\n".join(f"{sample.name} {sample.label}" for sample in self.samples)
        return {
            "checkpoint": self.named["checkpoint"],
            "model": model_digest(model),
            "reducer": _reducer(model),
            "protocol": asdict(self.classifier.protocol),
            "dtype": _dtype(model),
            # Where nothing is said, it is what the family takes of itself.
            **({"attention": attention} if (attention := attention_of(model)) else {}),
            **({"onednn": True} if uses_onednn(model) else {}),
            **({"compiled": True} if self.classifier.compiled else {}),
            **({"replayed": True} if self.classifier.replayed else {}),
            **({"decoder": name} if (name := self.classifier.read_by) != "pyav" else {}),
            **({"quantized": kind} if (kind := quantized_as(model)) else {}),
            "videos": f"{len(self.samples)}, {_digest(listed.encode(errors='surrogatepass'))}",
        }


def _per_second(shares: Sequence[tuple[dict[str, str], int, float | None]]) -> float | None:
    """Videos that all processes did, over the time of the slowest."""
    done, seconds = sum(share[1] for share in shares), [share[2] for share in shares]
    slowest = max((each for each in seconds if each is not None), default=0.0)
    return done / slowest if done and None not in seconds else None


def _equally_far(jobs: Sequence[_Job]) -> list[tuple[tuple[Request, ...], list[_Job]]]:
    """The jobs that wait for the same views, together, with what they wait for."""
    groups: defaultdict[tuple[Request, ...], list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[tuple(job.tally.missing())].append(job)
    return list(groups.items())


def _run(
    jobs: Sequence[_Job],
    requests: Sequence[Request],
    workers: int,
    strict: bool,
    observe: Observer,
) -> None:
    paths = {request.name: request.path for request in requests}
    classifiers, tally = [job.classifier for job in jobs], jobs[0].tally
    observe(tally.progress)
    if not requests:
        return
    started = time.monotonic()
    with ExitStack() as stack:
        journals = [stack.enter_context(job.folder.journal()) for job in jobs]
        for outcomes in classify_with_each(classifiers, requests, workers=workers):
            before = tally.done
            for job, outcome, journal in zip(jobs, outcomes, journals, strict=True):
                if strict and isinstance(outcome, Unreadable):
                    raise UnreadableVideo(paths[outcome.name], outcome.reason)
                job.take(outcome, journal)
            if tally.done > before:
                observe(tally.progress)
    for job in jobs:
        job.seconds = time.monotonic() - started if len(jobs) == 1 else None


def model_digest(model: PreTrainedModel) -> str:
    """A short name for exactly this model: its weights, fixed tables and configuration; or what it
    says itself."""
    if hasattr(model, "digest"):
        return str(model.digest)
    config = {k: v for k, v in model.config.to_dict().items() if k not in _NAMES_IN_CONFIG}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    # Fixed tables, such as VideoMAE's positions, are in no state dict: buffers that are not saved,
    # or plain attributes.
    tables = {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
    }
    buffers = dict(model.named_buffers())
    for name, tensor in sorted({**model.state_dict(), **buffers, **tables}.items()):
        digest.update(name.encode())
        for part in _parts(tensor):
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """What a weight in 8 bits is made of; any other tensor itself."""
    if not is_traceable_wrapper_subclass(tensor):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _parts(getattr(tensor, name))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _reducer(model: PreTrainedModel) -> str:
    return describe(getattr(model, "reducer", None))


def _dtype(model: PreTrainedModel) -> str:
    return str(model.dtype).removeprefix("torch.")
