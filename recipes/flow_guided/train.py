"""Teach a video classifier from few videos by telling every token how what it shows moves.

    python recipes/flow_guided/train.py --model demo --size 64 --places 16 \
        --data train.csv --labels labels.txt --output DIR

starts from a VideoMAE and leaves in `DIR/model` a classifier of the listed classes, which every
command takes and `vidprune train --model DIR/model` goes on with. A run that was stopped goes on
with the same command. What it is for is told in README.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guidance import flow_error, flow_of, parts_error
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

import vidprune
from vidprune.commands.evaluate import check_labels, model_digest
from vidprune.inference import best_device, normalisation_of
from vidprune.prepare import ViewOptions, fit_head, names_in, protocol_for
from vidprune.training.augment import Augmentation
from vidprune.training.claiming import claim
from vidprune.training.clips import UNREADABLE, Clips, Drawn, collate
from vidprune.training.layers import MuonAndAdamW
from vidprune.training.mixing import targets_of
from vidprune.training.trainer import ClipTrainer, last_checkpoint
from vidprune.video import Sample, normalise, read_dataset

SMOOTHING = 0.1
# Muon's rate over AdamW's.
MATRICES = 4.4


def shown(batch: int, frames: int, places: int, count: int) -> Tensor:
    """Which tokens are shown, (batch, frames * count) int64: the same places in every frame."""
    chosen = torch.rand(batch, places).topk(count, dim=1).indices.sort(dim=1).values
    return (chosen[:, None] + places * torch.arange(frames)[:, None]).flatten(1)


class Guided(nn.Module):
    """A VideoMAE with linear read-outs of single tokens, which the finished model does not need:
    their motion after a third of the blocks, their class after two thirds and at the end."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        config = classifier.config
        self.classifier = classifier
        self.flow = nn.Linear(config.hidden_size, 2)
        self.parts = nn.ModuleList(
            nn.Linear(config.hidden_size, config.num_labels) for _ in range(2)
        )
        depth = config.num_hidden_layers
        self.flow_block, *self.part_blocks = depth // 3 - 1, 2 * depth // 3 - 1, depth - 1

    def forward(self, pixel_values: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits (B, classes), motion (B, K, 2) and classes of single tokens (B, K, classes).

        kept: (B, K) int64, the tokens that are shown, each with its own position.
        """
        encoder = self.classifier.videomae
        embeddings = encoder.embeddings
        tokens = embeddings.patch_embeddings(pixel_values) + embeddings.position_embeddings
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        seen = []
        for layer in encoder.encoder.layer:
            tokens = layer(tokens)
            seen.append(tokens)
        logits = self.classifier.classifier(self.classifier.fc_norm(tokens.mean(1)))
        parts = [
            told(seen[block]) for told, block in zip(self.parts, self.part_blocks, strict=True)
        ]
        return logits, self.flow(seen[self.flow_block]), parts


def collate_with_flow(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """A batch of `Clips`, and how its tubelets move: `flow` (B, T / 2, S, S, 2) float16."""
    batch = collate(drawn)
    clips = batch["pixel_values"].numpy()
    return batch | {"flow": torch.from_numpy(np.stack([flow_of(clip) for clip in clips]))}


class GuidedTrainer(ClipTrainer):
    """Learns the class of clips and, with a weight that falls to `least`, what single tokens tell.

    `places` of a frame's are shown.
    """

    def __init__(self, clips: Clips, *, places: int, least: float, **given: Any) -> None:
        self.places, self.least = places, least
        super().__init__(clips, **given)
        self.data_collator = collate_with_flow

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Cross entropy of clips and tokens, and the error of their motion."""
        self.course.unreadable.update(inputs["unreadable"])
        read = inputs["labels"] != UNREADABLE
        classifier = self.model.classifier
        pixels = normalise(inputs["pixel_values"], normalisation_of(classifier))
        patch, frames = classifier.config.patch_size, inputs["flow"].shape[1]
        places = (pixels.shape[-1] // patch) ** 2
        kept = shown(len(pixels), frames, places, min(self.places, places)).to(pixels.device)
        logits, told, parts = model(pixels, kept)
        if not read.any():
            return 0 * (logits.sum() + told.sum() + sum(part.sum() for part in parts))
        flow = patch_means(inputs["flow"].float(), patch)
        flow = flow.gather(1, kept[..., None].expand(-1, -1, 2))[read]
        targets = targets_of(inputs["labels"][read], logits.shape[-1], SMOOTHING)
        loss = -(targets * logits[read].float().log_softmax(-1)).sum(-1).mean()
        guidance = flow_error(told[read].float(), flow)
        for part in parts:
            guidance = guidance + parts_error(part[read].float(), targets, flow) / 4
        return loss + self.guidance_weight() * guidance

    def guidance_weight(self) -> float:
        """From 1 down to `least`, along a straight line."""
        return max(self.least, 1 - self.state.global_step / self.state.max_steps)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Muon for the matrices of the blocks, AdamW for the rest."""
        if self.optimizer is None:
            encoder = self.model.classifier.videomae.encoder
            matrices = [weight for weight in encoder.parameters() if weight.ndim == 2]
            chosen = {id(weight) for weight in matrices}
            others = [w for w in self.model.parameters() if w.requires_grad and id(w) not in chosen]
            rate, decay = self.args.learning_rate, self.args.weight_decay
            # A step takes as much from the matrices as from the rest.
            groups = [
                {"params": matrices, "lr": MATRICES * rate, "weight_decay": decay / MATRICES},
                {"params": others, "lr": rate, "weight_decay": decay},
            ]
            self.optimizer = MuonAndAdamW(groups, chosen, (0.9, 0.98))
        return self.optimizer

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        # Read-outs and all, by the names in memory: `Guided` is no model of transformers'.
        Trainer._load_from_checkpoint(self, resume_from_checkpoint, model)


def patch_means(flow: Tensor, patch: int) -> Tensor:
    """(B, T / 2, S, S, 2) to one motion for each token, (B, N, 2)."""
    cells = flow.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return cells.mean((3, 5)).flatten(1, 3)


def arguments_for(options: argparse.Namespace, videos: int) -> TrainingArguments:
    on_cpu = best_device().type == "cpu"
    steps = max(1, videos // options.batch_size)
    return TrainingArguments(
        output_dir=str(options.output),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        dataloader_drop_last=videos > options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        max_grad_norm=5.0,
        lr_scheduler_type="cosine",
        warmup_steps=min(100, options.epochs * steps // 10),
        seed=options.seed,
        bf16=options.bf16,
        torch_compile=options.compile,
        use_cpu=on_cpu,
        dataloader_num_workers=options.workers,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=max(1, min(20, steps)),
        save_steps=options.save_every * steps,
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
    )


def check_model(model: PreTrainedModel) -> None:
    """Raise ValueError for what `Guided` cannot take apart."""
    config = model.config
    if config.model_type != "videomae" or config.tubelet_size != 2 or config.num_hidden_layers < 3:
        raise ValueError(
            f"the model is a {config.model_type}; this recipe takes a VideoMAE of at least three "
            "blocks with tubelets of two frames"
        )


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    classifier = vidprune.load(options.model, size=options.size)
    protocol = protocol_for(classifier, ViewOptions(sampling="segment"))
    samples: list[Sample] = [
        sample for data in options.data for sample in read_dataset(data, split="train")
    ]
    names = names_in(options.labels) if options.labels else None
    count = len(names) if names else 1 + max(sample.label for sample in samples)
    fit_head(classifier, names, count, anew=False, seed=options.seed)
    check_labels(samples, count)
    check_model(classifier)
    own = set(vars(classifier.config))
    machine = ("data", "output", "workers", "save_every", "labels")
    settings = {name: value for name, value in vars(options).items() if name not in machine}
    claim(options.output, settings | {"model": model_digest(classifier)}, samples)
    if (options.output / "model" / "model.safetensors").exists():
        print(f"{options.output} is finished", flush=True)
        return
    trainer = GuidedTrainer(
        Clips(
            samples,
            protocol,
            Augmentation(
                crop_area=(options.crop_area, 1.0), operations=options.operations, erasing=0
            ),
            repeats=options.repeats,
            seed=options.seed,
        ),
        places=options.places,
        least=options.least_guidance,
        observe=lambda record: print(record, flush=True),
        model=Guided(classifier),
        args=arguments_for(options, len(samples)),
    )
    trainer.train_on(last_checkpoint(options.output))
    for name in vars(classifier.config).keys() - own:
        delattr(classifier.config, name)
    classifier.save_pretrained(options.output / "model")
    for name, reason in sorted(trainer.course.unreadable.items()):
        print(f"unreadable: {name}: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a VideoMAE: demo, a folder, a hub id")
    parser.add_argument("--size", type=int, help="pixels of a square")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="lists or folders")
    parser.add_argument("--labels", help="names of the classes, as of vidprune train")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--places", type=int, default=16, help="of a frame that are shown")
    parser.add_argument("--least-guidance", type=float, default=0.0, help="weight in the end")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=12, help="videos")
    parser.add_argument("--repeats", type=int, default=2, help="clips of each")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--crop-area", type=float, default=0.35, help="least share of the frame")
    parser.add_argument("--operations", type=int, default=2, help="of RandAugment")
    parser.add_argument("--bf16", action="store_true", help="autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=2, help="epochs")
    parser.add_argument("--seed", type=int, default=0)
    try:
        train(parser.parse_args())
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
