"""transformers' Trainer for video models: our clips, our losses, and our way to measure."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState

from vidprune.inference import normalisation_of
from vidprune.model import per_clip
from vidprune.pruned import unprune
from vidprune.training.clips import Clips, collate
from vidprune.training.layers import MuonAndAdamW, groups, matrices_in_blocks
from vidprune.training.mixing import Mixing, mixed, targets_of
from vidprune.video import normalise

OptimizerName = Literal["adamw", "muon"]
Precision = Literal["fp32", "bf16", "fp16"]
# Clips of a batch for which a recipe's learning rate is meant, as in VideoMAE.
RATE_PER = 256


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast; the defaults are VideoMAE's for a ViT-B on Kinetics.

    `batch_size` counts videos in one step of one process, `accumulate` steps before an update.
    `learning_rate` is that of 256 clips at once, scaled to what an update sees; it warms up over
    `warmup_epochs` and falls along a half cosine. `layer_decay`: by how much a block learns slower
    than the one after it. `precision` is that of autocast; weights stay float32.

    Raises ValueError where a value is outside its range.
    """

    epochs: int = 75
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 5e-4
    warmup_epochs: float = 5
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    clip_gradients: float = 5.0
    optimizer: OptimizerName = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    precision: Precision = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("learning_rate", "clip_gradients"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("warmup_epochs", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be above 0 and at most 1")
        for name, known in (("optimizer", OptimizerName), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known; choose one of "
                    f"{', '.join(get_args(known))}"
                )


@dataclass
class Course:
    """What a run noted on its way: seconds of each epoch, and videos that could not be read."""

    epoch_seconds: list[float] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def arguments_for(
    schedule: Schedule,
    output: Path,
    *,
    num_videos: int,
    repeats: int,
    processes: int,
    on_cpu: bool,
    workers: int,
    save_every: int,
    evaluate: bool,
    compiled: bool,
) -> TrainingArguments:
    """The Trainer's own arguments for a schedule."""
    at_once = schedule.batch_size * schedule.accumulate * processes
    steps = -(-num_videos // (schedule.batch_size * processes))
    updates = -(-steps // schedule.accumulate)
    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulate,
        learning_rate=schedule.learning_rate * at_once * repeats / RATE_PER,
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.clip_gradients,
        lr_scheduler_type="cosine",
        warmup_steps=round(schedule.warmup_epochs * updates),
        seed=schedule.seed,
        bf16=schedule.precision == "bf16",
        fp16=schedule.precision == "fp16",
        use_cpu=on_cpu,
        torch_compile=compiled,
        dataloader_num_workers=workers,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        label_names=["labels"],
        logging_strategy="steps",
        logging_steps=max(1, min(50, updates)),
        report_to=[],
        eval_strategy="epoch" if evaluate else "no",
        save_strategy="steps",
        save_steps=updates * save_every,
        save_total_limit=1,
        disable_tqdm=True,
        ddp_find_unused_parameters=True,
    )


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
        self.course, self.observe = Course(), observe
        super().__init__(
            train_dataset=clips,
            data_collator=collate,
            callbacks=[_Epochs(clips, self.course)],
            **given,
        )
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        # The Trainer reads a checkpoint's tensors by the names that they have in memory, not in
        # the file, and passes over VideoMAE's biases, which transformers renames on the way.
        learning: Any = unprune(self.model)
        saved = type(learning).from_pretrained(resume_from_checkpoint)
        learning.load_state_dict(saved.state_dict())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """To TensorBoard, as the Trainer does; a line of `log.jsonl`; and whoever observes."""
        super().log(logs, start_time)
        if self.is_world_process_zero():
            record = self.state.log_history[-1]
            with (Path(self.args.output_dir) / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            self.observe(record)


class VideoTrainer(ClipTrainer):
    """Trains a model, pruned or not, on `Clips`.

    `measure` evaluates the model as it stands and names what it found; the Trainer logs it after
    every epoch. `observe` hears every record of the log; `tensorboard` is a folder for it.
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
    ) -> None:
        self.schedule, self.mixing, self.measure = schedule, mixing, measure
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
        """Cross entropy with mixed and smoothed labels; clips that could not be read count not."""
        self.course.unreadable.update(inputs["unreadable"])
        pixels = normalise(inputs["pixel_values"], normalisation_of(self.model))
        targets = targets_of(inputs["labels"], self.model.config.num_labels, self.mixing.smoothing)
        pixels, targets = mixed(pixels, targets, self.mixing)
        logits = per_clip(model(pixel_values=pixels).logits, len(targets))
        entropy = -(targets * log_softmax(logits, -1)).sum()
        return entropy / targets.sum().clamp(min=1e-6)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """What `measure` finds, as the Trainer's log has it."""
        self.model.eval()
        found = self.measure(round(self.state.epoch or 0))
        metrics = {f"eval_{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


class _Epochs(TrainerCallback):
    """Draws clips anew for each epoch, and notes how long its steps took, evaluation left out.

    (accelerate's loader tells datasets of an epoch too, but not where several processes share it.)
    """

    def __init__(self, clips: Clips, course: Course) -> None:
        self.clips, self.course, self.started = clips, course, 0.0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Before the first step; `state.epoch` is what has been done, in epochs."""
        self.clips.epoch = int((state.epoch or 0) + 1e-6)
        self.started = time.monotonic()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """After the last step."""
        self.course.epoch_seconds.append(time.monotonic() - self.started)
