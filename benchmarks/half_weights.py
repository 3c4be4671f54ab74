"""Keep a model in half the space: `python benchmarks/half_weights.py FROM TO`.

Weights are stored in half precision and read back in single precision, so that a model computes as
it did up to their rounding (to 11 bits).
"""

import argparse
import json
from pathlib import Path

import torch

import vidprune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    vidprune.load(options.source).half().save_pretrained(options.output)
    config = options.output / "config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    told["dtype"] = str(torch.float32).removeprefix("torch.")
    config.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
