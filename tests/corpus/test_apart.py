"""A job writes where it does not read."""

from pathlib import Path

import pytest

from vidprune.cli import main
from vidprune.corpus.apart import check_apart
from vidprune.corpus.items import read_corpus
from vidprune.demo.clips import write_clips


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/b.mp4"):
        (tmp_path / "clips" / name).write_bytes(b"content")
    (tmp_path / "clips" / "list.txt").write_text("a.mp4\n")
    (tmp_path / "link").symlink_to("clips")
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "of-another.parquet").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("clips", "clips"),
        ("clips", "./clips/"),
        ("clips", "file://{}/clips"),
        ("clips", "link"),
        ("clips", "."),
        ("clips", "clips/deep"),
        ("clips/list.txt", "clips"),
        ("clips/*", "clips/answers"),
        ("clips/**", "clips/deep/answers"),
        ("*", "answers"),
        ("answers/*.parquet", "answers"),
        ("file://{}/clips", "clips"),
        ("file://{}/clips", "clips/deep"),
        ("local://{}/clips/deep/b.mp4", "clips"),
        ("file://{}/clips/*", "clips/answers"),
        ("file://{}/answers/*.parquet", "answers"),
    ],
)
def test_an_output_among_the_videos_is_refused(folder: Path, given: str, output: str) -> None:
    given = given.format(folder)
    items = () if given.endswith(".parquet") else read_corpus([given])
    with pytest.raises(ValueError, match=r"where the job reads.*name a folder of its own"):
        check_apart(output.format(folder), [given], items)


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("clips", "answers"),
        ("clips", "clips/answers"),
        ("clips", "clips-answers"),
        ("clips/*.mp4", "clips/answers"),
        ("clips/list.txt", "clips/answers"),
        ("clips", "s3://bucket/clips"),
        ("file://{}/clips", "clips/answers"),
    ],
)
def test_an_output_apart_is_taken(folder: Path, given: str, output: str) -> None:
    given = given.format(folder)
    check_apart(output, [given], read_corpus([given]))


def test_answers_below_the_videos_are_no_input_the_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = write_clips(tmp_path / "clips", per_class=1, seed=3).parent / "growing"
    words = ["predict", str(clips), "--model", "demo", "--workers", "0", "--output"]
    assert main([*words, str(clips)]) == 2
    assert "where the job reads" in capsys.readouterr().err
    for _ in range(2):
        assert main([*words, str(clips / "answers")]) == 0
        assert "1 video in 1 shard: " in " ".join(capsys.readouterr().out.split())
