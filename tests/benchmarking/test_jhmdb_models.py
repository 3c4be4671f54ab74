"""The models of J-HMDB: what they were trained on, and that no test clip was among it."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import vidprune
from vidprune.commands.evaluate import model_digest
from vidprune.layout import TokenGrid
from vidprune.prepare import ViewOptions, load_model
from vidprune.video import read_list

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "jhmdb"
MODELS = ROOT / "benchmarks" / "models" / "jhmdb"
CLIPS = {1: 660, 2: 658, 3: 663}
SPLITS = tuple(CLIPS)
FILMS_OF_BOTH = {1: 24, 2: 22, 3: 25}
# What the hand-made motion baseline of ../shared/jhmdb reaches over the three splits.
BASELINE = 31.4
# Only a source distribution holds this file, and no weights.
weighty = pytest.mark.skipif(
    (ROOT / "PKG-INFO").exists(), reason="no weights in a source distribution"
)


def source(name: str) -> str:
    """The video that a clip was cut from: `class/what_class_u_...` is of `what`.

    Titles may hold the class too: what counts is the last one, which tags follow.
    """
    *_, kind, file = name.split("/")
    return f"{kind}/{file.rpartition(f'_{kind}_')[0]}"


def finished(split: int, kind: str = "") -> dict:
    return json.loads((RESULTS / f"split{split}{kind}" / "train.json").read_text("utf-8"))


def trained_on(split: int) -> dict[str, set[str]]:
    """Clips by the step that learned from them; names end alike, `class/clip.mp4`."""
    folder = RESULTS / f"split{split}"
    found = {
        step: set((folder / f"videos-{step}.txt").read_text("utf-8").split("\n")) - {""}
        for step in ("small", "large")
    }
    for record in (folder / "train.json", *RESULTS.glob(f"split{split}-*/train.json")):
        found[record.parent.name] = clips_of(record)
    if split == 1:
        found |= {str(record): clips_of(record) for record in RESULTS.glob("rates/*/train.json")}
    return found


def clips_of(record: Path) -> set[str]:
    videos = json.loads(record.read_text("utf-8"))["videos"]
    return {"/".join(name.split("/")[-2:]) for name in videos}


def test_a_source_is_what_clips_have_in_common() -> None:
    clips = (
        "April_09_brush_hair_u_nm_np1_ba_goo_0.mp4",
        "April_09_brush_hair_u_cm_np1_ri_goo_12.mp4",
    )
    assert {source(f"../clips/brush_hair/{clip}") for clip in clips} == {"brush_hair/April_09"}
    twice = "boom_snap_clap_(challenge)_clap_u_nm_np1_fr_med_0.mp4"
    assert source(f"clap/{twice}") == "clap/boom_snap_clap_(challenge)"


@pytest.mark.parametrize("split", SPLITS)
def test_every_step_learned_from_the_same_clips(split: int) -> None:
    steps = trained_on(split)
    assert {len(clips) for clips in steps.values()} == {CLIPS[split]}
    assert len({frozenset(clips) for clips in steps.values()}) == 1


@pytest.mark.parametrize("split", SPLITS)
def test_no_test_clip_was_trained_on(split: int, shared) -> None:
    tested = {source(sample.name) for sample in read_list(shared(f"jhmdb/split{split}/test.csv"))}
    learned = {source(clip) for clips in trained_on(split).values() for clip in clips}
    assert len(tested) > 50
    assert tested & learned == set()
    # The official lists part videos by class: of some films other actions were learned from.
    films = {name.split("/")[1] for name in tested} & {name.split("/")[1] for name in learned}
    assert len(films) == FILMS_OF_BOTH[split]


@pytest.mark.parametrize(
    "record",
    sorted((ROOT / "benchmarks/results/curves").glob("*/curves.json")),
    ids=lambda path: path.parent.name,
)
def test_curves_give_each_model_the_test_list_of_its_own_split(record: Path) -> None:
    """Another's holds clips that it learned from."""
    found = json.loads(record.read_text("utf-8"))
    if "jhmdb" not in found["data"][0]:
        assert "jhmdb" not in "".join(found["checkpoints"])
        return
    splits = [re.search(r"split(\d)", name)[1] for name in found["data"]]
    assert splits == ["1", "2", "3"]
    assert [re.search(r"split(\d)", name)[1] for name in found["checkpoints"]] == splits
    words = shlex.split(found["command"])
    if "--smaller" in words:
        first = words.index("--smaller") + 1
        assert [re.search(r"split(\d)", name)[1] for name in words[first : first + 3]] == splits


@weighty
@pytest.mark.parametrize("split", SPLITS)
def test_curves_are_of_the_models_that_are_kept(split: int) -> None:
    options = ViewOptions(protocol="ssv2", crops=1)
    model = load_model(str(MODELS / f"split{split}"), options=options, dtype="bf16")
    digest = model_digest(vidprune.prune(model, None))
    for record in ("jhmdb", "jhmdb-low", "amounts", "choices", "views-2"):
        text = (ROOT / "benchmarks/results/curves" / record / "curves.json").read_text("utf-8")
        assert json.loads(text)["digests"][split - 1] == digest


def test_they_are_worth_pruning() -> None:
    dense = [
        next(each for each in finished(split)["evaluations"] if each["reducer"] == "none")
        for split in SPLITS
    ]
    hits = sum(each["top1"] * each["num_videos"] / 100 for each in dense)
    videos = sum(each["num_videos"] for each in dense)
    assert videos == sum({1: 268, 2: 270, 3: 265}[split] for split in SPLITS)
    assert 100 * hits / videos > BASELINE


@weighty
@pytest.mark.parametrize("split", SPLITS)
def test_a_kept_model_has_the_paper_s_grid(split: int) -> None:
    model = vidprune.load(MODELS / f"split{split}")
    grid = vidprune.prune(model, "sta:r=64").stages[0]
    assert grid.entering == TokenGrid(frames=8, rows=14, columns=14).tokens
    assert model.config.num_labels == 21


@weighty
def test_kept_models_are_small_and_stay_out_of_the_package() -> None:
    size = sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file())
    assert size < 25e6
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    assert targets["targets"]["wheel"]["packages"] == ["src/vidprune"]
    assert "benchmarks/models/jhmdb" in targets["targets"]["sdist"]["exclude"]
