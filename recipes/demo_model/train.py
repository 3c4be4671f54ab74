"""Train the demo's model from nothing on generated clips.

`python recipes/demo_model/train.py --output DIR` leaves the course of the run in `DIR/log.jsonl`
and the model, as transformers loads it, in `DIR/model`. A run that was stopped goes on with the
same command. What makes so small a budget enough is told in README.md.
"""

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# A thread that spins while it waits takes the core that draws the clips.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import torch
from network import Probes, new_model, predict, preprocessing
from stream import batches, roughen, to_pixel_values
from torch import nn
from torch.nn import functional

from vidprune.demo.clips import CLASSES

VALIDATION_SEED = 1_000_000_000
STEPS_PER_LINE = 50  # of the log


@dataclass(frozen=True)
class Stage:
    """A stretch of training; what has a first and a last value runs from one to the other.

    clips: length. columns: how many of the 8x8 places are shown. rate: of learning, relative.
    token_weight: of the losses of single tokens. attention: whichever trains faster compiled.
    """

    name: str
    clips: int
    columns: int
    first_rate: float
    last_rate: float
    first_token_weight: float
    last_token_weight: float
    attention: str


STAGES = (
    Stage("around the actors", 40_000, 24, 1.0, 0.4, 1.0, 1.0, attention="eager"),
    Stage("whole frames", 18_000, 64, 0.6, 0.0, 1.0, 0.0, attention="sdpa"),
)


def choose_tokens(cover: torch.Tensor, *, columns: int) -> torch.Tensor:
    """Which tokens to show, (B, K): the places the actors pass over, then random ones.

    cover: (B, T/2, H/8, W/8). The same `columns` places are shown in every frame.
    """
    batch, groups, height, width = cover.shape
    places = height * width
    if columns == places:
        return torch.arange(groups * places).expand(batch, -1)
    wanted = cover.flatten(2).sum(1).clamp(max=2) + 0.3 * torch.rand(batch, places)
    chosen = wanted.topk(columns, dim=1).indices.sort(dim=1).values
    return (chosen[:, None] + places * torch.arange(groups)[:, None]).flatten(1)


