"""Kill a corpus job again and again, and see that nothing is lost or doubled.

    python benchmarks/kills.py --kills 200 --output build/kills
    python benchmarks/kills.py --kills 20 --engine alone --clips 40
    python benchmarks/kills.py --kills 2 --videos ../shared/jhmdb/clips ../shared/clips

writes `kills.json` into the output folder after every job: how often what was killed, and whether
the table that is there in the end equals, row for row, that of a run that nobody disturbed. What is
killed, at random moments, by SIGKILL: the command alone (`driver`), the command with all of its
processes, as where a machine goes (`machine`), and, under Ray, one of its processes, which Ray
starts again (`worker`). After a driver or a machine the same command is started again.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pyarrow.parquet
import torch

from vidprune.demo.clips import write_clips
from vidprune.environment import environment

# Seconds after which a run that has left no shard more counts as hanging.
_HANGS = 600.0


def corpus(folder: Path, clips: int) -> list[Path]:
    """Generated clips, a few of which cannot be read."""
    if not (folder / "test.csv").exists():
        write_clips(folder, per_class=-(-clips // 12), seed=900_000_000)
        for number in range(3):
            (folder / f"broken-{number}.mp4").write_text("no video")
    return [folder]


def started(
    clips: list[Path], output: Path, engine: str, shard_size: int
) -> subprocess.Popen[bytes]:
    """The command, in a session of its own."""
    words = ["predict", *map(str, clips), "--model", "demo", "--reducer", "sta:r=2", "--output"]
    words += [str(output), "--shard-size", str(shard_size)]
    words += ["--ray"] if engine == "ray" else ["--workers", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "vidprune", *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def processes_of(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(command.pid).children(recursive=True)
    return []


def workers_of(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Ray's processes that decode and compute."""
    found = []
    for process in processes_of(command):
        with suppress(psutil.NoSuchProcess):
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def kill(command: subprocess.Popen[bytes], what: str, chance: random.Random) -> bool:
    """Whether there was anything to kill."""
    others = processes_of(command)
    if what == "worker":
        if not (workers := workers_of(command)):
            return False
        with suppress(psutil.NoSuchProcess):
            chance.choice(workers).kill()
        return True
    command.kill()
    if what == "machine":
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    command.wait()
    # What a driver leaves behind ends by itself; the next one must not be disturbed by it.
    psutil.wait_procs(others, timeout=60)
    return True


def shards(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def disturbed(
    clips: list[Path], output: Path, options: argparse.Namespace, most: int, status: int
) -> Counter[str]:
    """One job from its beginning to its end, with kills on the way."""
    chance = random.Random(f"{options.seed} {output.name}")
    kinds = ("driver", "machine") if options.engine == "alone" else ("worker", "driver", "machine")
    kills: Counter[str] = Counter()
    command = started(clips, output, options.engine, options.shard_size)
    wanted, since = 1, time.monotonic()
    while command.poll() is None:
        time.sleep(0.02)
        if time.monotonic() - since > _HANGS:
            os.killpg(command.pid, signal.SIGKILL)
            raise RuntimeError(f"{output}: no shard more within {_HANGS:.0f} seconds")
        if shards(output) < wanted or sum(kills.values()) >= most:
            continue
        # Where it has a shard more than at the last kill, so that the job ends.
        time.sleep(chance.uniform(0, options.pause))
        what = chance.choice(kinds)
        if command.poll() is None and kill(command, what, chance):
            kills[what] += 1
            wanted, since = shards(output) + 1, time.monotonic()
            if what != "worker":
                command = started(clips, output, options.engine, options.shard_size)
    if command.returncode != status:
        raise RuntimeError(f"{output}: the command ended with status {command.returncode}")
    return kills


def table(folder: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pyarrow.parquet.read_table(folder).to_pylist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engine", choices=("ray", "alone"), default="ray")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds at most before a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--videos", type=Path, nargs="+", help="instead of generated clips")
    parser.add_argument("--output", type=Path, default=Path("build/kills"))
    options = parser.parse_args()
    clips = options.videos or corpus(options.output / "clips", options.clips)
    status = started(clips, options.output / "whole", options.engine, options.shard_size).wait()
    if status not in ((0, 1) if options.videos else (1,)):
        parser.exit(1, f"the undisturbed run ended with status {status}\n")
    wanted = table(options.output / "whole")
    total: Counter[str] = Counter()
    jobs = equal = 0
    while total.total() < options.kills:
        output = options.output / f"job-{options.engine}-{options.seed}-{jobs:03d}"
        total += disturbed(clips, output, options, options.kills - total.total(), status)
        jobs += 1
        equal += table(output) == wanted
        print(f"{total.total()} kills, {equal} of {jobs} jobs equal", flush=True)
        record = {
            "engine": options.engine,
            "videos": len(wanted),
            "errors": sum(row["error"] is not None for row in wanted),
            "kills": dict(total),
            "jobs": jobs,
            "equal_to_the_undisturbed": equal,
            "environment": environment(torch.device("cpu")),
            "command": shlex.join(["python", *sys.argv]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        path = options.output / "kills.json"
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    sys.exit(equal != jobs)


if __name__ == "__main__":
    main()
