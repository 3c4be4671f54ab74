"""Labelled videos -> training clips, the same ones whenever a seed and an epoch come again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidprune.training.augment import Augmentation, augmented
from vidprune.training.sampling import random_indices
from vidprune.video import Protocol, Sample, UnreadableVideo, read_frames

# The label of a clip that could not be read.
UNREADABLE = -1


@dataclass(frozen=True, eq=False)
class Drawn:
    """Clips (R, T, 3, S, S) uint8 of one video with its label; or black ones, and the reason."""

    name: str
    pixels: Tensor
    label: int
    reason: str | None = None


class Clips(Dataset[Drawn]):
    """`repeats` clips of each video, drawn anew in every epoch; a video is decoded once for them.

    Draws depend on `seed`, `epoch` (which the trainer sets) and the video's place alone, so that a
    run that was taken up again sees what it would have seen. A video that cannot be read gives
    black clips of no label, which are left out of the loss, and nothing takes its place.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        protocol: Protocol,
        augmentation: Augmentation,
        *,
        repeats: int = 1,
        seed: int = 0,
    ) -> None:
        if repeats < 1:
            raise ValueError(f"repeats={repeats} must be at least 1")
        self.samples, self.protocol, self.augmentation = samples, protocol, augmentation
        self.repeats, self.seed, self.epoch = repeats, seed, 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Drawn:
        sample = self.samples[index]
        rng = np.random.default_rng((self.seed, self.epoch, index))
        try:
            return Drawn(sample.name, self._read(sample, rng), sample.label)
        except UnreadableVideo as error:
            side = self.protocol.size
            shape = (self.repeats, self.protocol.frames, 3, side, side)
            black = torch.zeros(shape, dtype=torch.uint8)
            return Drawn(sample.name, black, UNREADABLE, error.reason)

    def _read(self, sample: Sample, rng: np.random.Generator) -> Tensor:
        chosen: list[tuple[int, ...]] = []

        def choose(num_frames: int) -> list[int]:
            # Asked again where the file holds another number of frames than it says.
            chosen[:] = [
                random_indices(self.protocol, num_frames, rng) for _ in range(self.repeats)
            ]
            return [index for indices in chosen for index in indices]

        frames = read_frames(sample.path, choose)
        clips = [
            augmented(
                [frames.images[i] for i in indices], self.protocol.size, self.augmentation, rng
            )
            for indices in chosen
        ]
        return torch.from_numpy(np.stack(clips))


def collate(drawn: Sequence[Drawn]) -> dict[str, Any]:
    """One batch: `pixel_values` (B R, T, 3, S, S) uint8, `labels` (B R,) int64, and `unreadable`,
    names with their reasons."""
    repeats = len(drawn[0].pixels)
    labels = torch.tensor([item.label for item in drawn])
    return {
        "pixel_values": torch.cat([item.pixels for item in drawn]),
        "labels": labels.repeat_interleave(repeats),
        "unreadable": [(item.name, item.reason) for item in drawn if item.reason is not None],
    }
