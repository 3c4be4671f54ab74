"""The scripts that take the records ask for nothing that the command does not know."""

import json
import os
import re
import runpy
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vidprune.backbones.architectures import architecture
from vidprune.backbones.registry import FAMILIES as ADAPTED
from vidprune.backbones.registry import shape_of
from vidprune.cli import benchmark, parser
from vidprune.commands.benchmark import Plan, subjects
from vidprune.layout import Pattern
from vidprune.sources import sources_of

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
STUB = """#!{python}
import json, sys
with open({calls!r}, "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
"""
FAMILIES = runpy.run_path(str(SCRIPTS / "tables.py"))["FAMILIES"]
RECORDS = {"cpu.sh": 2 + len(FAMILIES) + 2 + 6 + 3 + 6 + 3 * 8 + 4, "gpu.sh": 10 * 3}


def asked(script: str, folder: Path, *arguments: str) -> list[list[str]]:
    """What a script gives Python to do, run where no record lies yet."""
    (folder / "benchmarks").mkdir(exist_ok=True)
    shutil.copy(SCRIPTS / script, folder / "benchmarks")
    calls, stub = folder / "calls", folder / "python3"
    stub.write_text(STUB.format(python=sys.executable, calls=str(calls)))
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(folder / "benchmarks" / script), *arguments]
    (folder / "k400_one.mp4").touch()
    given = {"PATH": path, "CLIP": __file__, "CLIPS": str(folder)}
    subprocess.run(command, env=os.environ | given, check=True, capture_output=True)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def planned(words: list[str]) -> Plan:
    assert words[:2] == ["-m", "vidprune"]
    arguments = vars(parser().parse_args(words[2:]))
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arguments.items()
        if name in benchmark.PLANNED
    }
    return Plan(**given, alternatives=not arguments["no_alternatives"])


def takes_tubes_alone(model: str) -> bool:
    shape = shape_of(architecture(model))
    return Pattern.TUBES in map(shape.pattern, range(shape.depth))


def test_every_family_has_a_record_that_a_script_asks_for(tmp_path: Path) -> None:
    found = asked("cpu.sh", tmp_path, "families")
    assert {words[words.index("--model") + 1] for words in found} == set(FAMILIES)
    assert {architecture(name).model_type for name in FAMILIES} == set(ADAPTED)


@pytest.mark.parametrize("script", RECORDS)
def test_every_record_is_asked_for_once_in_words_that_the_command_knows(
    script: str, tmp_path: Path
) -> None:
    found = asked(script, tmp_path, "all")
    outputs = [words[words.index("--output") + 1] for words in found]
    assert len(set(outputs)) == len(outputs) == RECORDS[script]
    plans = [planned(words) for words in found]
    for plan in plans:
        baseline = "grid" if all(map(takes_tubes_alone, plan.models)) else "random"
        rows = [row for row in (*plan.against, *plan.reducers) if row.startswith(baseline)]
        assert {"fold=true" in row for row in rows} == {False, True}, "plain and folded"
    assert len(subjects(plans[0], plans[0].models[0])) > 2


def test_a_gpu_decodes_beside_pyav_where_there_are_videos(torchcodec: None, tmp_path: Path) -> None:
    *runs, comparison = asked("gpu.sh", tmp_path, "video")
    plans = [planned(words) for words in runs]
    assert Counter((plan.models[0], plan.decoder) for plan in plans) == Counter(
        {
            (f"vit_{size}_patch16_224", decoder): 3
            for size in ("small", "large")
            for decoder in ("pyav", "torchcodec")
        }
    )
    assert all(plan.against == ("random", "random:fold=true") for plan in plans)
    assert len({words[words.index("--output") + 1] for words in runs}) == len(runs)
    assert comparison[0] == "benchmarks/decoders.py"
    assert comparison[comparison.index("--device") + 1] == "cuda"


