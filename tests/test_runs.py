"""The folder of a run: whatever the moment it is cut off, nothing is lost, repeated or mixed up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidprune.inference import ViewLogits
from vidprune.parallel import Process
from vidprune.runs import RunFolder, append, view_row, write_atomically, write_parquet

SETTINGS = {"checkpoint": "a", "reducer": "sta:r=64", "protocol": {"segments": 5, "crops": 3}}
ROWS = [{"video": f"{name} ü", "view": view} for name in "ab" for view in range(3)]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run", Process())
    made.claim(SETTINGS)
    return made


def fill(folder: RunFolder, rows: list[dict[str, object]], rank: int = 0) -> None:
    with RunFolder(folder.path, Process(rank=rank, count=rank + 1)).journal() as journal:
        for row in rows:
            append(journal, row)


def keys(rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["video"], row["view"]) for row in rows]


def test_a_journal_cut_at_any_byte_loses_the_cut_line_and_no_more(folder):
    fill(folder, ROWS)
    journal = folder.path / "views.jsonl"
    whole = journal.read_bytes()
    for cut in range(len(whole) + 1):
        journal.write_bytes(whole[:cut])
        folder.claim(SETTINGS)
        there = list(folder.rows())
        assert there == ROWS[: whole[:cut].count(b"\n")]
        fill(folder, ROWS[len(there) :])
        assert journal.read_bytes() == whole


def test_what_is_cut_off_in_any_journal_goes_before_others_read(folder):
    fill(folder, ROWS[:1], rank=3)
    journal = folder.path / "views.3.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"video": "b')
    folder.claim(SETTINGS)
    assert journal.read_bytes() == whole


def test_each_line_is_on_disk_before_the_next(folder):
    with folder.journal() as journal:
        append(journal, ROWS[0])
        assert list(folder.rows()) == ROWS[:1]


def test_gather_makes_one_file_in_the_order_given(folder):
    fill(folder, [ROWS[4], ROWS[0], ROWS[2]])
    fill(folder, [ROWS[5], ROWS[1]], rank=1)
    fill(folder, [ROWS[3]], rank=11)
    folder.gather(keys(ROWS))
    assert [*map(json.loads, (folder.path / "views.jsonl").read_bytes().splitlines())] == ROWS
    assert {file.name for file in folder.path.iterdir()} == {"run.json", "views.jsonl"}


def test_gather_leaves_out_what_is_not_there(folder):
    fill(folder, ROWS[2:4])
    folder.gather(keys(ROWS))
    assert list(folder.rows()) == ROWS[2:4]


def test_a_view_in_two_journals_counts_once(folder):
    fill(folder, ROWS[:4])
    fill(folder, ROWS[2:], rank=1)
    assert sorted(keys(folder.rows())) == keys(ROWS)
    folder.gather(keys(ROWS))
    assert list(folder.rows()) == ROWS


def test_gather_cut_off_before_the_last_step_can_be_done_again(folder, monkeypatch):
    fill(folder, ROWS[:2])
    fill(folder, ROWS[2:], rank=1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda path: pytest.fail("as if killed here"))
        with pytest.raises(pytest.fail.Exception):
            folder.gather(keys(ROWS))
    assert (folder.path / "views.1.jsonl").exists()
    folder.gather(keys(ROWS))
    assert list(folder.rows()) == ROWS
    assert not (folder.path / "views.1.jsonl").exists()


def test_files_of_similar_names_are_left_alone(folder):
    copy = folder.path / "views-of-monday.jsonl"
    copy.write_text("not ours\n")
    fill(folder, ROWS)
    folder.gather(keys(ROWS))
    folder.claim(SETTINGS, restart=True)
    assert copy.read_text() == "not ours\n"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"reducer": "none"}, "reducer 'sta:r=64', not 'none'"),
        ({"protocol": {"segments": 5, "crops": 1}}, "protocol {'segments': 5, 'crops': 3}, not"),
        ({"dtype": "bfloat16"}, "dtype as usual, not 'bfloat16'"),
    ],
)
def test_another_run_is_refused_by_what_differs(folder, change, named):
    fill(folder, ROWS)
    with pytest.raises(FileExistsError, match="belongs to another run") as caught:
        folder.claim(SETTINGS | change)
    assert named in str(caught.value)
    assert "checkpoint" not in str(caught.value)
    assert list(folder.rows()) == ROWS


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null"])
def test_a_run_json_of_somebody_else_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(FileExistsError, match="not ours"):
        RunFolder(tmp_path, Process()).claim(SETTINGS)
    assert (tmp_path / "run.json").read_text() == content


def test_views_without_settings_are_refused(tmp_path):
    (tmp_path / "views.jsonl").write_text("{}\n")
    with pytest.raises(FileExistsError, match=r"no run\.json"):
        RunFolder(tmp_path, Process()).claim(SETTINGS)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="is a file; name a folder"):
        RunFolder(tmp_path / "run", Process()).claim(SETTINGS)


def test_restart_forgets_the_run_that_is_there(folder):
    fill(folder, ROWS)
    fill(folder, ROWS, rank=2)
    folder.claim(SETTINGS | {"reducer": "none"}, restart=True)
    assert list(folder.rows()) == []
    folder.claim(SETTINGS | {"reducer": "none"})


def test_only_the_first_process_claims(tmp_path, monkeypatch):
    waited = []

    def gather(process, item):
        waited.append(process)
        return [None, item]

    monkeypatch.setattr(Process, "gather", gather)
    RunFolder(tmp_path / "run", Process(rank=1, count=2)).claim(SETTINGS)
    assert not (tmp_path / "run").exists()
    assert len(waited) == 1


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_atomically(path, "first")
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", lambda *paths: pytest.fail("as if killed here"))
        with pytest.raises(pytest.fail.Exception):
            write_atomically(path, "second")
    assert path.read_text() == "first"
    write_atomically(path, "third")
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert path.read_text() == "third"


def test_logits_come_back_from_a_row_to_the_last_bit():
    bits = torch.randint(-(2**31), 2**31 - 1, (4096,), generator=torch.Generator().manual_seed(0))
    logits = bits.to(torch.int32).view(torch.float32)
    logits = logits[logits.isfinite()]
    row = json.loads(json.dumps(view_row(ViewLogits("v", 4, logits), label=2, place=(1, 0))))
    assert torch.equal(torch.tensor(row.pop("logits")), logits)
    assert row == {"video": "v", "view": 4, "segment": 1, "crop": 0, "label": 2}


def test_parquet_holds_the_rows(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    logits = torch.linspace(-3, 7, 5)
    rows = [view_row(ViewLogits(n, 0, logits), label=1, place=(0, 0)) for n in ("a", "ü b")]
    write_parquet(tmp_path / "views.parquet", iter(rows))
    assert parquet.read_table(tmp_path / "views.parquet").to_pylist() == rows
    assert np.float32(rows[0]["logits"]).tolist() == logits.tolist()


def test_parquet_of_no_row_is_a_table(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "views.parquet", [])
    assert parquet.read_table(tmp_path / "views.parquet").num_rows == 0
