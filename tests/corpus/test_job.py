"""A job ends with every video once, whatever stopped it on the way."""

import os
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet
import pytest

from vidprune.corpus import shards as module
from vidprune.corpus.answers import Question, no_answer
from vidprune.corpus.items import Item
from vidprune.corpus.job import Answered, Job, Numbered, Progress, run
from vidprune.corpus.shards import Shards

ITEMS = tuple(Item(f"{number:03d}.mp4", f"{number:03d}.mp4") for number in range(23))


def job(**changed: Any) -> Job:
    given: dict[str, Any] = {
        "items": ITEMS,
        "question": Question(kind="embedding"),
        "told": {"model": "m", "reducer": "none"},
        "settings": {"dtype": "fp32"},
        "shard_size": 4,
    }
    return Job(**given | changed)


class Stopped(Exception):
    """As if the machine went away."""


class Answering:
    """Answers in an order of its own, and stops after so many."""

    def __init__(self, stops: int | None = None, seed: int = 0) -> None:
        self.stops, self.seed, self.asked = stops, seed, 0

    def __call__(self, items: Iterable[Numbered]) -> Iterator[Answered]:
        numbered = list(items)
        random.Random(self.seed).shuffle(numbered)
        for shard, item in numbered:
            if self.asked == self.stops:
                raise Stopped
            self.asked += 1
            yield shard, item, rows_of(item)


def rows_of(item: Item) -> list[dict[str, Any]]:
    number = int(item.name[:3])
    if number % 7 == 3:
        return [no_answer(item.name, "broken")]
    vector = np.full(3, number, np.float32)
    return [{"video": item.name, "view": None, "error": None, "embedding": vector}]


def table(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyarrow.parquet.read_table(folder).to_pylist()
    return found


@pytest.fixture
def undisturbed(tmp_path: Path) -> list[dict[str, Any]]:
    run(job(), Shards(str(tmp_path / "undisturbed")), Answering())
    return table(tmp_path / "undisturbed")


def test_every_video_has_its_row_in_order(undisturbed: list[dict[str, Any]]) -> None:
    assert [row["video"] for row in undisturbed] == [item.name for item in ITEMS]
    assert [row["error"] for row in undisturbed[:4]] == [None, None, None, "broken"]
    assert undisturbed[4] == {
        **{"video": "004.mp4", "view": None, "embedding": [4.0, 4.0, 4.0], "error": None},
        **{"model": "m", "reducer": "none"},
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_job_that_is_stopped_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, undisturbed: list[dict[str, Any]], seed: int
) -> None:
    chance, asked, output = random.Random(seed), 0, tmp_path / "out"
    for attempt in range(99):
        engine = Answering(stops=chance.randrange(3, 14), seed=attempt)
        try:
            summary = run(job(), Shards(str(output)), engine)
        except Stopped:
            asked += engine.asked
            continue
        break
    assert (summary.videos, summary.errors, summary.shards) == (23, 3, 6)
    assert table(output) == undisturbed
    again = Answering()
    assert run(job(), Shards(str(output)), again) == summary
    assert again.asked == 0, "what is there is not done again"


def test_shards_are_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 5)):
        run(job(), Shards(str(tmp_path / name)), Answering(seed=seed))
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert len(list((tmp_path / "b").iterdir())) == 7


