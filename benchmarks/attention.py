"""Attention on a CPU taken apart, at the lengths that STA leaves of a clip (docs/speed.md).

    python benchmarks/attention.py

Writes benchmarks/results/cpu/attention.json (--output names another file). Nothing else should run
on the machine.
"""

import argparse
import json
import shlex
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vidprune.backbones.attention_in_parts import attend_in_parts
from vidprune.backbones.onednn import LINEAR_OPERATIONS
from vidprune.environment import environment
from vidprune.memory import keep_freed_memory

OUTPUT = Path(__file__).parent / "results" / "cpu" / "attention.json"
# All of a clip of 16 frames, and what r = 64 leaves after each stage; and after r = 96.
LENGTHS = (1568, 1056, 800, 672, 224)
HEADS, WIDTH = 6, 64
KINDS = ("by keys", "softmax", "by values", "rest")
_PRODUCTS = {"matmul", "__matmul__"}


class Watch(TorchFunctionMode):
    """Seconds of every kind of operation, of attention over so many tokens."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.spent = tokens, defaultdict[str, float](float)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        started = time.perf_counter()
        found = function(*args, **(kwargs or {}))
        self.spent[self._kind(function, found)] += time.perf_counter() - started
        return found

    def _kind(self, function: Any, found: Any) -> str:
        name = getattr(function, "__name__", "")
        if function in LINEAR_OPERATIONS or name in _PRODUCTS:
            return "by keys" if found.shape[-1] == self.tokens else "by values"
        return "softmax" if name == "softmax" else "rest"


def taken_apart(heads: list[Tensor]) -> dict[str, float]:
    """Nanoseconds for each logit, by kind; the rest is copies, and what lies between."""
    logits = heads[0].shape[1] * heads[0].shape[2] ** 2
    with Watch(heads[0].shape[2]) as watch:
        started = time.perf_counter()
        # As the operation is written down, of which else only the whole is seen.
        attend_in_parts._init_fn(*heads, None, WIDTH**-0.5)
        whole = time.perf_counter() - started
    known = {kind: watch.spent[kind] for kind in KINDS[:-1]}
    spent = known | {"rest": whole - sum(known.values())}
    return {kind: 1e9 * seconds / logits for kind, seconds in spent.items()}


def rows(repeats: int) -> list[dict[str, Any]]:
    """The median of each kind at each length, all taken in turn."""
    settings = [(dtype, tokens) for dtype in (torch.float32, torch.bfloat16) for tokens in LENGTHS]
    given = {
        (dtype, tokens): [
            torch.randn(1, tokens, HEADS, WIDTH).to(dtype).transpose(1, 2) for _ in range(3)
        ]
        for dtype, tokens in settings
    }
    found = defaultdict(list)
    with torch.inference_mode():
        for _ in range(repeats):
            for setting, heads in given.items():
                # As in a model, where blocks of one length follow each other and find its memory.
                taken_apart(heads)
                found[setting].append(taken_apart(heads))
    return [
        {
            "dtype": str(dtype).removeprefix("torch."),
            "tokens": tokens,
            "ns_per_logit": {
                kind: median(each[kind] for each in found[dtype, tokens]) for kind in KINDS
            },
        }
        for dtype, tokens in settings
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--threads", type=int, default=2, help="(2)")
    parser.add_argument("--repeats", type=int, default=25, help="(25)")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    record = {
        "rows": rows(options.repeats),
        "heads": HEADS,
        "threads": options.threads,
        "repeats": options.repeats,
        "environment": environment(torch.device("cpu")),
        "command": shlex.join(["python", "benchmarks/attention.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
