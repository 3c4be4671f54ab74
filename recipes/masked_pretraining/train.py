"""Masked pre-training with tube masking, on videos without labels.

    python recipes/masked_pretraining/train.py --model demo --size 112 --data train.csv --output DIR

trains transformers' VideoMAEForPreTraining from the encoder of `--model` and leaves in `DIR/model`
a classifier with that encoder and its old head, which `vidprune train --model DIR/model` takes.
A run that was stopped goes on with the same command. What it is for is told in README.md.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    TrainingArguments,
    VideoMAEConfig,
    VideoMAEForPreTraining,
)

import vidprune
from vidprune.commands.evaluate import model_digest
from vidprune.inference import best_device, normalisation_of
from vidprune.layout import TokenGrid
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.training.augment import Augmentation
from vidprune.training.claiming import claim
from vidprune.training.clips import Clips
from vidprune.training.layers import MuonAndAdamW
from vidprune.training.trainer import ClipTrainer, last_checkpoint
from vidprune.video import Sample, normalise, read_dataset


def tube_mask(batch: int, grid: TokenGrid, visible: float) -> Tensor:
    """Which tokens are hidden, (batch, tokens) bool: the same places in every frame of a clip."""
    places = grid.rows * grid.columns
    shown = torch.rand(batch, places).topk(max(1, round(visible * places)), 1).indices
    hidden = torch.ones(batch, places, dtype=torch.bool).scatter_(1, shown, False)
    return hidden[:, None].expand(-1, grid.frames, -1).flatten(1)


def with_decoder(
    classifier: PreTrainedModel, *, width: int, layers: int, heads: int, norm_pixels: bool
) -> VideoMAEForPreTraining:
    """The classifier's encoder under a new decoder; it learns in place."""
    config = VideoMAEConfig.from_dict(
        classifier.config.to_dict()
        | {
            "decoder_hidden_size": width,
            "decoder_num_hidden_layers": layers,
            "decoder_num_attention_heads": heads,
            "decoder_intermediate_size": 4 * width,
            "norm_pix_loss": norm_pixels,
        }
    )
    model = VideoMAEForPreTraining(config)
    model.videomae = classifier.videomae
    return model


class MaskedTrainer(ClipTrainer):
    """Hides tubes of every batch, and learns what was there."""

    def __init__(self, clips: Clips, grid: TokenGrid, visible: float, **given: Any) -> None:
        self.grid, self.visible = grid, visible
        super().__init__(clips, **given)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Squared error of the hidden pixels; of a clip that could not be read there are none."""
        read = inputs["labels"] >= 0
        self.course.unreadable.update(inputs["unreadable"])
        pixels = normalise(inputs["pixel_values"], normalisation_of(self.model))
        hidden = tube_mask(len(pixels), self.grid, self.visible).to(pixels.device)
        if not read.any():
            return 0 * model(pixels, bool_masked_pos=hidden).loss
        return model(pixels[read], bool_masked_pos=hidden[read]).loss

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Muon for the matrices of encoder and decoder blocks, AdamW for the rest."""
        if self.optimizer is None:
            blocks = (*self.model.videomae.encoder.layer, *self.model.decoder.decoder_layers)
            matrices = {id(w) for block in blocks for w in block.parameters() if w.ndim == 2}
            decays = {True: [], False: []}
            for weight in self.model.parameters():
                if weight.requires_grad:
                    decays[weight.ndim > 1].append(weight)
            groups = [
                {"params": weights, "lr": self.args.learning_rate, "weight_decay": 0.05 * decayed}
                for decayed, weights in decays.items()
            ]
            self.optimizer = MuonAndAdamW(groups, matrices, (0.9, 0.95))
        return self.optimizer


def pretrain(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    classifier = vidprune.load(options.model, size=options.size)
    protocol = protocol_for(classifier, ViewOptions(sampling="segment"))
    samples: list[Sample] = [
        sample for data in options.data for sample in read_dataset(data, split="train")
    ]
    grid = TokenGrid(
        frames=protocol.frames // classifier.config.tubelet_size,
        rows=protocol.size // classifier.config.patch_size,
        columns=protocol.size // classifier.config.patch_size,
    )
    model = with_decoder(
        classifier,
        width=options.decoder_width,
        layers=options.decoder_layers,
        heads=options.decoder_heads,
        norm_pixels=not options.plain_pixels,
    )
    on_cpu = best_device().type == "cpu"
    machine = ("data", "output", "workers", "save_every")
    settings = {name: value for name, value in vars(options).items() if name not in machine}
    claim(options.output, settings | {"model": model_digest(classifier)}, samples)
    if (options.output / "model" / "model.safetensors").exists():
        print(f"{options.output} is finished", flush=True)
        return
    steps = -(-len(samples) // options.batch_size)
    clips = Clips(
        samples,
        protocol,
        Augmentation(crop_area=(0.5, 1.0), operations=0, erasing=0),
        repeats=options.repeats,
        seed=options.seed,
    )
    trainer = MaskedTrainer(
        clips,
        grid,
        options.visible,
        observe=lambda record: print(record, flush=True),
        model=model,
        args=TrainingArguments(
            output_dir=str(options.output),
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            max_grad_norm=5.0,
            lr_scheduler_type="cosine",
            warmup_steps=round(options.epochs * steps * 0.05),
            seed=options.seed,
            bf16=options.bf16,
            use_cpu=on_cpu,
            dataloader_num_workers=options.workers,
            dataloader_pin_memory=not on_cpu,
            remove_unused_columns=False,
            logging_steps=20,
            save_steps=max(1, round(options.save_every * steps)),
            save_total_limit=1,
            report_to=[],
            disable_tqdm=True,
        ),
    )
    trainer.train_on(last_checkpoint(options.output))
    classifier.save_pretrained(options.output / "model")
    for name, reason in sorted(trainer.course.unreadable.items()):
        print(f"unreadable: {name}: {reason}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a VideoMAE: demo, a folder, a hub id")
    parser.add_argument("--size", type=int, help="pixels of a square")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="lists or folders")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--visible", type=float, default=0.1, help="share of the places shown")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16, help="videos")
    parser.add_argument("--repeats", type=int, default=2, help="clips of each")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--decoder-width", type=int, default=96)
    parser.add_argument("--decoder-layers", type=int, default=2)
    parser.add_argument("--decoder-heads", type=int, default=2)
    parser.add_argument("--plain-pixels", action="store_true", help="not normed patch by patch")
    parser.add_argument("--bf16", action="store_true", help="autocast")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=10, help="epochs")
    parser.add_argument("--seed", type=int, default=0)
    pretrain(parser.parse_args())


if __name__ == "__main__":
    main()
