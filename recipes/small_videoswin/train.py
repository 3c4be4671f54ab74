"""Train a small VideoSwin from nothing on generated clips, to see what pruning does to one.

`python recipes/small_videoswin/train.py --output DIR --clips 40000` leaves the course of the run in
`DIR/log.jsonl` and the model in `DIR/model`. Clips and their truth are those of the demo's model.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "demo_model"))
from stream import IMAGE_MEAN, IMAGE_STD, batches, roughen, to_pixel_values

from vidprune.backbones.videoswin_model import VideoSwinConfig, VideoSwinForVideoClassification
from vidprune.demo.clips import CLASSES

# The level whose grid is the 8x8x8 places of which the clips tell the truth.
PROBED_LEVEL = 1
STEPS_PER_LINE = 50  # of the log


def new_model() -> VideoSwinForVideoClassification:
    """Grids of 8x16x16, 8x8x8 and 8x4x4 tokens; 1.5 million weights."""
    config = VideoSwinConfig(
        num_frames=16,
        image_size=64,
        embed_dim=48,
        depths=(2, 4, 2),
        num_heads=(2, 4, 8),
        window_size=(8, 4, 4),
        num_labels=len(CLASSES),
        id2label=dict(enumerate(CLASSES)),
        label2id={name: number for number, name in enumerate(CLASSES)},
        image_mean=list(IMAGE_MEAN),
        image_std=list(IMAGE_STD),
        view_protocol={"sampling": "segment", "segments": 1, "crops": 1},
    )
    return VideoSwinForVideoClassification(config)


def predict(model: nn.Module, probe: nn.Module, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes), and what the probe reads from each token of the probed level."""
    encoder = model.videoswin
    tokens, grid = encoder.patch_embed(pixel_values)
    told = tokens
    for number, level in enumerate(encoder.levels):
        for block in level.blocks:
            tokens = block(tokens, grid)
        if number == PROBED_LEVEL:
            told = probe(tokens)
        if level.downsample is not None:
            tokens, grid = level.downsample(tokens, grid)
    return model.classifier(encoder.norm(tokens).mean(1)), told


def probe_loss(told: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """How each token's part moves, whether an actor is there, and which motion it is part of."""
    cover, flow = batch["cover"].flatten(1), batch["flow"].flatten(1, 3)
    error = functional.smooth_l1_loss(told[..., :2], flow, beta=0.3, reduction="none").mean(-1)
    moving = (error * cover).sum() / cover.sum().clamp(min=1)
    there = functional.binary_cross_entropy_with_logits(told[..., 2], cover)
    part = torch.where(cover > 0.25, batch["motion"][:, None], len(CLASSES))
    weight = torch.tensor([1.0] * len(CLASSES) + [0.2])  # most tokens are part of none
    motion = functional.cross_entropy(told[..., 3:].flatten(0, 1), part.flatten(), weight=weight)
    return moving + there + motion


def new_optimizers(model: nn.Module, probe: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else, as for the demo's model."""
    matrices = [
        weight
        for name, weight in model.named_parameters()
        if ".blocks." in name and weight.ndim == 2 and "bias_table" not in name
    ]
    chosen = {id(weight) for weight in matrices}
    others = [w for w in (*model.parameters(), *probe.parameters()) if id(w) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.02),
        torch.optim.AdamW(others, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def train(output: Path, *, clips: int, batch_size: int, seconds: float) -> None:
    """Until so many clips were seen or the time is up; rates fall by whichever is nearer."""
    torch.manual_seed(0)
    model = new_model()
    probe = nn.Linear(model.config.embed_dim * 2**PROBED_LEVEL, 3 + len(CLASSES) + 1)
    optimizers = new_optimizers(model, probe)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    output.mkdir(parents=True, exist_ok=True)
    started, seen, rows = time.monotonic(), 0, []
    for batch in batches(start=0, stop=clips // 2, size=batch_size):
        progress = max(seen / clips, (time.monotonic() - started) / seconds)
        if progress >= 1:
            break
        rate = min(1, (seen + 1) / 2000) * (0.5 + 0.5 * math.cos(math.pi * progress))
        for optimizer, base in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = base * rate
        with torch.autocast("cpu", torch.bfloat16):
            logits, told = predict(model, probe, roughen(to_pixel_values(batch["frames"])))
        loss = functional.cross_entropy(logits.float(), batch["motion"])
        (loss + (1 - progress) * probe_loss(told.float(), batch)).backward()
        nn.utils.clip_grad_norm_([*model.parameters(), *probe.parameters()], 5.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seen += batch_size
        correct = (logits.argmax(1) == batch["motion"]).float().mean()
        rows.append(torch.stack([loss.detach(), correct]))
        if len(rows) == STEPS_PER_LINE:
            loss_, accuracy = torch.stack(rows).mean(0).tolist()
            line = {"clips": seen, "seconds": round(time.monotonic() - started, 1)}
            line |= {"loss": round(loss_, 4), "accuracy": round(accuracy, 4)}
            print(json.dumps(line), flush=True)
            with (output / "log.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            rows = []
    model.save_pretrained(output / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=40_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=7200, help="stop in time")
    arguments = parser.parse_args()
    train(
        arguments.output,
        clips=arguments.clips,
        batch_size=arguments.batch_size,
        seconds=arguments.seconds,
    )


if __name__ == "__main__":
    main()
