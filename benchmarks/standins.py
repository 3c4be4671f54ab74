"""A table of the paper by `vidprune reproduce`, on stand-ins for its videos and weights.

    python benchmarks/standins.py

Kinetics and the published checkpoints are not at hand. In their place stand generated clips, and a
ViT-S of the published shape with random weights whose head was fitted to these very clips, so that
its changes are judged at all; it is saved as the authors save theirs. What comes of it says that
the whole way works, from a checkpoint to a verdict, and nothing about the method. All of it goes to
runs/standins/, the record to benchmarks/results/reproduce/.
"""

import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from vidprune import cli
from vidprune.backbones.architectures import architecture, with_random_weights
from vidprune.backbones.videomae_checkpoints import to_original
from vidprune.demo.clips import write_clips
from vidprune.inference import normalisation_of
from vidprune.video import PROTOCOLS, Protocol, normalise, read_dataset, read_views

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "standins"
ARCH, TABLE, SEED = "vit_small_patch16_224", "table2", 810000000


def features(model: nn.Module, videos: Path, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """What the head is given of every view, (views, width), and the label of each, (views,)."""
    found, labels = [], []
    for sample in read_dataset(videos):
        pixels = normalise(read_views(sample.path, protocol).pixels, normalisation_of(model))
        with torch.inference_mode():
            found += [model(view[None]).logits[0] for view in pixels]
        labels += [sample.label] * len(pixels)
        print(sample.name, file=sys.stderr, flush=True)
    return torch.stack(found), torch.tensor(labels)


def fit_head(model: nn.Module, videos: Path) -> None:
    """Let the model recognise these clips, by the shortest weights that do."""
    head, model.classifier = model.classifier, nn.Identity()
    seen, labels = features(model, videos, PROTOCOLS["k400"])
    centre, spread = seen.mean(0), seen.std()
    wanted = torch.full((len(labels), head.out_features), -5.0)
    wanted[torch.arange(len(labels)), labels] = 5.0
    scaled = (seen - centre) / spread
    weight = torch.linalg.lstsq(scaled.double(), wanted.double(), driver="gelsd").solution.T.float()
    with torch.no_grad():
        head.weight.copy_(weight / spread)
        head.bias.copy_(-(weight / spread) @ centre)
    model.classifier = head


def main() -> int:
    videos, checkpoint = FOLDER / "clips" / "test.csv", FOLDER / "checkpoint.pth"
    if not videos.exists():
        write_clips(videos.parent, per_class=1, seed=SEED)
    if not checkpoint.exists():
        model = with_random_weights(architecture(ARCH)).eval()
        fit_head(model, videos)
        torch.save({"model": to_original(model.state_dict())}, checkpoint)
    words = ["reproduce", TABLE, "--data", f"k400={videos.relative_to(ROOT)}"]
    words += ["--checkpoints", f"{ARCH}/k400={checkpoint.relative_to(ROOT)}"]
    status = cli.main([*words, "--output", str((FOLDER / TABLE).relative_to(ROOT))])
    record = ROOT / "benchmarks" / "results" / "reproduce"
    record.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / TABLE / f"{TABLE}.json", record)
    return status


if __name__ == "__main__":
    sys.exit(main())
