"""The demo's model before training, and its forward pass over some of the tokens."""

import torch
from stream import IMAGE_MEAN, IMAGE_STD
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from vidprune.demo.clips import CLASSES


def probed_blocks(depth: int) -> tuple[int, tuple[int, ...]]:
    """The block whose tokens must tell the velocity of what they show, after a quarter of the
    depth, and those whose tokens must tell which motion they are part of, after each later one."""
    return depth // 4 - 1, tuple(quarter * depth // 4 - 1 for quarter in (2, 3, 4))


def new_model(*, depth: int = 12) -> VideoMAEForVideoClassification:
    """A VideoMAE over 8x8x8 tokens (2.4 million weights at depth 12), begun to see motion."""
    config = VideoMAEConfig(
        image_size=64,
        patch_size=8,
        num_frames=16,
        tubelet_size=2,
        hidden_size=128,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=512,
        layer_norm_eps=1e-6,
        use_mean_pooling=True,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: number for number, name in enumerate(CLASSES)},
        # How vidprune samples videos for this model unless told otherwise.
        view_protocol={"sampling": "segment", "segments": 1, "crops": 1},
    )
    model = VideoMAEForVideoClassification(config)
    projection = model.videomae.embeddings.patch_embeddings.projection
    with torch.no_grad():
        projection.weight.copy_(drifting_gratings(len(projection.weight)))
        for layer in model.videomae.encoder.layer:
            attention = layer.attention.attention
            nn.init.orthogonal_(attention.key.weight, gain=0.7)
            # Equal queries and keys: to begin with, a token attends to what is alike and near.
            attention.query.weight.copy_(attention.key.weight)
    return model


def preprocessing() -> dict[str, object]:
    """What transformers' image processor reads from preprocessor_config.json.

    Written by hand, because the class itself cannot be built without torchvision or Pillow.
    """
    return {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 64},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": 64, "width": 64},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": IMAGE_MEAN,
        "image_std": IMAGE_STD,
    }


def drifting_gratings(count: int) -> torch.Tensor:
    """Gratings that move between the two frames of a tubelet: (count, 3, 2, 8, 8), each of norm 1.

    The square of such a filter's answer is motion energy (Adelson and Bergen, 1985), so velocity is
    one hidden layer away. A quarter of the filters are plain colour averages.
    """
    row, column = torch.meshgrid(torch.arange(8) - 3.5, torch.arange(8) - 3.5, indexing="ij")
    angle, phase, length, speed = torch.rand(4, count, 1, 1, 1).unbind(0)
    angle, phase = 2 * torch.pi * angle, 2 * torch.pi * phase
    length, speed = 4 + 10 * length, 3 * speed - 1.5  # pixels, pixels per frame
    frame = torch.tensor([-0.5, 0.5]).view(1, 2, 1, 1)
    along = column * angle.cos() + row * angle.sin() - speed * frame
    window = torch.exp(-(row**2 + column**2) / 24)
    gratings = torch.cos(2 * torch.pi * along / length + phase) * window
    gratings[: count // 4] = 1.0
    colours = 0.5 + torch.randn(count, 3, 1, 1, 1)
    filters = colours * gratings[:, None]
    return filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)


class Probes(nn.Module):
    """Linear read-outs of single tokens that training needs and the finished model does not."""

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.flow_block, self.motion_blocks = probed_blocks(depth)
        self.flow = nn.Linear(width, 3)  # velocity x, velocity y, and whether an actor is there
        self.motion = nn.ModuleList(nn.Linear(width, len(CLASSES) + 1) for _ in self.motion_blocks)


def predict(
    model: nn.Module, probes: Probes, pixel_values: torch.Tensor, kept: torch.Tensor
) -> tuple:
    """Logits (B, classes), flow (B, K, 3) and a list of per-token motions (B, K, classes + 1).

    kept: (B, K) int64, the tokens that are shown; each brings its own row of the position table.
    """
    embeddings = model.videomae.embeddings
    tokens = embeddings.patch_embeddings(pixel_values) + embeddings.position_embeddings
    tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
    seen = []
    for layer in model.videomae.encoder.layer:
        tokens = layer(tokens)
        seen.append(tokens)
    logits = model.classifier(model.fc_norm(tokens.mean(1)))
    motions = [
        probe(seen[block]) for probe, block in zip(probes.motion, probes.motion_blocks, strict=True)
    ]
    return logits, probes.flow(seen[probes.flow_block]), motions
