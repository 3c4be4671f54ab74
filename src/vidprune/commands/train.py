"""Fine-tuning on labelled videos, dense or with a reducer attached, in a folder that goes on."""

import hashlib
import json
import resource
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vidprune.commands.evaluate import check_labels, evaluate_each, model_digest
from vidprune.environment import environment, usable_cores
from vidprune.inference import Classifier
from vidprune.macs import costs
from vidprune.parallel import Process
from vidprune.pruned import prune, unprune
from vidprune.reducers.spec import describe, file_name, parse
from vidprune.report import Report
from vidprune.runs import write_atomically
from vidprune.training.augment import Augmentation
from vidprune.training.clips import Clips
from vidprune.training.full_disk import told_when_full
from vidprune.training.mixing import Mixing
from vidprune.training.outputs import (
    EVALUATIONS,
    MODEL,
    RECORD,
    TENSORBOARD,
    check_spared,
    claim_for_training,
    located,
)
from vidprune.training.record import Training, read_training
from vidprune.training.schedule import Schedule, arguments_for
from vidprune.training.trainer import Course, VideoTrainer, last_checkpoint, load_weights
from vidprune.video import Protocol, Sample


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that makes a training run what it is, beside its model and its videos.

    `reducer` is attached while the model learns; `evaluated` are those that the finished model
    is evaluated with, where there are videos for it. `repeats`: clips of a video in a batch.
    `evaluate_every` and `save_every` count epochs. Raises ValueError where a number is below 1.
    """

    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixing: Mixing = field(default_factory=Mixing)
    repeats: int = 2
    reducer: str = "none"
    evaluated: tuple[str, ...] = ("none",)
    evaluate_every: int = 1
    save_every: int = 1

    def __post_init__(self) -> None:
        for name in ("repeats", "evaluate_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Named:
    """How records name what a run was started with."""

    checkpoint: str
    data: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run is run on, which changes nothing of what comes out but roundings.

    `workers` decode for each process (None: the cores of its machine are shared out).
    """

    device: torch.device
    workers: int | None = None
    compiled: bool = False
    process: Process = field(default_factory=Process)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(
                f"workers={self.workers} must be 0 (decode in this process) or more, or left out"
            )
        if self.device.type == "cuda" and self.device.index and self.process.count == 1:
            raise ValueError(
                f"device={str(self.device)!r}: training takes the first GPU that it sees; set "
                f"CUDA_VISIBLE_DEVICES={self.device.index} and leave the number out"
            )

    @property
    def decoders(self) -> int:
        """How many processes decode for this one."""
        return usable_cores() // self.process.local_count if self.workers is None else self.workers


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model that is to learn, in place, and all that it is to learn from and with.

    `output` gets `model/` (which `load` takes; the dense model, whatever it was trained with),
    `train.json`, `log.jsonl`, a checkpoint after every `save_every` epochs and, with `validation`,
    `evaluations/`: the model under training every `evaluate_every` epochs, the finished one with
    each of the recipe's reducers.

    Raises ValueError for labels outside the head's classes, for a video on both sides, or where
    the run would write, and where a reducer does not fit the model.
    """

    model: PreTrainedModel
    protocol: Protocol
    samples: Sequence[Sample]
    output: Path
    recipe: Recipe
    named: Named
    machine: Machine
    validation: Sequence[Sample] = ()
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for listed in (self.samples, self.validation):
            check_labels(listed, self.model.config.num_labels)
        _check_apart(self.samples, self.validation)
        listed = (*self.samples, *self.validation)
        check_spared(self.output, dict.fromkeys(sample.path.parent for sample in listed))
        for reducer in (self.recipe.reducer, *self.recipe.evaluated):
            prune(self.model, parse(reducer))
        # Refuses what has no one forward.
        costs(self.model, self.recipe.reducer)

    def settings(self) -> dict[str, Any]:
        """What must be the same for a run to be taken up again."""
        return {
            "trained from": model_digest(self.model),
            "protocol": json.loads(json.dumps(asdict(self.protocol))),
            **_flat(json.loads(json.dumps(asdict(self.recipe)))),
            "videos": _digest(self.samples),
            "validation": _digest(self.validation),
            "processes": self.machine.process.count,
        }

    def evaluate(self, models: Mapping[str, PreTrainedModel]) -> tuple[Report, ...]:
        """Their reports on the validation videos, on the first process, by the code of `evaluate`;
        each run's folder is `evaluations/` and the model's name."""
        batch_size, device = self.recipe.schedule.batch_size, self.machine.device
        reports = evaluate_each(
            {
                self.output / EVALUATIONS / name: Classifier(
                    model, self.protocol, batch_size=batch_size, device=device
                )
                for name, model in models.items()
            },
            self.validation,
            checkpoint=str(self.output / MODEL),
            data=self.named.data,
            command=self.named.command,
            workers=self.machine.decoders,
            # What stands there may be of the same epoch of a run that was cut off.
            restart=True,
            process=self.machine.process,
        )
        return tuple(reports.values())

    def evaluate_finished(self, dense: PreTrainedModel) -> tuple[Report, ...]:
        """Its reports with each of the recipe's reducers."""
        if not self.validation:
            return ()
        reducers = [parse(text) for text in self.recipe.evaluated]
        return self.evaluate(
            {file_name(describe(reducer)): prune(dense, reducer) for reducer in reducers}
        )

    def trainer(self, observe: Callable[[Mapping[str, Any]], object]) -> VideoTrainer:
        """Transformers' Trainer with the reducer attached to the model."""
        recipe, machine = self.recipe, self.machine
        pruned = prune(self.model, parse(recipe.reducer))

        def measure(epoch: int) -> Mapping[str, float]:
            if epoch % recipe.evaluate_every:
                return {}
            report = next(iter(self.evaluate({f"epoch-{epoch:04d}": pruned})), None)
            return {} if report is None or report.top1 is None else {"top1": report.top1}

        return VideoTrainer(
            pruned,
            arguments_for(
                recipe.schedule,
                self.output,
                num_videos=len(self.samples),
                processes=machine.process.count,
                on_cpu=machine.device.type == "cpu",
                workers=machine.decoders,
                save_every=recipe.save_every,
                evaluate=bool(self.validation),
                compiled=machine.compiled,
            ),
            Clips(
                self.samples,
                self.protocol,
                recipe.augmentation,
                repeats=recipe.repeats,
                seed=recipe.schedule.seed,
            ),
            schedule=recipe.schedule,
            mixing=recipe.mixing,
            measure=measure,
            observe=observe,
            tensorboard=self.output / TENSORBOARD if self.tensorboard else None,
            process=machine.process,
        )


