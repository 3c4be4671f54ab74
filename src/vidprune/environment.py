"""What figures were taken on."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch


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
        # Who has a GPU decode has it loaded.
        **({"torchcodec": _torchcodec()} if "torchcodec" in sys.modules else {}),
        **({"commit": commit} if (commit := _commit()) else {}),
    }


def _torchcodec() -> str:
    """Its version, with what it was built for."""
    return str(getattr(sys.modules["torchcodec"], "__version__", "unknown"))


def _commit() -> str | None:
    """Which commit this code is, and whether it was changed since; None where it is installed."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    if (head := _git("rev-parse", "--short", "HEAD")) is None:
        return None
    changed = _git("status", "--porcelain", ".")
    return head if changed == "" else f"{head} and changes"


def _git(*arguments: str) -> str | None:
    """What git says of the folder of this file; None where it refuses, or is not there."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


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
