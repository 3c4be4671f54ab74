"""Measure the demo's model on fresh clips that went through an H.264 encoder: see README.md.

`python recipes/demo_model/evaluate.py --model DIR/model --log DIR/log.jsonl` writes record.json
beside this file.
"""

import argparse
import datetime
import json
import platform
import shlex
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import torch
import transformers
from stream import to_pixel_values
from transformers import VideoMAEForVideoClassification

from vidprune.demo.clips import CLASSES, write_clips

SEED = 2_000_000_000  # far from the clips of training and of validation


def read_clips(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All clips of a written folder, decoded: (N, T, H, W, 3) uint8 and (N,) int64 labels."""
    rows = [line.rsplit(" ", 1) for line in (folder / "test.csv").read_text().splitlines()]
    clips = torch.from_numpy(np.stack([_decode(folder / path) for path, _ in rows]))
    return clips, torch.tensor([int(label) for _, label in rows])


def _decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@torch.inference_mode()
def predict(model: torch.nn.Module, clips: torch.Tensor, *, batch_size: int) -> torch.Tensor:
    """(N, classes) float32 logits."""
    return torch.cat([model(to_pixel_values(part)).logits for part in clips.split(batch_size)])


def shuffled(clips: torch.Tensor) -> torch.Tensor:
    """Every clip's frames in a random order of its own."""
    order = torch.rand(clips.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1)
    return torch.stack([clip[places] for clip, places in zip(clips, order, strict=True)])


def frozen(clips: torch.Tensor, *, frame: int) -> torch.Tensor:
    """Every clip replaced by one of its frames, repeated."""
    return clips[:, frame : frame + 1].expand(-1, clips.shape[1], -1, -1, -1)


def measure(
    model: torch.nn.Module, clips: torch.Tensor, labels: torch.Tensor, *, batch_size: int
) -> dict:
    """Top-1 in percent: whole clips, shuffled ones, and every fourth frame repeated alone."""

    def correct(shown: torch.Tensor) -> torch.Tensor:
        return predict(model, shown, batch_size=batch_size).argmax(1) == labels

    whole, frames = correct(clips), clips.shape[1]
    single = {frame: _percent(correct(frozen(clips, frame=frame))) for frame in range(0, frames, 4)}
    share = whole.float().mean().item()
    return {
        "clips": len(clips),
        "top1": _percent(whole),
        "standard_error": round(100 * (share * (1 - share) / len(clips)) ** 0.5, 2),
        "top1_frames_shuffled": _percent(correct(shuffled(clips))),
        "top1_middle_frame_repeated": single[frames // 2],
        "top1_best_single_frame_repeated": max(single.values()),
        "top1_per_class": {name: _percent(whole[labels == k]) for k, name in enumerate(CLASSES)},
    }


def _percent(correct: torch.Tensor) -> float:
    return round(100 * correct.float().mean().item(), 2)


def stamp(*, batch_size: int) -> dict:
    """Where, with what and how the figures were taken."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "hardware": f"{_processor()}, {torch.get_num_threads()} threads",
        "dtype": "float32",
        "batch_size": batch_size,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "av": av.__version__,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = [line.split(": ", 1)[1] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def training(log: Path) -> dict:
    """What the training log says about its own cost: seconds spent and clips seen."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {"training_seconds": round(rows[-1]["seconds"]), "training_clips": rows[-1]["clips"]}


def main() -> None:
    """Write fresh clips as video files, read them back, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--log", type=Path, help="log.jsonl of the training run")
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--record", type=Path, default=Path(__file__).with_name("record.json"))
    options = parser.parse_args()
    model = VideoMAEForVideoClassification.from_pretrained(options.model, dtype=torch.float32)
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        write_clips(folder, per_class=options.per_class, seed=SEED)
        clips, labels = read_clips(Path(folder))
    record = stamp(batch_size=options.batch_size)
    record |= training(options.log) if options.log else {}
    record |= measure(model, clips, labels, batch_size=options.batch_size)
    options.record.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
