"""Linear layers of blocks in 8 bits, by torchao.

# Note [8 bits]
Weights are rounded once, with a scale for each row; what a layer is given is rounded in every
forward, with a scale for each token. One scale for a whole batch, which torchao also has, would
let a clip's answer depend on its neighbours. Products are summed exactly (int8) or in float32
(float8). What is not a block's linear layer stays as it is: patch embedding, norms, attention's own
products, the head. Selection takes keys as the rounded layers give them.
torchao would also set torch's compiler, and float32's products, for the whole process: it is told
not to.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vidprune.backbones.onednn import is_linear
from vidprune.backbones.registry import adapt

Quantization = Literal["int8", "float8"]
QUANTIZATIONS: tuple[Quantization, ...] = ("int8", "float8")
# Of torchao's weights, which are not imported to be known again.
_BY_WEIGHT: dict[str, Quantization] = {"Int8Tensor": "int8", "Float8Tensor": "float8"}
_LEAST_TORCHAO = (0, 18)
# From Ada and Hopper on GPUs multiply float8.
_LEAST_CAPABILITY = (8, 9)
_MULTIPLES = {"int8": 8, "float8": 16}


def has_torchao() -> bool:
    """Whether it is installed, as new as is needed."""
    try:
        found = tuple(map(int, version("torchao").split(".")[:2]))
    except (PackageNotFoundError, ValueError):
        return False
    return found >= _LEAST_TORCHAO


def check_quantization(kind: str) -> None:
    """Raise ValueError for another than "int8" and "float8", or where this machine has it not."""
    if kind not in QUANTIZATIONS:
        raise ValueError(
            f"quantize={kind!r} is not known; choose one of {', '.join(QUANTIZATIONS)}, or leave "
            "it out"
        )
    if not has_torchao():
        least = ".".join(map(str, _LEAST_TORCHAO))
        raise ValueError(
            f"quantize={kind!r} needs torchao {least} or later; pip install 'vidprune[quantize]'"
        )
    if kind == "float8":
        _check_capability(torch.device("cuda"))


def check_device(model: PreTrainedModel, device: torch.device) -> None:
    """Raise ValueError where a device does not multiply what a model's layers are in."""
    kind = quantized_as(model)
    if kind == "float8":
        _check_capability(device)
    elif kind == "int8" and device.type not in ("cpu", "cuda"):
        raise ValueError(f"quantize='int8' is for cpu and cuda, not {device}; omit it there")


def _check_capability(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_available():
        found = torch.cuda.get_device_capability(device)
        if found >= _LEAST_CAPABILITY:
            return
        here = f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}"
    else:
        here = "there is none here" if device.type == "cuda" else f"{device} is none"
    raise ValueError(
        "quantize='float8' needs a GPU of compute capability 8.9 or more (Ada, Hopper, later), and "
        f"{here}; choose int8, or leave it out"
    )


def quantize_blocks(model: PreTrainedModel, kind: Quantization) -> None:
    """Round the weights of all linear layers in a model's blocks, in place; see Note [8 bits].

    Raises ValueError as `check_quantization` does, for float8 of a model that is not in bfloat16,
    and for layers whose sides no kernel takes (multiples of 8 for int8, of 16 for float8).
    """
    check_quantization(kind)
    if kind == "float8" and model.dtype != torch.bfloat16:
        raise ValueError(
            f"quantize='float8' is for models in bfloat16, and this one is in "
            f"{str(model.dtype).removeprefix('torch.')}; load it with dtype=torch.bfloat16 "
            "(--dtype bf16)"
        )
    layers = block_layers(model)
    for layer in layers:
        _check_sides(layer, kind)
    from torchao.quantization import quantize_

    config = _config(kind)
    for layer in layers:
        quantize_(layer, config)
        # By which torchao shows it, and which keeps a layer from being copied or sent.
        vars(layer).pop("extra_repr", None)
    model.save_pretrained = _refuse_to_save


def block_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """The plain linear layers of a model's blocks, in order: of attention and of the MLP."""
    backbone = adapt(model)
    modules = (each for block in range(backbone.depth) for each in backbone.layer(block).modules())
    return [module for module in modules if is_linear(module)]


def quantized_as(model: PreTrainedModel) -> str | None:
    """What a model's linear layers are in: "int8", "float8", the name of a kind of weight that
    others made of them, or None where they are plain."""
    for module in model.modules():
        weight = module.weight if isinstance(module, nn.Linear) else None
        if weight is not None and type(weight) not in (Tensor, nn.Parameter):
            name = type(weight).__name__
            whole = getattr(weight, "act_quant_kwargs", None) is not None
            return _BY_WEIGHT.get(name, name) if whole else name
    return None


def _check_sides(layer: nn.Linear, kind: Quantization) -> None:
    rows, columns = layer.weight.shape
    if rows % _MULTIPLES[kind] or columns % _MULTIPLES[kind]:
        raise ValueError(
            f"quantize={kind!r} takes linear layers whose sides are multiples of "
            f"{_MULTIPLES[kind]}, and the model has one of {rows} by {columns}; leave it out"
        )


def _config(kind: Quantization) -> Any:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
    )
    from torchao.utils import should_reduce_range

    if kind == "float8":
        return Float8DynamicActivationFloat8WeightConfig(
            granularity=PerRow(), set_inductor_config=False
        )
    return Int8DynamicActivationInt8WeightConfig(
        granularity=PerRow(),
        set_inductor_config=False,
        # Older processors sum products of bytes in 16 bits, which 7 bits do not overflow.
        reduce_range=should_reduce_range(torch.device("cpu")) and not torch.cuda.is_available(),
    )


def _refuse_to_save(*_: object, **__: object) -> NoReturn:
    """In the place of a model's `save_pretrained`."""
    raise ValueError(
        "model has layers in 8 bits, which are not saved; save the one that they were made of, and "
        "load that with quantize="
    )
