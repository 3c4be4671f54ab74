"""VideoSwin (Liu et al., CVPR 2022): a hierarchy of blocks that attend within shifted windows.

transformers has no such model, so it is written here, from the paper and from what checkpoints
expect, in the form of a transformers model. Tokens are (B, N, C), flat and time-major, everywhere;
a `TokenGrid` beside them says how they lie.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput

from vidprune.backbones.parts import joined, parts
from vidprune.backbones.window_attention import attend_whole
from vidprune.backbones.windows import Cut, Triple
from vidprune.layout import TokenGrid


class VideoSwinConfig(PreTrainedConfig):
    """The shape of a VideoSwin; the defaults are VideoSwin-T's on Kinetics.

    `depths` and `num_heads` have one entry per stage; the width is `embed_dim` in the first and
    doubles from stage to stage. `patch_size` and `window_size` are (frames, rows, columns).
    `drop_path_rate` is that of the last block; it rises to it linearly.

    Raises ValueError where an entry cannot be, or the entries do not fit together.
    """

    model_type = "videoswin"

    num_frames: int = 32
    image_size: int | Sequence[int] = 224
    num_channels: int = 3
    patch_size: Sequence[int] = (2, 4, 4)
    embed_dim: int = 96
    depths: Sequence[int] = (2, 2, 6, 2)
    num_heads: Sequence[int] = (3, 6, 12, 24)
    window_size: Sequence[int] = (8, 7, 7)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    drop_path_rate: float = 0.0
    classifier_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # A configuration that was read from JSON has lists here.
        for name in ("patch_size", "depths", "num_heads", "window_size"):
            if isinstance(entries := getattr(self, name), Sequence):
                setattr(self, name, tuple(entries))
        _check(self)
        # Width of the last stage, under the name that transformers looks for.
        self.hidden_size = self.embed_dim * 2 ** (len(self.depths) - 1)


def _check(config: VideoSwinConfig) -> None:
    for name in ("num_frames", "num_channels", "embed_dim"):
        if not _is_count(value := getattr(config, name)):
            raise ValueError(f"{name}={value!r} must be a whole number, 1 or more")
    for name in ("patch_size", "window_size"):
        if not _are_counts(sides := getattr(config, name)) or len(sides) != 3:
            raise ValueError(
                f"{name}={sides!r} must be three sides: frames, rows, columns, each >= 1"
            )
    size = config.image_size
    if not _is_count(size) and not (_are_counts(size) and len(size) == 2):
        raise ValueError(
            f"image_size={size!r} must be the side of a square in pixels, or height and width, "
            "each >= 1"
        )
    for name, what in (("depths", "blocks"), ("num_heads", "heads")):
        if not _are_counts(entries := getattr(config, name)):
            raise ValueError(
                f"{name}={entries!r} must list the {what} of each stage, 1 or more in each"
            )
    rate = config.drop_path_rate
    if not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ValueError(f"drop_path_rate={rate!r} must be a number from 0 to less than 1")
    _check_heads(config)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _are_counts(values: object) -> TypeGuard[Sequence[int]]:
    return isinstance(values, Sequence) and all(map(_is_count, values))


def _check_heads(config: VideoSwinConfig) -> None:
    if not len(config.depths) == len(config.num_heads) >= 1:
        raise ValueError(
            f"depths={config.depths} and num_heads={config.num_heads} must have one entry per "
            "stage each; make them equally long"
        )
    for stage, heads in enumerate(config.num_heads):
        width = config.embed_dim * 2**stage
        if width % heads:
            raise ValueError(
                f"num_heads={config.num_heads}: the {width} channels of stage {stage} do not "
                f"divide into {heads} heads; choose a divisor"
            )


def level_grids(config: VideoSwinConfig) -> tuple[TokenGrid, ...]:
    """The grid that each stage works on, for clips of the configured size."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    grids = [patch_grid((config.num_frames, height, width), _triple(config.patch_size))]
    while len(grids) < len(config.depths):
        grids.append(merged_grid(grids[-1]))
    return tuple(grids)