@pytest.mark.parametrize("script", RECORDS)
def test_options_are_passed_on(script: str, tmp_path: Path) -> None:
    part = {"cpu.sh": "small-bf16-batch-1-r64", "gpu.sh": "rivals"}[script]
    found = asked(script, tmp_path, part, "--repeats", "2")
    assert all(planned(words).repeats == 2 for words in found)


@pytest.mark.parametrize("script", RECORDS)
def test_what_is_there_is_not_taken_again(script: str, tmp_path: Path) -> None:
    part = {"cpu.sh": "small-bf16-batch-1-r64", "gpu.sh": "rivals"}[script]
    for words in asked(script, tmp_path, part):
        record = tmp_path / words[words.index("--output") + 1] / "benchmark.json"
        record.parent.mkdir(parents=True)
        record.write_text("{}")
    (tmp_path / "calls").write_text("")
    assert asked(script, tmp_path, part) == []


@pytest.mark.parametrize("script", RECORDS)
def test_an_unknown_part_is_refused_with_those_that_are_known(script: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        asked(script, tmp_path, "r63x")
    assert b"no part is called r63x; choose" in refused.value.stderr


MAKING_STUB = """#!{python}
import json, sys
from pathlib import Path
with open({calls!r}, "a") as calls:
    print(json.dumps(sys.argv[1:]), file=calls)
if "--output" in sys.argv:
    folder = Path(sys.argv[sys.argv.index("--output") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train.json", "log.jsonl", "videos.txt", "curves.json"):
        (folder / name).touch()
"""
CURVES = (
    *("generated", "generated-low", "choices-generated"),
    *("jhmdb", "jhmdb-low", "amounts", "choices", "views"),
)


def made(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[Any]:
    """What a script gives Python to do that leaves what its next step needs."""
    monkeypatch.setattr(sys.modules[__name__], "STUB", MAKING_STUB)
    return asked(script, folder, *words)


def options_of(recipe: str) -> set[str]:
    """The options that a recipe names."""
    return set(re.findall(r'"(--[a-z0-9-]+)"', (SCRIPTS.parent / recipe).read_text("utf-8")))


@pytest.mark.parametrize("part", ["train", "rates"])
def test_training_on_jhmdb_asks_for_what_is_known(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made("jhmdb.sh", tmp_path, monkeypatch, part)
    guided = [words for words in found if words[0] == "recipes/flow_guided/train.py"]
    finished = [words for words in found if words[:2] == ["-m", "vidprune"]]
    assert len(guided) == (6 if part == "train" else 2)
    assert len(finished) == (6 if part == "train" else 4)
    for words in guided:
        asked_for = {word for word in words if word.startswith("--")}
        assert asked_for <= options_of("recipes/flow_guided/train.py")
    for words in finished:
        arguments = parser().parse_args(words[2:])
        (data,) = {arguments.data.name, arguments.validation.name}
        # The model it starts from learned from the same split.
        assert f"/{data}/" in arguments.model


@pytest.mark.parametrize("part", CURVES)
def test_curves_ask_for_what_is_known_and_each_split_for_its_model(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in (1, 2, 3):
        (tmp_path / f"runs/jhmdb/split{split}/cheap/model").mkdir(parents=True)
    found = made("curves.sh", tmp_path, monkeypatch, part)
    curves = [parser().parse_args(words[2:]) for words in found if words[0] == "-m"]
    assert len(curves) == (3 if part == "views" else 1)
    for arguments in curves:
        assert arguments.verb == "curves"
        assert len(arguments.model) == len(arguments.data)
        for model, data in zip(arguments.model, arguments.data, strict=True):
            assert model == "demo" or model.endswith(f"/{data.name}")
        assert len(arguments.smaller) in (0, len(arguments.model))
        if arguments.source is not None:
            names = [f"clips/clap/Slow_clap_clap_u_nm_np1_fr_med_{number}.mp4" for number in (0, 7)]
            assert sources_of(
                [*names, "clips/clap/Other_clap_f_nm_np1_fr_med_0.mp4"], arguments.source
            ).tolist() == [0, 0, 1]
    assert all(arguments.source or arguments.model == ["demo"] for arguments in curves)
