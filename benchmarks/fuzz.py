"""Feed damaged and hostile input to what reads files from elsewhere.

    python benchmarks/fuzz.py lists --runs 10000
    python benchmarks/fuzz.py checkpoints --runs 10000
    python benchmarks/fuzz.py videos --runs 10000 --seeds ../shared/clips
    python benchmarks/fuzz.py corpora --runs 10000

lists and checkpoints are fuzzed with coverage as the guide (`pip install atheris`), videos by
mutation of real files, each in a process apart, and corpora (lists, tables and archives of videos)
by mutation of small ones. Everything may be refused, in a sentence; nothing
may raise anything else, hang, run what a file says, or end this process. What did is kept in the
output folder and the exit status is 1; `fuzz-TARGET.json` says how many inputs came to what.
"""

import argparse
import importlib
import io
import json
import random
import signal
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FunctionType

import safetensors.torch
import torch
from torch._weights_only_unpickler import Unpickler

from vidprune.environment import environment
from vidprune.video import Protocol, UnreadableVideo, read_list
from vidprune.video.guarded import GuardedReader, Limits

REFUSALS = (ValueError, FileNotFoundError, IsADirectoryError)
PROTOCOL = Protocol(sampling="segment", segments=1, crops=1, frames=4, size=32)
# Whose branches tell what is new about an input.
GUIDES = ("vidprune.video.datasets", "vidprune.backbones.originals", "vidprune.backbones.parts")
LIMITS = Limits(seconds=20, gib=1)
# How often what came of an input, by a word.
Outcomes = Counter[str]


def list_outcome(content: bytes, folder: Path) -> str:
    """What becomes of a list; whoever runs this sees what it raises beyond refusing."""
    path = folder / "list.csv"
    path.write_bytes(content)
    try:
        samples = read_list(path)
    except REFUSALS:
        return "refused"
    assert samples, "a list that is taken holds something"
    assert all(sample.label >= 0 for sample in samples), "labels count from 0"
    assert len({sample.name for sample in samples}) == len(samples), "each once"
    return "read"


def checkpoint_outcome(content: bytes, folder: Path) -> str:
    """What becomes of a checkpoint, as a pickle or as safetensors."""
    from vidprune.backbones.checkpoints import load
    from vidprune.backbones.refusals import CheckpointError

    suffix = ".safetensors" if content[:1] < b"\x80" else ".pth"
    path = folder / f"model{suffix}"
    path.write_bytes(content[1:])
    try:
        load(path, arch="vit_small_patch16_224", frames=2, size=32)
    except (*REFUSALS, CheckpointError):
        return "refused"
    return "read"


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file with some of its bytes changed, moved, doubled, or missing."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        # The beginnings of files, which say what follows, are struck more often.
        most = len(found) if chance.random() < 0.6 else min(len(found), 4096)
        if most < 8:
            break
        place, length = chance.randrange(most), chance.choice((1, 1, 2, 4, 32, 512))
        part = bytes(found[place : place + length])
        way = chance.randrange(5)
        if way == 0:
            found[place : place + length] = chance.randbytes(len(part))
        elif way == 1:
            found[place] ^= 1 << chance.randrange(8)
        elif way == 2:
            del found[place : place + length]
        elif way == 3:
            found[place:place] = part * chance.choice((1, 2, 64))
        else:
            found[place : place + length] = chance.choice((b"\x00", b"\xff", b"\x7f")) * len(part)
    if found and chance.random() < 0.1:
        del found[chance.randrange(1, len(found) + 1) :]
    return bytes(found)


def video_outcome(reader: GuardedReader, path: Path) -> str:
    """What becomes of a video."""
    try:
        pixels = reader.read(path)
    except UnreadableVideo as error:
        reason = error.reason
        assert "\n" not in reason, f"{reason!r} is one sentence"
        for word in ("takes longer", "more than", "was ended by", "ended with status"):
            if word in reason:
                return word
        return "refused"
    assert pixels.shape == (1, 4, 3, 32, 32), "views are those of the protocol"
    return "read"


class TooLong(BaseException):
    """What is read is not read in time."""


@contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """Raise TooLong in a block that takes longer."""

    def late(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def corpus_outcome(content: bytes, suffix: str, folder: Path) -> str:
    """What becomes of a list, a table or an archive of videos, by its suffix."""
    from vidprune.corpus.items import read_corpus

    path, told = folder / f"corpus{suffix}", list[str]()
    path.write_bytes(content)
    try:
        with in_time(20):
            items = read_corpus([str(path)], tell=told.append)
    except TooLong:
        return "takes longer"
    except REFUSALS as error:
        return "refused" if str(path) in str(error) else "refused without a name"
    assert items, "a corpus that is taken holds something"
    assert len({item.name for item in items}) == len(items), "each once"
    assert all(text.startswith(str(path)) for text in told), "notices name what they are of"
    for item in items:
        if item.size is not None:
            assert 0 <= item.start <= item.start + item.size <= len(content), "within the archive"
    return "read"


def small_corpora() -> dict[str, bytes]:
    """By suffix, one of each kind, which is in order."""
    import pyarrow
    import pyarrow.parquet

    names = ["a b/c.mp4", "\u00e9.mkv", "deep/d.webm", "e.mp4"]
    table, archive = io.BytesIO(), io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"label": [1, 2, 3, 4], "video": names}), table)
    with tarfile.open(fileobj=archive, mode="w") as members:
        for name in [*names, f"{'long/' * 30}f.mp4", "words.txt"]:
            member = tarfile.TarInfo(name)
            member.size = 20 * len(name)
            members.addfile(member, io.BytesIO(bytes(range(20)) * len(name)))
        linked = tarfile.TarInfo("linked.mp4")
        linked.type, linked.linkname = tarfile.LNKTYPE, "e.mp4"
        members.addfile(linked)
    rows = [f'"{name}",{number}' for number, name in enumerate(names)]
    return {
        ".txt": "\n".join(["# remark", *names[:2], "e.mp4 3", ""]).encode(),
        ".csv": "\r\n".join(["video,label", *rows, ",7"]).encode(),
        ".tsv": "\n".join(["path\tlabel", *(f"{name}\t1" for name in names)]).encode(),
        ".parquet": table.getvalue(),
        ".tar": archive.getvalue(),
    }


