"""Lists and tables: what they name is read, and what is odd about them is said, not passed over."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from vidprune.corpus.items import read_corpus


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str, **options: object) -> list[str]:
    return [item.name for item in read_corpus(inputs, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('video,label\na.mp4,"one\nb.mp4,two\nc.mp4,three\n', "after line 1: unexpected end"),
        ('video\n"a.mp4\nb.mp4\n', "close the quotes"),
        ('video\n"a.mp4\nb.mp4"\nc.mp4\n', "over a line's end: close the quote"),
        ('video\n"a.mp4"b\nc.mp4\n', "expected after"),
    ],
)
def test_a_quote_that_is_left_open_swallows_nothing(folder: Path, text: str, says: str) -> None:
    (folder / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        names("t.csv")
    assert str(caught.value).startswith("t.csv ")


def test_quotes_that_are_closed_are_read(folder: Path) -> None:
    (folder / "t.csv").write_text('video,label\n"a, ""b"".mp4","over\ntwo lines"\nc"d.mp4,x\n')
    assert names("t.csv") == ['a, "b".mp4', 'c"d.mp4']


def test_rows_without_a_path_are_counted(folder: Path) -> None:
    told: list[str] = []
    (folder / "t.csv").write_text("label,video\n1,a.mp4\n2,\n3\n\n4,b.mp4\n")
    (folder / "one.tsv").write_text("label\tvideo\n1\tc.mp4\n2\t\n")
    table = pyarrow.table({"video": ["d.mp4", None, "", "e.mp4", None]})
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    found = names("t.csv", "one.tsv", "t.parquet", tell=told.append)
    assert found == [f"{letter}.mp4" for letter in "abcde"]
    assert told == [
        "t.csv: 2 rows without a path passed over",
        "one.tsv: 1 row without a path passed over",
        "t.parquet: 3 rows without a path passed over",
    ]


def test_a_damaged_page_of_a_table_is_said(folder: Path) -> None:
    """Its footer, which says what there is, is whole."""
    table = pyarrow.table({"video": [f"{number}.mp4" for number in range(400)]})
    pyarrow.parquet.write_table(table, folder / "t.parquet", compression="zstd")
    content = bytearray((folder / "t.parquet").read_bytes())
    for place in range(30, 600):
        content[place] ^= 0x55
    (folder / "t.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"^t\.parquet is a damaged Parquet file: column 'video'"):
        names("t.parquet")


def test_a_whole_table_and_a_list_with_remarks_say_nothing(folder: Path) -> None:
    told: list[str] = []
    (folder / "t.csv").write_text("video\na.mp4\n")
    (folder / "l.txt").write_text("# remark\n\nb.mp4\n")
    assert names("t.csv", "l.txt", tell=told.append) == ["a.mp4", "b.mp4"]
    assert told == []


def test_a_column_needs_a_table(folder: Path) -> None:
    (folder / "l.txt").write_text("a.mp4\n")
    (folder / "t.csv").write_text("mine\nb.mp4\n")
    for inputs in (("l.txt",), ("a.mp4",), (str(folder),)):
        with pytest.raises(ValueError, match=r"column='mine' is of tables.*leave --column out"):
            names(*inputs, column="mine")
    assert names("l.txt", "t.csv", column="mine") == ["a.mp4", "b.mp4"]
    assert names("*.csv", column="mine") == ["b.mp4"]


@pytest.mark.parametrize("name", ["l.txt", "t.csv", "t.tsv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_said(folder: Path, name: str, encoding: str) -> None:
    (folder / name).write_text("video\na.mp4\n", encoding=encoding)
    with pytest.raises(ValueError, match=rf"{name} .*save it in UTF-8"):
        names(name)


@pytest.mark.parametrize("name", ["l.txt", "t.csv"])
def test_no_path_holds_a_zero_byte(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"video\na.mp4\nb\0.mp4\n")
    with pytest.raises(ValueError, match=f"{name} holds zero bytes"):
        names(name)


@pytest.mark.parametrize("name", ["s.tar.gz", "s.TGZ", "s.tar.zst"])
def test_a_compressed_archive_is_hinted_at(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"packed")
    (folder / "a.mp4").write_bytes(b"content")
    with pytest.raises(ValueError, match=r"unpack it once, to a \.tar or a folder"):
        names(name)
    told: list[str] = []
    assert names(".", tell=told.append) == ["a.mp4"]
    (said,) = told
    assert said.startswith(f".: compressed archives are passed over, such as {name}; unpack them")
