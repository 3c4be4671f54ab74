"""Fine-tuning on labelled videos, dense or with a reducer attached, in a folder that goes on."""

import json
import resource
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.trainer_utils import get_last_checkpoint

from vidprune.commands.evaluate import check_labels, evaluate, model_digest
from vidprune.environment import environment, usable_cores
from vidprune.inference import Classifier
from vidprune.parallel import Process
from vidprune.pruned import prune, unprune
from vidprune.reducers.spec import describe, parse
from vidprune.report import Report
from vidprune.runs import RunFolder, write_atomically
from vidprune.training.augment import Augmentation
from vidprune.training.clips import Clips
from vidprune.training.mixing import Mixing
from vidprune.training.record import Training
from vidprune.training.trainer import Course, Schedule, VideoTrainer, arguments_for
from vidprune.video import Protocol, Sample

MODEL, RECORD, EVALUATIONS = "model", "train.json", "evaluations"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that makes a training run what it is, beside its model and its videos.

    `reducer` is attached while the model learns; `evaluated` are those that the finished model
    is evaluated with, where there are videos for it. `repeats`: clips of a video in a batch.
    """

    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)
    mixing: Mixing = field(default_factory=Mixing)
    repeats: int = 2
    reducer: str = "none"
    evaluated: tuple[str, ...] = ("none",)


@dataclass(frozen=True, kw_only=True)
class Named:
    """How records name what a run was started with."""

    checkpoint: str
    data: str
    command: str = ""


def train(
    model: PreTrainedModel,
    protocol: Protocol,
    samples: Sequence[Sample],
    *,
    output: Path,
    recipe: Recipe,
    named: Named,
    validation: Sequence[Sample] = (),
    device: torch.device,
    evaluate_every: int = 1,
    save_every: int = 1,
    workers: int | None = None,
    compiled: bool = False,
    tensorboard: bool = False,
    restart: bool = False,
    process: Process | None = None,
    observe: Callable[[Mapping[str, Any]], object] = lambda record: None,
) -> Training | None:
    """Fine-tune `model` in place on `samples`; the first process returns the record, others None.

    `output` gets `model/` (which `load` takes; the dense model, whatever it was trained with),
    `train.json`, `log.jsonl`, a checkpoint after every `save_every` epochs and, with `validation`,
    `evaluations/`: the model under training every `evaluate_every` epochs, the finished one with
    each of the recipe's reducers. A run that was cut off goes on from its last checkpoint.

    Raises ValueError for labels outside the head's classes, or one video on both sides, and
    FileExistsError where `output` belongs to another run.
    """
    process = process or Process()
    reducers = [parse(text) for text in (recipe.reducer, *recipe.evaluated)]
    for listed in (samples, validation):
        check_labels(listed, model.config.num_labels)
    _check_apart(samples, validation)
    # A reducer that does not fit is known before anything is written.
    pruned, *_ = [prune(model, reducer) for reducer in reducers]
    ran_on = environment(device)
    _claim(output, process, restart, _settings(model, protocol, samples, recipe))
    judge = _Judge(output, protocol, validation, recipe, named, device, process)

    def measure(epoch: int) -> Mapping[str, float]:
        if epoch % evaluate_every and epoch < recipe.schedule.epochs:
            return {}
        report = judge(pruned, f"epoch-{epoch:04d}")
        return {} if report is None or report.top1 is None else {"top1": report.top1}

    trainer = VideoTrainer(
        pruned,
        arguments_for(
            recipe.schedule,
            output,
            num_videos=len(samples),
            repeats=recipe.repeats,
            processes=process.count,
            on_cpu=device.type == "cpu",
            workers=usable_cores() // process.local_count if workers is None else workers,
            save_every=save_every,
            evaluate=bool(validation),
            compiled=compiled,
        ),
        Clips(
            samples,
            protocol,
            recipe.augmentation,
            repeats=recipe.repeats,
            seed=recipe.schedule.seed,
        ),
        schedule=recipe.schedule,
        mixing=recipe.mixing,
        measure=measure,
        observe=observe,
        tensorboard=output / "tensorboard" if tensorboard else None,
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(output)))
    dense = unprune(pruned).eval()
    # How vidprune samples videos for this model unless told otherwise.
    dense.config.view_protocol = {
        name: getattr(protocol, name) for name in ("sampling", "segments", "crops", "stride")
    }
    if process.reports:
        dense.save_pretrained(output / MODEL)
    evaluations = tuple(
        report
        for text, reducer in zip(recipe.evaluated, reducers[1:], strict=True)
        if validation and (report := judge(prune(dense, reducer), _folder_name(text)))
    )
    courses = process.gather(trainer.course)
    if not process.reports:
        return None
    found = Training(
        **asdict(named),
        model=model_digest(dense),
        recipe=asdict(recipe),
        protocol=asdict(protocol),
        num_videos=len(samples),
        videos=tuple(sample.name for sample in samples),
        unreadable=_unreadable(courses),
        epoch_seconds=tuple(courses[0].epoch_seconds),
        peak_memory_gib=_peak_memory_gib(device),
        evaluations=evaluations,
        processes=process.count,
        environment=ran_on,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(output / RECORD, found.to_json())
    return found


@dataclass(frozen=True)
class _Judge:
    """Evaluates a model on the validation videos, by the code of `evaluate`."""

    output: Path
    protocol: Protocol
    samples: Sequence[Sample]
    recipe: Recipe
    named: Named
    device: torch.device
    process: Process

    def __call__(self, model: PreTrainedModel, name: str) -> Report | None:
        """Its report, on the first process; the run's folder is `evaluations/name`."""
        classifier = Classifier(
            model, self.protocol, batch_size=self.recipe.schedule.batch_size, device=self.device
        )
        return evaluate(
            classifier,
            self.samples,
            output=self.output / EVALUATIONS / name,
            checkpoint=str(self.output / MODEL),
            data=self.named.data,
            command=self.named.command,
            # What stands there may be of the same epoch of a run that was cut off.
            restart=True,
            process=self.process,
        )


def _settings(
    model: PreTrainedModel, protocol: Protocol, samples: Sequence[Sample], recipe: Recipe
) -> dict[str, Any]:
    """What must be the same for a run to be taken up again."""
    return {
        "trained from": model_digest(model),
        "protocol": asdict(protocol),
        "recipe": json.loads(json.dumps(asdict(recipe))),
        "videos": [f"{sample.name} {sample.label}" for sample in samples],
    }


def _claim(output: Path, process: Process, restart: bool, settings: Mapping[str, Any]) -> None:
    if restart and process.reports:
        for stale in output.glob("checkpoint-*"):
            shutil.rmtree(stale)
        (output / "log.jsonl").unlink(missing_ok=True)
    RunFolder(output, process).claim(settings, restart=restart)


def _check_apart(samples: Sequence[Sample], validation: Sequence[Sample]) -> None:
    seen = {sample.path.resolve() for sample in samples}
    both = [sample.name for sample in validation if sample.path.resolve() in seen]
    if both:
        raise ValueError(
            f"{len(both)} videos are both trained on and evaluated on, such as {both[0]!r}; "
            "take them out of one of the two"
        )


def _folder_name(text: str) -> str:
    return describe(parse(text)).replace(":", "-").replace("/", "-")


def _unreadable(courses: Sequence[Course]) -> tuple[dict[str, str], ...]:
    found = {name: reason for course in courses for name, reason in course.unreadable.items()}
    return tuple({"path": name, "reason": reason} for name, reason in sorted(found.items()))


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # Kilobytes, but for macOS, which counts bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