def patch_grid(pixels: Triple, patch: Triple) -> TokenGrid:
    """The patches, the last of an axis filled up, of a clip of (frames, height, width) pixels."""
    axes = zip(pixels, patch, strict=True)
    frames, rows, columns = (-(-length // side) for length, side in axes)
    return TokenGrid(frames=frames, rows=rows, columns=columns)


def merged_grid(grid: TokenGrid) -> TokenGrid:
    """What patch merging leaves: half the rows and columns, rounded up, and all frames."""
    return TokenGrid(frames=grid.frames, rows=(grid.rows + 1) // 2, columns=(grid.columns + 1) // 2)


def _triple(sides: Sequence[int]) -> Triple:
    frames, rows, columns = sides
    return frames, rows, columns


class PatchEmbed(nn.Module):
    """Patches of pixels, projected and normed."""

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__()
        self.patch = _triple(config.patch_size)
        self.proj = nn.Conv3d(
            config.num_channels, config.embed_dim, kernel_size=self.patch, stride=self.patch
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, TokenGrid]:
        """Pixels (B, T, channels, H, W) to tokens (B, N, C) and their grid.

        Zeros fill up the last patch of each axis.
        """
        clips = pixel_values.transpose(1, 2)
        frames, height, width = clips.shape[2:]
        grid = patch_grid((frames, height, width), self.patch)
        lacks = (-width % self.patch[2], -height % self.patch[1], -frames % self.patch[0])
        if any(lacks):
            clips = pad(clips, (0, lacks[0], 0, lacks[1], 0, lacks[2]))
        return self.norm(self.proj(clips).flatten(2).transpose(1, 2)), grid


class WindowAttention(nn.Module):
    """The weights of attention within windows; how they are used says `window_attention`."""

    def __init__(self, config: VideoSwinConfig, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=config.qkv_bias)
        self.proj = nn.Linear(width, width)
        frames, rows, columns = config.window_size
        apart = (2 * frames - 1) * (2 * rows - 1) * (2 * columns - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(apart, heads))

    def forward(self, normalised: Tensor, cut: Cut) -> Tensor:
        """(B, N, C), all tokens of the grid, to the same."""
        return attend_whole(self, normalised, cut.tables(normalised.device))


class Mlp(nn.Module):
    """Two linear layers and what lies between them."""

    def __init__(self, config: VideoSwinConfig, *, width: int) -> None:
        super().__init__()
        hidden = int(width * config.mlp_ratio)
        self.fc1 = nn.Linear(width, hidden)
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token by token."""
        return self.fc2(self.activation(self.fc1(tokens)))


class DropPath(nn.Module):
    """Leaves out a branch for whole clips, in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(B, N, C) to the same; the clips that keep it have it scaled up instead."""
        if not self.training or self.rate == 0:
            return branch
        keeps = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * (keeps / (1 - self.rate)).to(branch.dtype)


class VideoSwinBlock(nn.Module):
    """Attention within windows, then an MLP, each normed first and added to the tokens."""

    def __init__(
        self, config: VideoSwinConfig, *, width: int, heads: int, shifted: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.window = _triple(config.window_size)
        self.shift = _triple([side // 2 if shifted else 0 for side in self.window])
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = WindowAttention(config, width=width, heads=heads)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = Mlp(config, width=width)
        self.drop_path = DropPath(drop_path)

    def cut(self, grid: TokenGrid) -> Cut:
        """How this block cuts a grid into windows."""
        return Cut(grid=grid, window=self.window, shift=self.shift)

    def feed_forward(self, tokens: Tensor, branch: Tensor | None = None) -> Tensor:
        """The MLP with its norm and residual, (B, K, C) of any K; over tokens to which attention's
        `branch` is yet to be added, if one is given."""
        if self.training:
            # A clip's branch is left out as a whole.
            tokens = tokens if branch is None else tokens + branch
            return tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        hidden = tokens.shape[0] * self.mlp.fc1.out_features * tokens.element_size()
        stretches = parts(tokens.shape[1], hidden, tokens.device)
        return joined([self._fed(tokens, branch, part) for part in stretches], 1)

    def _fed(self, tokens: Tensor, branch: Tensor | None, part: slice) -> Tensor:
        own = tokens[:, part]
        own = own if branch is None else own + branch[:, part]
        return own + self.mlp(self.norm2(own))

    def forward(self, tokens: Tensor, grid: TokenGrid) -> Tensor:
        """(B, N, C), all tokens of the grid, to the same."""
        mixed = self.attention(self.norm1(tokens), self.cut(grid))
        return self.feed_forward(tokens, self.drop_path(mixed))


class PatchMerging(nn.Module):
    """Four neighbours of a frame become one token of twice the width."""

    def __init__(self, config: VideoSwinConfig, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=config.layer_norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor, grid: TokenGrid) -> tuple[Tensor, TokenGrid]:
        """(B, N, C) to (B, about N / 4, 2C) and their grid. Zeros fill up an odd border."""
        merged = merged_grid(grid)
        tall = tokens.unflatten(1, (grid.frames, grid.rows, grid.columns))
        if grid.rows % 2 or grid.columns % 2:
            tall = pad(tall, (0, 0, 0, grid.columns % 2, 0, grid.rows % 2))
        cells = tall.unflatten(3, (merged.columns, 2)).unflatten(2, (merged.rows, 2))
        # Down the left column of a cell, then down the right: the order of the checkpoints.
        cells = cells.permute(0, 1, 2, 4, 5, 3, 6)
        frame = cells[:, 0].numel() * cells.element_size()
        frames = [cells[:, part] for part in parts(grid.frames, frame, tokens.device)]
        stretches = [each.flatten(4).flatten(1, 3) for each in frames]
        return joined([self.reduction(self.norm(each)) for each in stretches], 1), merged


class VideoSwinStage(nn.Module):
    """Blocks on one grid, every second one shifted; then, but for the last stage, patch merging."""

    def __init__(self, config: VideoSwinConfig, stage: int) -> None:
        super().__init__()
        width, depth = config.embed_dim * 2**stage, config.depths[stage]
        heads, before = config.num_heads[stage], sum(config.depths[:stage])
        rise = config.drop_path_rate / max(sum(config.depths) - 1, 1)
        self.blocks = nn.ModuleList(
            VideoSwinBlock(
                config,
                width=width,
                heads=heads,
                shifted=block % 2 == 1,
                drop_path=rise * (before + block),
            )
            for block in range(depth)
        )
        last = stage == len(config.depths) - 1
        self.downsample = None if last else PatchMerging(config, width=width)

    def forward(self, tokens: Tensor, grid: TokenGrid) -> tuple[Tensor, TokenGrid]:
        """(B, N, C) and their grid to what the next stage begins with."""
        for block in self.blocks:
            tokens = block(tokens, grid)
        return (tokens, grid) if self.downsample is None else self.downsample(tokens, grid)


class VideoSwinPreTrainedModel(PreTrainedModel):
    """What transformers asks of both models below."""

    config_class = VideoSwinConfig
    config: VideoSwinConfig
    base_model_prefix = "videoswin"
    main_input_name = "pixel_values"
    input_modalities = "video"
    _supports_sdpa = True
    _no_split_modules: ClassVar[list[str]] = ["VideoSwinBlock"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, WindowAttention):
            spread = self.config.initializer_range
            init.trunc_normal_(module.relative_position_bias_table, std=spread)


class VideoSwinModel(VideoSwinPreTrainedModel):
    """The encoder without a head."""

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        self.patch_embed = PatchEmbed(config)
        self.levels = nn.ModuleList(
            VideoSwinStage(config, stage) for stage in range(len(config.depths))
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, return_dict: bool | None = None
    ) -> BaseModelOutput | tuple[Tensor, ...]:
        """Pixels (B, T, channels, H, W) to normed tokens (B, N, C) of the last grid."""
        tokens, grid = self.patch_embed(pixel_values)
        for stage in self.levels:
            tokens, grid = stage(tokens, grid)
        output = BaseModelOutput(last_hidden_state=self.norm(tokens))
        return output if _as_dict(self.config, return_dict) else output.to_tuple()


class VideoSwinForVideoClassification(VideoSwinPreTrainedModel):
    """The encoder, the mean over its places, and a linear head."""

    def __init__(self, config: VideoSwinConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.videoswin = VideoSwinModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = (
            nn.Linear(config.hidden_size, config.num_labels) if config.num_labels else nn.Identity()
        )
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> ImageClassifierOutput | tuple[Tensor, ...]:
        """Pixels (B, T, channels, H, W) to logits (B, num_labels), and the loss where `labels`
        are given."""
        tokens = self.videoswin(pixel_values, return_dict=True).last_hidden_state
        logits = self.classifier(self.dropout(tokens.mean(1)))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        output = ImageClassifierOutput(loss=loss, logits=logits)
        return output if _as_dict(self.config, return_dict) else output.to_tuple()


def _as_dict(config: VideoSwinConfig, asked: bool | None) -> bool:
    return config.return_dict if asked is None else asked
