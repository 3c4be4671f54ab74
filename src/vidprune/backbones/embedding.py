"""How models of transformers turn pixels into tokens on a GPU without making it wait.

# Note [embeddings on a GPU]
On an H100 what comes before the first block took a sixth of a dense ViT-B's forward, for one
hundredth of its arithmetic, and pruning saves none of it. Convolutions whose windows do not overlap
are products of patches and one matrix, which cuDNN's convolutions in three dimensions are far
slower at; and VideoMAE's table of positions is neither weight nor buffer, so that it stays on the
CPU and is sent over anew in every forward, for which the host waits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel


class PatchConv2d(nn.Conv2d):
    """A convolution of patches that do not overlap; in half precision on CUDA a product."""

    def forward(self, input: Tensor) -> Tensor:
        """See Conv2d."""
        return patch_product(self, input) if is_product(self, input) else super().forward(input)


class PatchConv3d(nn.Conv3d):
    """A convolution of tubes that do not overlap; in half precision on CUDA a product."""

    def forward(self, input: Tensor) -> Tensor:
        """See Conv3d."""
        return patch_product(self, input) if is_product(self, input) else super().forward(input)


_TABLE = "position_embeddings"
_BY_PRODUCT: dict[type, Any] = {nn.Conv2d: PatchConv2d, nn.Conv3d: PatchConv3d}


def project_by_products(model: PreTrainedModel) -> None:
    """Let a model's convolutions of patches be products in half precision on CUDA, whose last bits
    differ (in float32 every bit stays); their parameters stay what they are."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and _parts_its_input(module):
            module.__class__ = _BY_PRODUCT.get(type(module), type(module))


def keep_tables_near(model: PreTrainedModel) -> None:
    """Let the table of positions that embeddings hold as a plain tensor go where the model goes;
    it is not saved with it, as before."""
    for module in model.modules():
        table = vars(module).get(_TABLE)
        if isinstance(table, Tensor):
            delattr(module, _TABLE)
            place = next(module.parameters()).device
            module.register_buffer(_TABLE, table.to(place), persistent=False)


def is_product(conv: nn.Conv2d | nn.Conv3d, pixels: Tensor) -> bool:
    """Whether a convolution of these pixels is one product: of whole patches, in half precision,
    on a GPU."""
    sides = pixels.shape[-len(conv.kernel_size) :]
    whole = all(side % patch == 0 for side, patch in zip(sides, conv.kernel_size, strict=True))
    return pixels.is_cuda and pixels.dtype in (torch.bfloat16, torch.float16) and whole


def patch_product(conv: nn.Conv2d | nn.Conv3d, pixels: Tensor) -> Tensor:
    """What the convolution makes of pixels (B, C, *sides), (B, D, *patches), as a product."""
    dimensions = len(conv.kernel_size)
    # (B, C, places, side, places, side, ...) to (B, places, places, ..., C * side * side * ...)
    for dimension in range(dimensions, 0, -1):
        pixels = pixels.unflatten(1 + dimension, (-1, conv.kernel_size[dimension - 1]))
    patches = pixels.permute(
        0, *range(2, 2 + 2 * dimensions, 2), 1, *range(3, 3 + 2 * dimensions, 2)
    ).flatten(1 + dimensions)
    return linear(patches, conv.weight.flatten(1), conv.bias).movedim(-1, 1)


def _parts_its_input(conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether its windows lie side by side and see all that there is."""
    plain = conv.groups == 1 and set(conv.dilation) == {1} and conv.padding in ((0, 0), (0, 0, 0))
    return plain and tuple(conv.stride) == tuple(conv.kernel_size)
