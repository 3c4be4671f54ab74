"""Whether torchcodec's views are PyAV's, and how long either takes (docs/speed.md).

    python benchmarks/decoders.py VIDEO [VIDEO ...] [--device cuda] [--protocol k400]

Needs torchcodec and FFmpeg's shared libraries (`make test` links PyAV's to .venv/ffmpeg, which
LD_LIBRARY_PATH may name). For each file it says who reads its views where torchcodec is asked, and
why if that is PyAV; the largest and the mean difference of 8-bit pixels; and milliseconds of both,
in turn. Writes benchmarks/results/cpu/decoders.json (--output names another file).
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from vidprune.environment import environment
from vidprune.video import (
    PROTOCOLS,
    Decoder,
    Protocol,
    UnreadableVideo,
    Views,
    check_decoder,
    expand_inputs,
    read_views,
)

OUTPUT = Path(__file__).parent / "results" / "cpu" / "decoders.json"


def timed(path: Path, protocol: Protocol, decoder: Decoder, device: torch.device) -> Any:
    """Views or why there are none, milliseconds, and why PyAV reads them if it was not asked to."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        started = time.perf_counter()
        try:
            found: Views | str = read_views(path, protocol, decoder=decoder, device=device)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except UnreadableVideo as error:
            found = error.reason
        spent = 1000 * (time.perf_counter() - started)
    return found, spent, str(told[0].message) if told else None


def compared(path: Path, protocol: Protocol, device: torch.device, repeats: int) -> dict[str, Any]:
    """One row; the first turn, which loads libraries, does not count."""
    spent: dict[str, list[float]] = {decoder: [] for decoder in get_args(Decoder)}
    found: dict[str, Views | str] = {}
    instead = None
    for turn in range(repeats + 1):
        for decoder in get_args(Decoder):
            found[decoder], milliseconds, instead = timed(path, protocol, decoder, device)
            if turn:
                spent[decoder].append(milliseconds)
    row: dict[str, Any] = {"file": path.name, "instead": instead}
    ours, theirs = (found[decoder] for decoder in get_args(Decoder))
    if isinstance(ours, str) or isinstance(theirs, str):
        return row | {"refused": ours if isinstance(ours, str) else theirs}
    off = (ours.pixels.int() - theirs.pixels.int()).abs()
    return row | {
        "frames": ours.num_frames,
        "same_frames": ours.num_frames == theirs.num_frames,
        "most": int(off.max()),
        "mean": float(off.float().mean()),
        "milliseconds": {decoder: round(median(spent[decoder]), 1) for decoder in spent},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", nargs="+", help="files, folders, patterns")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="(cpu)")
    parser.add_argument("--protocol", choices=[*PROTOCOLS], default="k400", help="(k400)")
    parser.add_argument("--repeats", type=int, default=5, help="(5)")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    check_decoder("torchcodec", options.device)
    torch.set_num_threads(1)
    protocol = PROTOCOLS[options.protocol]
    rows = []
    for path in expand_inputs(options.videos):
        rows.append(compared(path, protocol, options.device, options.repeats))
        print(json.dumps(rows[-1]), flush=True)
    given = sys.argv[1:] if arguments is None else arguments
    record = {
        "rows": rows,
        "protocol": options.protocol,
        "repeats": options.repeats,
        "environment": environment(options.device),
        "command": shlex.join(["python", "benchmarks/decoders.py", *given]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
