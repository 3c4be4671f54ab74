"""transformers' Trainer for video models: our clips, our losses, and our way to measure."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState

from vidprune.inference import normalisation_of
from vidprune.model import per_clip
from vidprune.parallel import Process
from vidprune.pruned import unprune
from vidprune.runs import write_atomically
from vidprune.training.clips import UNREADABLE, Clips, collate
from vidprune.training.layers import MuonAndAdamW, groups, matrices_in_blocks
from vidprune.training.mixing import Mixing, mixed, targets_of
from vidprune.training.schedule import Schedule
from vidprune.video import normalise


class Diverged(RuntimeError):
    """Training whose loss, or a weight, is no number any more."""


@dataclass
class Course:
    """What a run noted on its way: seconds of each epoch, videos that could not be read, and
    whether any could be in the epoch under way.

    Every process keeps its own in each checkpoint, so that a run taken up does not forget.
    """

    epoch_seconds: list[float] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    any_readable: bool = False

    def save(self, checkpoint: Path, process: int) -> None:
        """Beside what the Trainer keeps."""
        write_atomically(_course_file(checkpoint, process), json.dumps(asdict(self)))

    def restore(self, checkpoint: Path, process: int) -> None:
        """As it was then; older checkpoints have none."""
        file = _course_file(checkpoint, process)
        if file.exists():
            saved = json.loads(file.read_text(encoding="utf-8"))
            self.epoch_seconds[:] = saved["epoch_seconds"]
            self.unreadable.update(saved["unreadable"])


def _course_file(checkpoint: Path, process: int) -> Path:
    return checkpoint / f"course-{process}.json"


class ClipTrainer(Trainer):
    """Trains on `Clips` and can be taken up to the bit; `log.jsonl` in its folder is its course.

    `observe` hears every record of the log; `given` is what the Trainer takes.
    """

    def __init__(
        self,
        clips: Clips,
        *,
        observe: Callable[[Mapping[str, Any]], object] = lambda record: None,
        **given: Any,
    ) -> None:
        self.clips, self.course, self.observe = clips, Course(), observe
        super().__init__(
            train_dataset=clips,
            data_collator=collate,
            callbacks=[_Epochs(clips, self.course, self.check_epoch)],
            **given,
        )
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        # At the last step of an epoch. A checkpoint of nothing learned is worse than none.
        self.check_epoch()
        super()._save_checkpoint(model, trial)

    def check_epoch(self) -> None:
        """Raise Diverged where a weight is no number any more, which no loss shows after the last
        update."""
        for name, weight in self.model.named_parameters():
            if not weight.isfinite().all():
                raise Diverged(
                    f"the weights are no finite numbers at epoch {self.state.epoch or 0:.2f}, such "
                    f"as {name}; choose a smaller learning_rate or weight_decay, or precision "
                    "bf16 or fp32"
                )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To TensorBoard, as the Trainer does; a line of `log.jsonl`; and whoever observes.

        Raises Diverged where the loss is no number.
        """
        if not math.isfinite(logs.get("loss", 0)):
            raise Diverged(
                f"the loss is {logs['loss']} at epoch {self.state.epoch or 0:.2f}; choose a "
                "smaller learning_rate, or precision bf16 or fp32"
            )
        super().log(logs, start_time)
        if self.is_world_process_zero():
            record = self.state.log_history[-1]
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            self.observe(record)

    @property
    def log_file(self) -> Path:
        """One record a line."""
        return Path(self.args.output_dir) / "log.jsonl"

    def train_on(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint or from the beginning."""
        if self.is_world_process_zero() and self.log_file.exists():
            done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
            _cut_log(self.log_file, done)
        if checkpoint is not None:
            self.course.restore(checkpoint, self.args.process_index)
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def load_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Give a model, pruned or not, the weights of a checkpoint."""
    # The Trainer reads a checkpoint's tensors by the names that they have in memory, not in
    # the file, and passes over VideoMAE's biases, which transformers renames on the way.
    learning: Any = unprune(model)
    learning.load_state_dict(type(learning).from_pretrained(checkpoint).state_dict())


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint in a run's folder; one that was cut off while it was written has
    no `trainer_state.json` yet, or a part of it."""
    found = {
        int(path.parent.name.rpartition("-")[2]): path.parent
        for path in folder.glob("checkpoint-*/trainer_state.json")
        if path.parent.name.rpartition("-")[2].isdigit() and _is_whole(path)
    }
    return found[max(found)] if found else None


def _is_whole(state: Path) -> bool:
    try:
        json.loads(state.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _cut_log(log: Path, done: int) -> None:
    """Leave the lines up to a step: what comes after it is done again."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done]
    log.write_text("".join(kept), encoding="utf-8")


class VideoTrainer(ClipTrainer):
    """Trains a model, pruned or not, on `Clips`.

    `measure` evaluates the model as it stands and names what it found; the Trainer logs it after
    every epoch. `observe` hears every record of the log; `tensorboard` is a folder for it.
    Training raises ValueError after an epoch in which no video could be read on any `process`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        clips: Clips,
        *,
        schedule: Schedule,
        mixing: Mixing,
        measure: Callable[[int], Mapping[str, float]],
        observe: Callable[[Mapping[str, Any]], object],
        tensorboard: Path | None = None,
        process: Process | None = None,
    ) -> None:
        self.process = process or Process()
        self.schedule, self.mixing, self.measure = schedule, mixing, measure
        self._drawn = -1, np.random.default_rng()
        # Evaluation goes through `measure`; the Trainer insists on something here.
        judged = clips if arguments.eval_strategy != "no" else None
        super().__init__(clips, observe=observe, model=model, args=arguments, eval_dataset=judged)
        if tensorboard is not None and self.is_world_process_zero():
            from torch.utils.tensorboard import SummaryWriter

            self.add_callback(TensorBoardCallback(SummaryWriter(str(tensorboard))))

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW or Muon over groups with rates by depth."""
        optimizer: torch.optim.Optimizer | None = self.optimizer  # type: ignore[has-type]
        if optimizer is None:
            found = groups(
                self.model,
                rate=self.args.learning_rate,
                weight_decay=self.schedule.weight_decay,
                layer_decay=self.schedule.layer_decay,
            )
            if self.schedule.optimizer == "muon":
                matrices = matrices_in_blocks(self.model)
                optimizer = MuonAndAdamW(found, matrices, self.schedule.betas)
            else:
                optimizer = torch.optim.AdamW(found, betas=self.schedule.betas)
            self.optimizer = optimizer
        return optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Cross entropy with mixed and smoothed labels, of the clips that could be read."""
        self.course.unreadable.update(inputs["unreadable"])
        pixels = normalise(inputs["pixel_values"], normalisation_of(self.model))
        readable = inputs["labels"] != UNREADABLE
        if not readable.any():
            # All processes take part in every step.
            return 0 * model(pixel_values=pixels).logits.sum()
        self.course.any_readable = True
        labels = inputs["labels"][readable]
        targets = targets_of(labels, self.model.config.num_labels, self.mixing.smoothing)
        pixels, targets = mixed(pixels[readable], targets, self.mixing, self._rng())
        logits = per_clip(model(pixel_values=pixels).logits, len(targets))
        return -(targets * log_softmax(logits, -1)).sum(-1).mean()

    def check_epoch(self) -> None:
        """Raise also where no video could be read, on no process."""
        super().check_epoch()
        if not any(self.process.gather(self.course.any_readable)):
            name, reason = next(iter(self.course.unreadable.items()))
            raise ValueError(
                f"none of the {len(self.clips)} videos can be read, such as {name!r} ({reason}); "
                "are their paths right?"
            )

    def _rng(self) -> np.random.Generator:
        """One for every update and process, which goes on over the steps of an update."""
        step = self.state.global_step
        if step != self._drawn[0]:
            key = (self.schedule.seed, step, self.args.process_index)
            self._drawn = step, np.random.default_rng(key)
        return self._drawn[1]

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """What `measure` finds, as the Trainer's log has it."""
        self.model.eval()
        # What is drawn there is not missed in training.
        with torch.random.fork_rng():
            found = self.measure(round(self.state.epoch or 0))
        metrics = {f"eval_{name}": value for name, value in found.items()}
        if metrics:
            self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Epochs(TrainerCallback):
    """Draws clips anew for each epoch, notes how long its steps took, evaluation left out, and
    has what came of them checked.

    (accelerate's loader tells datasets of an epoch too, but not where several processes share it.)
    """

    def __init__(self, clips: Clips, course: Course, check: Callable[[], None]) -> None:
        self.clips, self.course, self.check, self.started = clips, course, check, 0.0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Before the first step; `state.epoch` is what has been done, in epochs."""
        self.clips.epoch = int((state.epoch or 0) + 1e-6)
        self.course.any_readable = False
        self.started = time.monotonic()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """After the last step."""
        self.course.epoch_seconds.append(time.monotonic() - self.started)
        self.check()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """After a checkpoint; at the last step of an epoch that is before the epoch's end."""
        noted = replace(self.course, epoch_seconds=[*self.course.epoch_seconds])
        if len(noted.epoch_seconds) < int((state.epoch or 0) + 1e-6):
            noted.epoch_seconds.append(time.monotonic() - self.started)
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        noted.save(folder, args.process_index)