def losses(
    outputs: tuple, batch: dict[str, torch.Tensor], kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the clip's class, and that of what single tokens tell."""
    logits, flow, motions = outputs
    cover = batch["cover"].flatten(1).gather(1, kept)
    velocity = batch["flow"].flatten(1, 3).gather(1, kept[..., None].expand(-1, -1, 2))
    token_loss = flow_loss(flow.float(), velocity, cover)
    for motion in motions:
        token_loss = token_loss + motion_loss(motion.float(), batch["motion"], cover) / 2
    return functional.cross_entropy(logits.float(), batch["motion"]), token_loss


def flow_loss(told: torch.Tensor, velocity: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Whether an actor is there, and how it moves where it is.

    told: (B, K, 3). velocity: (B, K, 2), pixels per frame. cover: (B, K), 0 to 1.
    """
    error = functional.smooth_l1_loss(told[..., :2], velocity, beta=0.3, reduction="none").mean(-1)
    moving = (error * cover).sum() / cover.sum().clamp(min=1)
    return moving + functional.binary_cross_entropy_with_logits(told[..., 2], cover)


def motion_loss(told: torch.Tensor, motion: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
    """Which motion each token is part of, or none: (B, K, classes + 1) against (B,) classes."""
    part = torch.where(cover > 0.25, motion[:, None], len(CLASSES))
    weight = torch.tensor([1.0] * len(CLASSES) + [0.2])  # most tokens are part of none
    return functional.cross_entropy(told.flatten(0, 1), part.flatten(), weight=weight)


def new_optimizers(model: nn.Module, probes: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else; see README.md."""
    weights = [*model.parameters(), *probes.parameters()]
    matrices = [weight for weight in model.videomae.encoder.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.02),
        torch.optim.AdamW(
            [weight for weight in weights if id(weight) not in chosen],
            lr=2e-3,
            weight_decay=0.01,
            betas=(0.9, 0.98),
        ),
    ]


class Run:
    """A training run: the model, its read-outs, the optimizers, and how far it has come."""

    def __init__(self, output: Path, *, batch_size: int, depth: int):
        self.output, self.batch_size = output, batch_size
        self.model = new_model(depth=depth)
        self.probes = Probes(self.model.config.hidden_size, depth)
        self.optimizers = new_optimizers(self.model, self.probes)
        self.base_rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.clips, self.seconds = 0, 0.0
        self.predict = torch.compile(predict, dynamic=False)
        output.mkdir(parents=True, exist_ok=True)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        muon, adamw = self.optimizers
        return {"model": self.model, "probes": self.probes, "muon": muon, "adamw": adamw}

    def save(self) -> None:
        """Write the checkpoint, in one move, and the model as transformers loads it."""
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"clips": self.clips, "seconds": self.seconds}
        torch.save(state, self.output / "checkpoint.new")
        (self.output / "checkpoint.new").replace(self.output / "checkpoint.pt")
        self.model.save_pretrained(self.output / "model")
        record = json.dumps(preprocessing(), indent=2) + "\n"
        (self.output / "model" / "preprocessor_config.json").write_text(record)

    def resume(self) -> None:
        """Go back to the checkpoint, where there is one."""
        path = self.output / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.clips, self.seconds = state["clips"], state["seconds"]

    def log(self, **record: object) -> None:
        """Add a line to the log and show it."""
        line = json.dumps({"clips": self.clips, "seconds": round(self.seconds, 1), **record})
        print(line, flush=True)
        with (self.output / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def set_rates(self, stage: Stage, *, progress: float) -> None:
        """Learning rates: warm-up over the first 2000 clips, a half cosine from stage to stage."""
        bend = 0.5 - 0.5 * math.cos(math.pi * progress)
        rate = _between(stage.first_rate, stage.last_rate, bend)
        rate *= min(1, (self.clips + 1) / 2000)
        for optimizer, base in zip(self.optimizers, self.base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = base * rate

    def step(
        self, batch: dict[str, torch.Tensor], stage: Stage, *, progress: float
    ) -> dict[str, float]:
        """One update; `progress` runs from 0 to 1 through the stage."""
        self.set_rates(stage, progress=progress)
        kept = choose_tokens(batch["cover"], columns=stage.columns)
        pixel_values = roughen(to_pixel_values(batch["frames"]))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.predict(self.model, self.probes, pixel_values, kept)
        clip_loss, token_loss = losses(outputs, batch, kept)
        weight = _between(stage.first_token_weight, stage.last_token_weight, progress)
        (clip_loss + weight * token_loss).backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.probes.parameters()], 5.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        correct = (outputs[0].argmax(1) == batch["motion"]).float().mean().item()
        return {"loss": clip_loss.item(), "token_loss": token_loss.item(), "accuracy": correct}

    def train(self, stage: Stage, *, start: int, save_every_seconds: float) -> None:
        """Go on to the end of `stage`, which begins at clip `start` of the run."""
        self.model.set_attn_implementation(stage.attention)
        end = start + stage.clips
        rows, clock, saved = [], time.monotonic(), time.monotonic()
        for batch in batches(start=self.clips // 2, stop=end // 2, size=self.batch_size):
            row = self.step(batch, stage, progress=(self.clips - start) / stage.clips)
            row["seconds_per_clip"] = (time.monotonic() - clock) / self.batch_size
            self.clips += self.batch_size
            self.seconds += row["seconds_per_clip"] * self.batch_size
            rows.append(row)
            if len(rows) == STEPS_PER_LINE:
                self.log(stage=stage.name, **_summary(rows))
                rows = []
            if time.monotonic() - saved > save_every_seconds:
                self.log(stage=stage.name, validation=validate(self.model))
                self.save()
                saved = time.monotonic()
            clock = time.monotonic()
        self.clips = end
        self.log(stage=stage.name, done=asdict(stage), validation=validate(self.model))
        self.save()


def _between(first: float, last: float, progress: float) -> float:
    return first + (last - first) * progress


def _summary(rows: list[dict[str, float]]) -> dict[str, float]:
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    speed = round(1 / means.pop("seconds_per_clip"), 1)
    return {name: round(mean, 4) for name, mean in means.items()} | {"clips_per_second": speed}


@torch.inference_mode()
def validate(model: nn.Module, *, clips: int = 288) -> float:
    """Top-1 on fresh clips, all tokens shown, not passed through an encoder."""
    correct = 0
    stream = batches(start=VALIDATION_SEED, stop=VALIDATION_SEED + clips // 2, size=48)
    for batch in stream:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(to_pixel_values(batch["frames"])).logits
        correct += (logits.argmax(1) == batch["motion"]).sum().item()
    return round(correct / clips, 4)


def main() -> None:
    """Train through all stages, from the checkpoint where there is one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=24, help="a multiple of 12")
    parser.add_argument("--depth", type=int, default=12, help="blocks, at least 4")
    parser.add_argument("--save-every-seconds", type=float, default=180)
    parser.add_argument("--scale", type=float, default=1.0, help="of every stage's length")
    options = parser.parse_args()
    torch.manual_seed(0)
    run = Run(options.output, batch_size=options.batch_size, depth=options.depth)
    run.resume()
    start = 0
    for stage in STAGES:
        stage = replace(stage, clips=int(stage.clips * options.scale))
        if run.clips < start + stage.clips:
            run.train(stage, start=start, save_every_seconds=options.save_every_seconds)
        start += stage.clips


if __name__ == "__main__":
    main()
