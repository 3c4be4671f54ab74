"""A seeded few hundred of what `benchmarks/fuzz.py` feeds to readers, and that it would notice."""

import io
import json
import os
import pickle
import random
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from vidprune.demo.clips import write_clips
from vidprune.video.guarded import GuardedReader

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz() -> dict[str, Any]:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / "fuzz.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_damaged_lists_are_read_or_refused(fuzz: dict[str, Any], tmp_path: Path) -> None:
    chance, outcomes = random.Random(3), Counter()
    whole = b"# remark\nwalk/a b.mp4 3\nrun/\xc3\xa9.mkv\t0\n" * 3
    for _ in range(400):
        outcomes[fuzz["list_outcome"](fuzz["mutated"](whole, chance), tmp_path)] += 1
    assert set(outcomes) == {"read", "refused"}


def test_damaged_checkpoints_are_refused(fuzz: dict[str, Any], tmp_path: Path) -> None:
    chance, outcomes = random.Random(4), Counter()
    fuzz["plant"](tmp_path)
    for name in ("pickle", "safetensors"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            content = whole[:1] + fuzz["mutated"](whole[1:], chance)
            outcomes[fuzz["checkpoint_outcome"](content, tmp_path)] += 1
    assert set(outcomes) == {"refused"}


def test_no_pickle_is_executed(fuzz: dict[str, Any], tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    for how in (
        lambda file: torch.save({"module": Hostile()}, file),
        lambda file: pickle.dump(Hostile(), file),
    ):
        file = io.BytesIO()
        how(file)
        assert fuzz["checkpoint_outcome"](b"\x80" + file.getvalue(), tmp_path) == "refused"
    assert not (tmp_path / "owned").exists()


def test_damaged_videos_are_read_or_refused(fuzz: dict[str, Any], tmp_path: Path) -> None:
    chance, outcomes = random.Random(5), Counter()
    write_clips(tmp_path / "clips", per_class=1, seed=3)
    wholes = [path.read_bytes() for path in sorted((tmp_path / "clips").glob("*/*.mp4"))]
    with GuardedReader(fuzz["PROTOCOL"], fuzz["LIMITS"]) as reader:
        for number in range(240):
            path = tmp_path / "clip.mp4"
            path.write_bytes(fuzz["mutated"](wholes[number % len(wholes)], chance))
            outcomes[fuzz["video_outcome"](reader, path)] += 1
    assert set(outcomes) == {"read", "refused"}
    assert min(outcomes.values()) > 20


def test_damaged_corpora_are_read_or_refused(fuzz: dict[str, Any], tmp_path: Path) -> None:
    wholes = fuzz["small_corpora"]()
    for suffix, whole in wholes.items():
        assert fuzz["corpus_outcome"](whole, suffix, tmp_path) == "read"
    outcomes = fuzz["fuzz_corpora"](wholes, 600, 6, tmp_path)
    assert set(outcomes) == {"read", "refused"}
    assert min(outcomes.values()) > 60


def test_what_a_script_notices_of_a_corpus_is_kept(
    fuzz: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidprune.corpus import items

    for raised, said in ((KeyError, "raised KeyError"), (fuzz["TooLong"], "takes longer")):

        def failing(*_: object, raised: type[BaseException] = raised) -> None:
            raise raised

        monkeypatch.setattr(items, "names_in", failing)
        assert fuzz["fuzz_corpora"]({".txt": b"a.mp4\n" * 9}, 3, 1, tmp_path) == {said: 3}
        assert len(list(tmp_path.glob(f"{said.replace(' ', '-')}-*.txt"))) == 3


def test_what_a_script_notices_is_kept(
    fuzz: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.mp4").write_bytes(bytes(range(256)) * 8)
    namespace = fuzz["fuzz_videos"].__globals__
    monkeypatch.setitem(namespace, "video_outcome", lambda reader, path: "was ended by")
    output = tmp_path / "out"
    output.mkdir()
    outcomes = fuzz["fuzz_videos"]([tmp_path / "clip.mp4"], 3, 1, output)
    assert outcomes == {"was ended by": 3}
    assert len(list(output.glob("was-ended-by-*.mp4"))) == 3
    fuzz["write"](tmp_path / "fuzz.json", outcomes)
    assert json.loads((tmp_path / "fuzz.json").read_text())["inputs"] == 3
