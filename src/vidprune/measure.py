"""What a forward costs, and what it ran on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt
from vidprune.model import Pruned, prune, unprune


def gmacs_per_view(model: PreTrainedModel) -> float:
    """Multiply-accumulates of one clip's forward, in 10^9: what the field's tables call GFLOPs.

    Counted over convolutions, linear layers and matrix products, the selection's included, from
    shapes alone: nothing is computed and the weights are not touched.
    """
    with torch.device("meta"):
        shadow = type(unprune(model))(model.config).eval()
        clip = torch.empty(1, *adapt(model).clip_shape)
    if isinstance(model, Pruned):
        shadow = prune(shadow, model.reducer)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(clip)
    # The counter takes a multiplication and an addition for two.
    return counter.get_total_flops() / 2e9


def environment(device: torch.device) -> dict[str, str | int]:
    """What a record needs to be read later: hardware, versions, threads."""
    return {
        "device": _device_name(device),
        "cpu": _cpu_name(),
        "cpu_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **{name: version(name) for name in ("vidprune", "transformers", "av")},
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _cpu_name() -> str:
    """The processor as the system names it, and how many of its cores this process may use."""
    info = Path("/proc/cpuinfo")
    names = (
        [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if "model name" in line
        ]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {usable_cores()} cores"


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
