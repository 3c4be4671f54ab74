"""An endless stream of generated clips with the truth about every token, for training only."""

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from vidprune.demo.clips import CLASSES, Clip, render

PATCH, TUBELET = 8, 2
IMAGE_MEAN = (0.485, 0.456, 0.406)  # ImageNet's, as for the published VideoMAE models
IMAGE_STD = (0.229, 0.224, 0.225)


class ClipStream(Dataset):
    """Clips `start` to `stop`; clip i comes from seed i, and is of the first class of a pair."""

    def __init__(self, *, start: int, stop: int):
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> dict[str, np.ndarray | int]:
        seed = self.start + index
        clip = render(2 * seed % len(CLASSES), seed)
        return {"frames": clip.frames, "motion": clip.motion, **token_truth(clip)}


def token_truth(clip: Clip) -> dict[str, np.ndarray]:
    """What each tubelet of the clip shows.

    cover: (T/2, H/8, W/8) float32, share of the tubelet covered by actors.
    flow: (T/2, H/8, W/8, 2) float32, mean velocity of that part, pixels per frame.
    """
    weighted = _tubelet_means(clip.flow * clip.actors[..., None])
    cover = _tubelet_means(clip.actors[..., None])
    return {"cover": cover[..., 0], "flow": weighted / np.maximum(cover, 1e-3)}


def _tubelet_means(values: np.ndarray) -> np.ndarray:
    frames, height, width, channels = values.shape
    blocks = values.reshape(
        frames // TUBELET, TUBELET, height // PATCH, PATCH, width // PATCH, PATCH, channels
    )
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def batches(*, start: int, stop: int, size: int) -> DataLoader:
    """Batches of `size` clips drawn in a background process.

    Half of each batch is drawn, the other half is the same clips played backwards, which is the
    paired class: drawing costs half, and the two halves differ in nothing but time.
    """
    stream = ClipStream(start=start, stop=stop)
    return DataLoader(
        stream,
        batch_size=size // 2,
        num_workers=1,
        prefetch_factor=6,
        collate_fn=_with_reverse,
        drop_last=True,
    )


def _with_reverse(samples: list[dict]) -> dict[str, torch.Tensor]:
    batch = {}
    for name, sign in (("frames", 1), ("cover", 1), ("flow", -1)):
        drawn = torch.from_numpy(np.stack([sample[name] for sample in samples]))
        batch[name] = torch.cat([drawn, sign * drawn.flip(1)])
    motion = torch.tensor([sample["motion"] for sample in samples])
    return batch | {"motion": torch.cat([motion, motion ^ 1])}  # see Note [pairs] in clips.py


def to_pixel_values(frames: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W, 3) uint8 to (B, T, 3, H, W) float32, normalised with ImageNet's statistics."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    return (frames.permute(0, 1, 4, 2, 3).float() / 255 - mean) / deviation


def roughen(pixel_values: torch.Tensor) -> torch.Tensor:
    """Blur, contrast changes and noise that stand in for what a video encoder does to a clip.

    Every third clip is blurred, and one draw of noise serves the whole batch, at each clip's own
    strength: anything finer costs a noticeable part of the training time.
    """
    amount = torch.rand(2, len(pixel_values), 1, 1, 1, 1)
    noise = torch.randn(1, *pixel_values.shape[1:])
    rough = pixel_values * (0.8 + 0.4 * amount[0]) + 0.15 * amount[1] ** 2 * noise
    some = rough[::3].flatten(0, 1)
    blurred = functional.avg_pool2d(some, 3, stride=1, padding=1, count_include_pad=False)
    rough[::3] = torch.lerp(some, blurred, 0.4).view_as(rough[::3])
    return rough