def test_a_shard_that_was_being_written_is_none(tmp_path: Path, undisturbed: Any) -> None:
    output = tmp_path / "out"
    run(job(), Shards(str(output)), Answering())
    half = (output / "part-00000002.parquet").read_bytes()[:50]
    (output / "part-00000002.parquet").unlink()
    (output / ".part-00000002.parquet.0.partial").write_bytes(half)
    assert 2 not in Shards(str(output)).done()
    run(job(), Shards(str(output)), Answering())
    assert table(output) == undisturbed
    assert not list(output.glob(".*.partial"))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"items": ITEMS[:-1]}, "videos 23, not 22"),
        ({"items": (*ITEMS[1:], ITEMS[0])}, "corpus"),
        ({"told": {"model": "other", "reducer": "none"}}, "model 'm', not 'other'"),
        ({"settings": {"dtype": "bf16"}}, "dtype 'fp32', not 'bf16'"),
        ({"question": Question(kind="classes")}, "kind 'embedding', not 'classes'"),
        ({"shard_size": 5}, "shard_size 4, not 5"),
    ],
)
def test_a_folder_belongs_to_one_job(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    run(job(), Shards(str(tmp_path)), Answering())
    before = table(tmp_path)
    with pytest.raises(FileExistsError, match="belongs to another job") as refused:
        run(job(**changed), Shards(str(tmp_path)), Answering())
    assert named in str(refused.value)
    assert table(tmp_path) == before
    run(job(shard_size=9), Shards(str(tmp_path)), Answering(), restart=True)
    assert len(list(tmp_path.glob("part-*"))) == 3
    assert table(tmp_path) == before


def test_a_job_that_ended_before_its_first_shard_has_no_claim(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(job(settings={"batch_size": 512}), Shards(str(tmp_path)), Answering(stops=2))
    changed = job(settings={"batch_size": 8})
    assert run(changed, Shards(str(tmp_path)), Answering()).shards == 6
    with pytest.raises(FileExistsError, match="batch_size 8, not 512"):
        run(job(settings={"batch_size": 512}), Shards(str(tmp_path)), Answering())


@pytest.mark.parametrize("content", ['{"name": "somebody else\'s"}', "[]", "no JSON"])
def test_settings_of_somebody_else_are_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / "_job.json").write_text(content)
    with pytest.raises(FileExistsError, match="belongs to another job"):
        run(job(), Shards(str(tmp_path)), Answering())
    assert (tmp_path / "_job.json").read_text() == content


def test_a_store_that_fails_now_and_then_is_tried_again(
    tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, told = random.Random(1), []
    replace = os.replace

    def failing(source: str, target: str) -> None:
        if chance.random() < 0.4:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(module, "_PATIENCE", (0.0,) * 20)
    monkeypatch.setattr(os, "replace", failing)
    run(job(), Shards(str(tmp_path / "out"), tell=told.append), Answering())
    assert table(tmp_path / "out") == undisturbed
    assert told
    assert "No space left on device" in told[0]


def test_a_full_disk_stops_the_job_with_a_sentence_and_loses_nothing(
    tmp_path: Path, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(module, "_PATIENCE", (0.0, 0.0))
        shards = Shards(str(output))
        written: list[str] = []

        def full(name: str, content: bytes) -> None:
            if len(written) == 4:
                raise OSError(28, "No space left on device")
            written.append(name)
            Shards._put_once(shards, name, content)

        patched.setattr(shards, "_put_once", full)
        with pytest.raises(OSError, match=r"cannot be written \(No space left.*same command again"):
            run(job(), shards, Answering())
    assert len(Shards(str(output)).done()) == 3
    run(job(), Shards(str(output)), Answering())
    assert table(output) == undisturbed


def test_output_may_be_far(undisturbed: Any) -> None:
    address = "memory://results/deep"
    with pytest.raises(Stopped):
        run(job(), Shards(address), Answering(stops=20, seed=3))
    summary = run(job(), Shards(address), Answering())
    store = fsspec.filesystem("memory")
    found = pyarrow.parquet.read_table("/results/deep", filesystem=store).to_pylist()
    assert found == undisturbed
    assert summary.errors == 3
    assert fsspec.filesystem("memory").exists("/results/deep/_job.json")


def test_progress_says_how_far_it_is(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with pytest.raises(Stopped):
        run(job(), Shards(str(tmp_path)), Answering(stops=21))
    there = 23 - sum(
        len(job().shard(number)) for number in {*range(6)} - Shards(str(tmp_path)).done()
    )
    run(job(), Shards(str(tmp_path)), Answering(), observe=seen.append)
    assert (seen[0].done, seen[0].before, seen[0].seconds_left) == (there, there, None)
    assert (seen[-1].done, seen[-1].total) == (23, 23)
    assert seen[-1].videos_per_second > 0
    assert seen[-1].seconds_left == 0


@pytest.mark.parametrize("size", [0, -3])
def test_shards_hold_something(size: int) -> None:
    with pytest.raises(ValueError, match=f"shard_size={size} must be at least 1"):
        job(shard_size=size)


def test_shards_with_errors_may_be_done_again(tmp_path: Path, undisturbed: Any) -> None:
    """Three shards hold one each."""

    class Mended(Answering):
        def __call__(self, items: Iterable[Numbered]) -> Iterator[Answered]:
            for shard, item, rows in super().__call__(items):
                vector = np.zeros(3, np.float32)
                mended = {"video": item.name, "view": None, "error": None, "embedding": vector}
                yield shard, item, [mended] if rows[0]["error"] else rows

    output = Shards(str(tmp_path / "out"))
    run(job(), output, Answering())
    engine = Mended()
    assert run(job(), output, engine, retry_errors=True).errors == 0
    assert engine.asked == 12
    again = table(tmp_path / "out")
    assert [row for row in again if row["embedding"] != [0.0] * 3] == [
        row for row in undisturbed if not row["error"] and row["embedding"] != [0.0] * 3
    ]


@pytest.mark.parametrize("address", ["file://{}/out", "local://{}/out"])
def test_a_local_address_is_a_folder(tmp_path: Path, undisturbed: Any, address: str) -> None:
    run(job(), Shards(address.format(tmp_path)), Answering())
    assert table(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("left", [0, 100])
def test_a_shard_that_cannot_be_read_is_done_again(
    tmp_path: Path, undisturbed: Any, left: int
) -> None:
    told: list[str] = []
    output = tmp_path / "again"
    run(job(), Shards(str(output)), Answering())
    damaged = output / "part-00000002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:left])
    again = Answering()
    run(job(), Shards(str(output), tell=told.append), again)
    assert again.asked == 4
    assert "part-00000002.parquet is done again (it cannot be read: " in told[0]
    assert pyarrow.parquet.read_table(output).to_pylist() == undisturbed


@pytest.mark.parametrize("column", ["video", "embedding", "error", "model"])
def test_a_flipped_byte_anywhere_in_a_page_is_found(
    tmp_path: Path, undisturbed: Any, column: str
) -> None:
    """The footer, which says what there is, is whole."""
    output = tmp_path / "again"
    run(job(), Shards(str(output)), Answering())
    damaged = output / "part-00000002.parquet"
    whole = damaged.read_bytes()
    group = pyarrow.parquet.ParquetFile(damaged).metadata.row_group(0)
    (chunk,) = [
        group.column(number)
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.partition(".")[0] == column
    ]
    # Behind the header of the page, which is the last of its column.
    place = chunk.data_page_offset + chunk.total_compressed_size - 1
    if chunk.has_dictionary_page:
        place -= chunk.data_page_offset - chunk.dictionary_page_offset
    for flipped in (place, place - 2):
        content = bytearray(whole)
        content[flipped] ^= 4
        damaged.write_bytes(content)
        told: list[str] = []
        again = Answering()
        summary = run(job(), Shards(str(output), tell=told.append), again)
        assert (again.asked, summary.errors) == (4, 3)
        assert "part-00000002.parquet is done again" in told[0]
        assert damaged.read_bytes() == whole
    assert table(output) == undisturbed


@pytest.mark.parametrize("retry", [False, True])
def test_a_shard_in_the_place_of_another_is_done_again(
    tmp_path: Path, undisturbed: Any, retry: bool
) -> None:
    told: list[str] = []
    output = tmp_path / "again"
    run(job(), Shards(str(output)), Answering())
    part = output / "part-00000002.parquet"
    part.write_bytes((output / "part-00000000.parquet").read_bytes())
    run(job(), Shards(str(output), tell=told.append), Answering(), retry_errors=retry)
    assert "part-00000002.parquet is done again (it holds other videos)" in told[0]
    assert table(output) == undisturbed


def test_a_shard_of_another_job_is_done_again(tmp_path: Path, undisturbed: Any) -> None:
    output, other = tmp_path / "again", tmp_path / "other"
    run(job(), Shards(str(output)), Answering())
    run(job(told={"model": "n", "reducer": "none"}), Shards(str(other)), Answering())
    name = "part-00000001.parquet"
    (output / name).write_bytes((other / name).read_bytes())
    again = Answering()
    run(job(), Shards(str(output)), again)
    assert again.asked == 4
    assert table(output) == undisturbed


def test_a_shard_beyond_the_last_is_none_of_the_job(tmp_path: Path, undisturbed: Any) -> None:
    output = tmp_path / "again"
    run(job(), Shards(str(output)), Answering())
    beyond = output / "part-00000006.parquet"
    beyond.write_bytes((output / "part-00000000.parquet").read_bytes())
    with pytest.raises(FileExistsError, match=r"it holds part-00000006\.parquet, and"):
        run(job(), Shards(str(output)), Answering())
    run(job(), Shards(str(output)), Answering(), restart=True)
    assert table(output) == undisturbed


def test_a_restart_that_is_cut_off_goes_on(tmp_path: Path, undisturbed: Any) -> None:
    output = tmp_path / "again"
    told: list[str] = []
    run(job(), Shards(str(output)), Answering())
    for attempt in range(99):
        engine = Answering(stops=13, seed=attempt)
        try:
            run(job(), Shards(str(output), tell=told.append), engine, restart=True)
        except Stopped:
            continue
        break
    assert engine.asked < 13, "what a restart has done is not done again"
    assert "the restart that was cut off goes on" in told[-1]
    assert table(output) == undisturbed
    anew = Answering()
    run(job(), Shards(str(output)), anew, restart=True)
    assert anew.asked == 23, "one that was finished is discarded"


def test_a_restart_may_be_taken_up_without_the_word_and_of_another_job_begins_anew(
    tmp_path: Path, undisturbed: Any
) -> None:
    output = tmp_path / "again"
    run(job(told={"model": "n", "reducer": "none"}), Shards(str(output)), Answering())
    with pytest.raises(Stopped):
        run(job(), Shards(str(output)), Answering(stops=20), restart=True)
    there = len(Shards(str(output)).done())
    assert there
    other = Answering(stops=20)
    with pytest.raises(Stopped):
        run(job(shard_size=3), Shards(str(output)), other, restart=True)
    with pytest.raises(Stopped):
        run(job(), Shards(str(output)), Answering(stops=20), restart=True)
    rest = Answering()
    run(job(), Shards(str(output)), rest)
    assert 0 < rest.asked < 23
    assert table(output) == undisturbed


def test_a_store_of_which_nothing_is_known_is_no_output() -> None:
    with pytest.raises(ValueError, match="in a store that cannot be reached"):
        Shards("nostore://x")


def test_tables_need_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(RuntimeError, match=r"pip install 'vidprune\[parquet\]'"):
        Shards(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_second_command_loses_nothing_of_the_first(tmp_path: Path, undisturbed: Any) -> None:
    """It comes while the first is under way, and would throw all away."""
    output, refused = tmp_path / "out", []

    def observe(progress: Progress) -> None:
        other = Answering()
        with pytest.raises(FileExistsError, match="another command is at work there"):
            run(job(shard_size=3), Shards(str(output)), other, restart=True)
        refused.append(other.asked)

    run(job(), Shards(str(output)), Answering(), observe=observe)
    assert refused == [0] * 24
    assert table(output) == undisturbed
