"""How fast a corpus job goes and how much memory it takes, with and without Ray.

    python benchmarks/corpus.py rates --output build/corpus
    python benchmarks/corpus.py memory --clips 10000 --output build/corpus
    python benchmarks/corpus.py decode --videos ../shared/clips/k400_*.mp4 --output build/corpus

`rates`: the same clips by the plain loop and by Ray with one, two and four decoders beside one
model, one after the other; seconds are from start to end and, of the last half of the clips, from
clip to clip, which leaves out what starts once. `memory`: of each way all processes' memory, shared
pages counted once, every two seconds over many clips, of which 960 differ. `decode`: what reading
one video takes of one core, for one view of it and for fifteen, and how large a file is, of the
files below `--videos`; and what a list of a million names takes. All write a record into the output
folder.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from vidprune.corpus.items import read_corpus
from vidprune.demo.clips import CLASSES, write_clips
from vidprune.environment import environment
from vidprune.video import PROTOCOLS, read_views

WAYS: dict[str, tuple[str, ...]] = {
    "plain loop, decoded in between": ("--workers", "0"),
    "plain loop, 1 decoder": ("--workers", "1"),
    "plain loop, 2 decoders": ("--workers", "2"),
    "Ray, 1 decoder, 1 model": ("--ray", "--decoders", "1", "--models", "1"),
    "Ray, 2 decoders, 1 model": ("--ray", "--decoders", "2", "--models", "1"),
    "Ray, 4 decoders, 1 model": ("--ray", "--decoders", "4", "--models", "1"),
}
LONG = ("plain loop, decoded in between", "Ray, 1 decoder, 1 model")
_EVERY_SECONDS = 2.0
_READINGS, _NAMES, _DRAWN = 10, 1_000_000, 960


def corpus(folder: Path, clips: int) -> Path:
    """Generated clips, as many as asked: some, and these again under other names."""
    drawn = folder / "drawn"
    if not (drawn / "test.csv").exists():
        write_clips(drawn, per_class=-(-min(clips, _DRAWN) // len(CLASSES)), seed=700_000_000)
    files = sorted(drawn.rglob("*.mp4"))
    named = folder / f"named-{clips}"
    named.mkdir(exist_ok=True)
    for number in range(clips):
        if not (path := named / f"{number:06d}.mp4").exists():
            path.hardlink_to(files[number % len(files)])
    return named


def started(clips: Path, output: Path, options: tuple[str, ...], shard: int) -> subprocess.Popen:
    words = ["predict", str(clips), "--model", "demo", "--reducer", "sta:r=16", "--output"]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vidprune",
            *words,
            str(output),
            "--shard-size",
            str(shard),
            *options,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def memory_of(command: subprocess.Popen) -> float:
    """MiB of a command and all it started, shared pages divided among those that share them."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(command.pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
    return total / 2**20


def shards(output: Path) -> list[float]:
    """When each shard was written."""
    return sorted(path.stat().st_mtime for path in output.glob("part-*.parquet"))


def rates(options: argparse.Namespace) -> dict[str, Any]:
    clips, videos = corpus(options.output / "clips", options.clips), options.clips
    found: dict[str, Any] = {}
    for number, (way, words) in enumerate(WAYS.items()):
        output = options.output / f"rates-{number}"
        begun = time.time()
        if started(clips, output, words, options.shard_size).wait() != 0:
            raise RuntimeError(f"{way}: the job failed")
        took, written = time.time() - begun, shards(output)
        half = len(written) // 2
        steady = (len(written) - 1 - half) * options.shard_size / (written[-1] - written[half])
        found[way] = {
            "seconds": took,
            "videos_per_second": videos / took,
            "steady_videos_per_second": steady,
        }
        print(way, found[way], flush=True)
    return {"videos": videos, "ways": found}


def watched(command: subprocess.Popen, output: Path, shard: int) -> Iterator[list[float]]:
    """Seconds, videos answered and MiB, as long as a command runs."""
    begun = time.monotonic()
    while command.poll() is None:
        yield [
            round(time.monotonic() - begun, 1),
            len(shards(output)) * shard,
            round(memory_of(command), 1),
        ]
        time.sleep(_EVERY_SECONDS)


def memory(options: argparse.Namespace) -> dict[str, Any]:
    clips, videos = corpus(options.output / "clips", options.clips), options.clips
    found: dict[str, Any] = {}
    for number, way in enumerate(LONG):
        output = options.output / f"memory-{number}"
        command = started(clips, output, WAYS[way], options.shard_size)
        samples = list(watched(command, output, options.shard_size))
        if command.returncode != 0:
            raise RuntimeError(f"{way}: the job failed")
        found[way] = samples
        print(way, samples[len(samples) // 4], samples[-2], flush=True)
    return {"videos": videos, "columns": ["seconds", "videos", "mib"], "ways": found}


def decode(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds are of the processor, which hold on a busy machine, too."""
    found: dict[str, Any] = {}
    for name, protocol in {
        "one view": replace(PROTOCOLS["k400"], segments=1, crops=1),
        "15 views": PROTOCOLS["k400"],
    }.items():
        for path in options.videos:
            read_views(path, protocol)
        begun = time.process_time()
        for _ in range(_READINGS):
            for path in options.videos:
                read_views(path, protocol)
        took = (time.process_time() - begun) / (_READINGS * len(options.videos))
        found[name] = {"core_seconds_per_video": took, "protocol": asdict(protocol)}
        print(name, took, flush=True)
    found_names = _listed(options.output)
    sizes = [path.stat().st_size for path in options.videos]
    return {
        "videos": len(sizes),
        "mean_bytes": sum(sizes) / len(sizes),
        "ways": found,
        "listing": found_names,
    }


def _listed(folder: Path) -> dict[str, float]:
    """What a list of a million names takes."""
    path = folder / "names.txt"
    with path.open("w", encoding="utf-8") as names:
        names.writelines(f"/videos/{n // 1000:05d}/clip-{n:09d}.mp4\n" for n in range(_NAMES))
    before, begun = psutil.Process().memory_info().rss, time.process_time()
    items = read_corpus([str(path)])
    took = time.process_time() - begun
    mib = (psutil.Process().memory_info().rss - before) / 2**20
    return {"names": len(items), "core_seconds": took, "mib": mib}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("rates", "memory", "decode"))
    parser.add_argument("--videos", type=Path, nargs="+", help="of decode")
    parser.add_argument("--clips", type=int, default=960)
    parser.add_argument("--shard-size", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("build/corpus"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    parts = {"rates": rates, "memory": memory, "decode": decode}
    record = parts[options.part](options) | {
        "environment": environment(torch.device("cpu")),
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(record) + "\n"
    (options.output / f"{options.part}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