def train(
    job: Job,
    *,
    restart: bool = False,
    observe: Callable[[Mapping[str, Any]], object] = lambda record: None,
) -> Training | None:
    """Do a job; the first process returns the record, others None. `observe` hears the log.

    One that was cut off goes on from its last checkpoint; of one that is finished the record is
    read, and a model that was taken away is written again. `restart` forgets what was done.

    Raises ValueError where no video can be read, Diverged where the loss or a weight is no number
    any more, DiskFull, and FileExistsError where the job's folder belongs to another run.
    """
    with told_when_full(job.output):
        ran_on = environment(job.machine.device)
        claim_for_training(job.output, job.machine.process, job.settings(), restart=restart)
        if not (job.output / RECORD).exists():
            return _train_on(job, observe, ran_on)
        return _read_again(job) if job.machine.process.reports else None


def _train_on(
    job: Job, observe: Callable[[Mapping[str, Any]], object], ran_on: dict[str, Any]
) -> Training | None:
    output, process = job.output, job.machine.process
    own = set(vars(job.model.config))
    trainer = job.trainer(observe)
    trainer.train_on(last_checkpoint(output))
    peak_memory_gib = _peak_memory_gib(job.machine.device)
    courses = process.gather(trainer.course)
    unreadable = _unreadable(courses)
    dense = _finished(job, own)
    if process.reports:
        dense.save_pretrained(output / MODEL)
    evaluations = job.evaluate_finished(dense)
    if not process.reports:
        return None
    found = Training(
        **asdict(job.named),
        model=model_digest(dense),
        recipe=asdict(job.recipe),
        protocol=asdict(job.protocol),
        num_videos=len(job.samples),
        videos=tuple(sample.name for sample in job.samples),
        unreadable=unreadable,
        epoch_seconds=tuple(courses[0].epoch_seconds),
        peak_memory_gib=peak_memory_gib,
        evaluations=evaluations,
        processes=process.count,
        environment=ran_on,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(output / RECORD, found.to_json())
    return found


def _read_again(job: Job) -> Training:
    """The record of a finished run, whose model is put back where it is gone."""
    found = read_training(job.output / RECORD)
    model = job.output / MODEL
    if (model / "config.json").exists() and any(model.glob("*.safetensors")):
        return found
    checkpoint, own = last_checkpoint(job.output), set(vars(job.model.config))
    if checkpoint is not None:
        load_weights(job.model, checkpoint)
        dense = _finished(job, own)
        if model_digest(dense) == found.model:
            dense.save_pretrained(model)
            return found
    raise FileNotFoundError(
        f"output {job.output}: the run is finished, but its {MODEL}/ is gone, and no checkpoint is "
        "left to write it again from; restart (--restart) to train again"
    )


def _finished(job: Job, own: Collection[str]) -> PreTrainedModel:
    """The dense model, its configuration holding its `own` entries and how it is to see videos."""
    dense = unprune(job.model).eval()
    # The Trainer's own notes are no part of the model.
    for name in vars(dense.config).keys() - own:
        delattr(dense.config, name)
    dense.config.view_protocol = {
        name: getattr(job.protocol, name) for name in ("sampling", "segments", "crops", "stride")
    }
    return dense


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's numbers by their own names, so that a refusal can say which one differs."""
    parts = [value if isinstance(value, dict) else {name: value} for name, value in recipe.items()]
    return {name: value for part in parts for name, value in part.items()}


def _digest(samples: Sequence[Sample]) -> str:
    listed = "\n".join(f"{sample.name} {sample.label}" for sample in samples)
    digest = hashlib.sha256(listed.encode(errors="surrogatepass")).hexdigest()
    return f"{len(samples)}, {digest[:16]}"


def _check_apart(samples: Sequence[Sample], validation: Sequence[Sample]) -> None:
    seen = {located(sample.path) for sample in samples}
    both = [sample.name for sample in validation if located(sample.path) in seen]
    if both:
        raise ValueError(
            f"{len(both)} videos are both trained on and evaluated on, such as {both[0]!r}; "
            "take them out of one of the two"
        )


def _unreadable(courses: Sequence[Course]) -> tuple[dict[str, str], ...]:
    found = {name: reason for course in courses for name, reason in course.unreadable.items()}
    return tuple({"path": name, "reason": reason} for name, reason in sorted(found.items()))


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # Kilobytes, but for macOS, which counts bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