def fuzz_corpora(wholes: Mapping[str, bytes], runs: int, seed: int, output: Path) -> Outcomes:
    """Mutations of small ones, in turn; what ends this process lies beside them."""
    chance, outcomes = random.Random(seed), Outcomes()
    for number in range(runs):
        suffix = [*wholes][number % len(wholes)]
        content = mutated(wholes[suffix], chance)
        try:
            outcome = corpus_outcome(content, suffix, output)
        except Exception as error:  # noqa: BLE001 - what it is, is what is asked
            outcome = f"raised {type(error).__name__}"
        outcomes[outcome] += 1
        if outcome not in ("read", "refused"):
            (output / f"{outcome.replace(' ', '-')}-{number}{suffix}").write_bytes(content)
        if number % 500 == 499:
            print(number + 1, dict(outcomes), flush=True)
    return outcomes


def fuzz_videos(seeds: Sequence[Path], runs: int, seed: int, output: Path) -> Outcomes:
    """Mutations of real files, in turn."""
    chance, outcomes = random.Random(seed), Outcomes()
    contents = [path.read_bytes() for path in seeds]
    with GuardedReader(PROTOCOL, LIMITS) as reader, tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            which = number % len(seeds)
            path = Path(folder) / f"clip{seeds[which].suffix}"
            path.write_bytes(mutated(contents[which], chance))
            outcome = video_outcome(reader, path)
            outcomes[outcome] += 1
            if outcome not in ("read", "refused"):
                keep = output / f"{outcome.replace(' ', '-')}-{number}{path.suffix}"
                keep.write_bytes(path.read_bytes())
            if number % 500 == 499:
                print(number + 1, dict(outcomes), flush=True)
    return outcomes


def fuzz_guided(
    outcome_of: Callable[[bytes, Path], str], runs: int, seed: int, corpus: Path, record: Path
) -> None:
    """By atheris, which ends this process; the record is written as it goes."""
    import atheris

    outcomes, folder = Outcomes(), Path(tempfile.mkdtemp())

    def one(content: bytes) -> None:
        outcomes[outcome_of(content, folder)] += 1
        if outcomes.total() in (runs, 1) or outcomes.total() % 1000 == 0:
            write(record, outcomes)

    for module in GUIDES:
        for function in vars(importlib.import_module(module)).values():
            if isinstance(function, FunctionType) and function.__module__ == module:
                atheris.instrument_func(function)
    atheris.instrument_func(Unpickler.load)
    words = [sys.argv[0], f"-runs={runs}", f"-seed={seed}", "-max_len=4096", "-timeout=60"]
    atheris.Setup([*words, f"-artifact_prefix={record.parent}/", str(corpus)], one)
    atheris.Fuzz()


def plant(corpus: Path) -> None:
    """Inputs that are in order, for mutations to start from."""
    weights = {"blocks.0.attn.qkv.weight": torch.zeros(3, 2), "head.bias": torch.zeros(2)}
    pickled = io.BytesIO()
    torch.save({"module": weights}, pickled)
    (corpus / "pickle").write_bytes(b"\x80" + pickled.getvalue())
    (corpus / "safetensors").write_bytes(b"\x00" + safetensors.torch.save(weights))
    (corpus / "list").write_bytes("# remark\na b/c.mp4 3\n\u00e9.mkv\t0\n".encode())


def write(record: Path, outcomes: Outcomes) -> None:
    told = {
        "inputs": outcomes.total(),
        "outcomes": dict(outcomes),
        "environment": environment(torch.device("cpu")),
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    record.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=("lists", "checkpoints", "videos", "corpora"))
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=Path, default=Path("../shared/clips"), help="of videos")
    parser.add_argument("--output", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args()
    corpus, record = options.output / "corpus", options.output / f"fuzz-{options.target}.json"
    corpus.mkdir(parents=True, exist_ok=True)
    plant(corpus)
    if options.target == "corpora":
        outcomes = fuzz_corpora(small_corpora(), options.runs, options.seed, options.output)
        write(record, outcomes)
        sys.exit(bool({*outcomes} - {"read", "refused"}))
    if options.target == "videos":
        seeds = [path for path in sorted(options.seeds.iterdir()) if path.suffix != ".md"]
        # Large files are slow to write and gain little.
        seeds = [path for path in seeds if path.stat().st_size < 2**20]
        outcomes = fuzz_videos(seeds, options.runs, options.seed, options.output)
        write(record, outcomes)
        sys.exit(bool({*outcomes} - {"read", "refused"}))
    outcome_of = {"lists": list_outcome, "checkpoints": checkpoint_outcome}[options.target]
    fuzz_guided(outcome_of, options.runs, options.seed, corpus, record)


if __name__ == "__main__":
    main()
