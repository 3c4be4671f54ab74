"""Large steps taken in parts on a CPU, so that what lies between stays in its caches.

# Note [parts on a CPU]
Between two linear layers, and between a projection and attention, stand tensors several times as
large as the tokens. Whole, they go out to memory and come back; what is more, the C library takes
large tensors from the system anew each time, which hands them out page by page, filled with zeros:
that takes several times as long as an activation over them. In parts of a few megabytes neither
happens. A GPU wants few large operations instead, and a compiler cuts for itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_BYTES = 8 * 2**20


def parts(count: int, bytes_each: int, device: torch.device) -> list[slice]:
    """`count` things, of which each needs so many bytes in between, cut into stretches where that
    gains anything."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(0, count)]
    return stretches(count, bytes_each)


def stretches(count: int, bytes_each: int) -> list[slice]:
    """As `parts`, of which there are several wherever it runs."""
    size = max(1, _BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def joined(found: Sequence[Tensor], dim: int) -> Tensor:
    """What came of the parts, along `dim`; one part is not copied."""
    return found[0] if len(found) == 1 else torch.cat(list(found), dim)


def plus(branch: Tensor, tokens: Tensor) -> Tensor:
    """Their sum, in the memory of `branch`, which must be nobody else's; unless autocast made that
    of another type.

    What a module has given is never one's own: a hook may hold it.
    """
    return branch.add_(tokens) if branch.dtype == tokens.dtype else branch + tokens
