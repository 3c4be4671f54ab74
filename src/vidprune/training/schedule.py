"""How long and how fast a model learns, and the same as arguments of transformers' Trainer."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from transformers import TrainingArguments

OptimizerName = Literal["adamw", "muon"]
Precision = Literal["fp32", "bf16", "fp16"]
# Videos of an update for which a learning rate is meant, as in VideoMAE.
RATE_PER = 256
# Of a count: far beyond any use, and small enough for whatever is computed of it.
MOST = 1_000_000
# What NumPy's generator takes, which the Trainer seeds too.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast; the defaults are VideoMAE's for a ViT-B on Kinetics.

    `batch_size` counts videos in one step of one process, `accumulate` steps before an update.
    `learning_rate` is that of 256 videos at once, scaled to what an update sees; it warms up over
    `warmup_epochs` and falls along a half cosine to 0. `layer_decay`: by how much a block learns
    slower than the one after it. `precision` is that of autocast; weights stay float32.

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
            if not 1 <= getattr(self, name) <= MOST:
                raise ValueError(
                    f"{name}={getattr(self, name)} must be at least 1 and at most {MOST}"
                )
        for name in ("learning_rate", "clip_gradients"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0, and finite")
        for name in ("warmup_epochs", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more, and finite")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} must be below epochs={self.epochs}, or the "
                "rate never comes to its height"
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"seed={self.seed} must be 0 or more and at most {LARGEST_SEED}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay={self.layer_decay} must be above 0 and at most 1")
        for name, known in (("optimizer", OptimizerName), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not known; choose one of "
                    f"{', '.join(get_args(known))}"
                )


def arguments_for(
    schedule: Schedule,
    output: Path,
    *,
    num_videos: int,
    processes: int,
    on_cpu: bool,
    workers: int,
    save_every: int,
    evaluate: bool,
    compiled: bool,
) -> TrainingArguments:
    """The Trainer's own arguments for a schedule."""
    at_once = min(schedule.batch_size * schedule.accumulate * processes, num_videos)
    steps = -(-num_videos // (schedule.batch_size * processes))
    updates = -(-steps // schedule.accumulate)
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=schedule.epochs,
        per_device_train_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.accumulate,
        learning_rate=schedule.learning_rate * at_once / RATE_PER,
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
        # A loss that is no number is to be seen.
        logging_nan_inf_filter=False,
    )
    # One process, one device: without torchrun the Trainer would spread batches over all it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
