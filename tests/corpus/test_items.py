"""What a corpus is made of: every way to name videos, and what a list must not reach."""

import io
import os
import tarfile
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from vidprune.corpus import fetching as module
from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import Item, read_corpus


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a2.mkv", "a10.mkv", "deep/c.webm", "notes.md"):
        (tmp_path / name).write_text(f"content of {name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*inputs: str, **options: object) -> list[str]:
    return [item.name for item in read_corpus(inputs, **options)]  # type: ignore[arg-type]


def content(item: Item) -> str:
    with local_file(item) as path:
        return path.read_text()


def test_files_folders_and_patterns(folder: Path) -> None:
    assert names("b.mp4", "deep", "a*.mkv") == ["b.mp4", "deep/c.webm", "a2.mkv", "a10.mkv"]
    assert names(".", "b.mp4") == ["a2.mkv", "a10.mkv", "b.mp4", "deep/c.webm"]
    assert names("gone.mp4") == ["gone.mp4"], "it is named where it cannot be read"


def test_lists_name_what_lies_beside_them(folder: Path) -> None:
    (folder / "deep" / "list.txt").write_text("# remark\n\n../b.mp4\r\nc.webm 3\n../a b.mp4 7\n")
    (folder / "a b.mp4").write_text("spaced")
    found = read_corpus(["deep/list.txt"])
    assert [item.name for item in found] == ["../b.mp4", "c.webm", "../a b.mp4"]
    assert [content(item) for item in found] == [
        "content of b.mp4",
        "content of deep/c.webm",
        "spaced",
    ]


def test_a_file_is_meant_that_is_called_just_like_a_line(folder: Path) -> None:
    """Though the line looks like a remark, a label or blanks."""
    for name in ("take", "take 2", "#hash.mp4", " lead.mp4"):
        (folder / name).write_text(name)
    (folder / "list.txt").write_text("take 2\ntake\n#hash.mp4\n lead.mp4\n# b.mp4\nb.mp4 5\n")
    assert names("list.txt") == ["take 2", "take", "#hash.mp4", " lead.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"video,video\na.mp4,b.mp4\n", "has two columns 'video'"),
        ("t.csv", b"video\n" + b"x" * 200_000, "no table in UTF-8 that can be read"),
        ("t.csv", b"video\ncaf\xe9.mp4\n", "no table in UTF-8 that can be read"),
        ("t.csv", b"", "but none at all"),
        ("t.parquet", b"PAR1 junk PAR1", "no Parquet file that can be read"),
        ("t.parquet", b"", "no Parquet file that can be read"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    folder: Path, name: str, content: bytes, says: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        names(name)
    assert str(caught.value).startswith(name)


def test_a_store_of_which_nothing_is_known_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="in a store that cannot be reached"):
        names("nostore://x/list.txt")


def test_tables_have_a_column_of_paths(folder: Path) -> None:
    (folder / "table.csv").write_text('label,path\n1,b.mp4\n2,"deep/c.webm"\n')
    (folder / "table.tsv").write_text("mine\tlabel\nb.mp4\t1\n")
    table = pyarrow.table({"video": ["b.mp4", "a2.mkv"], "more": [1, 2]})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    assert names("table.csv") == ["b.mp4", "deep/c.webm"]
    assert names("table.tsv", column="mine") == ["b.mp4"]
    assert names("table.parquet") == ["b.mp4", "a2.mkv"]
    with pytest.raises(ValueError, match="has none of the columns video, path"):
        names("table.tsv")
    with pytest.raises(ValueError, match="has no column 'label2', but label, path"):
        names("table.csv", column="label2")


def test_members_of_webdataset_shards(folder: Path) -> None:
    with tarfile.open("shard-0001.tar", "w") as archive:
        for name, text in (("k1.mp4", "one"), ("k1.json", "{}"), ("k2.webm", "twotwo")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    found = read_corpus(["shard-0001.tar"])
    assert [item.name for item in found] == ["shard-0001.tar/k1.mp4", "shard-0001.tar/k2.webm"]
    assert [content(item) for item in found] == ["one", "twotwo"]
    whole = (folder / "shard-0001.tar").read_bytes()
    (folder / "shard-0001.tar").write_bytes(whole[: found[1].start + 2])
    with pytest.raises(OSError, match="ends before"):
        content(found[1])


def test_addresses_of_other_stores(folder: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe_file("/bucket/x/one.mp4", b"far one")
    store.pipe_file("/bucket/x/two.txt", b"")
    store.pipe_file("/bucket/list.txt", b"x/one.mp4\n")
    (far,) = read_corpus(["memory://bucket/x"])
    assert far.name == "memory://bucket/x/one.mp4"
    assert content(far) == "far one"
    (listed,) = read_corpus(["memory://bucket/list.txt"])
    assert (listed.name, content(listed)) == ("x/one.mp4", "far one")
    assert names("memory://bucket/*/*.mp4") == ["memory://bucket/x/one.mp4"]
    assert names("memory://bucket/gone*.mp4") == ["memory://bucket/gone*.mp4"]
    assert names("memory://bucket/*.txt") == ["x/one.mp4"]


@pytest.mark.parametrize(
    "name", ["https://evil.example/x.mp4", "memory://bucket/x", "zip://x.mp4::https://e/z", "a::b"]
)
def test_lists_reach_no_address_unasked(folder: Path, name: str) -> None:
    (folder / "list.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match="an address elsewhere; allow that"):
        names("list.txt")
    assert names("list.txt", remote=True) == [name]


def test_a_file_with_an_odd_name_is_never_taken_for_an_address(folder: Path) -> None:
    odd = "memory::b.mp4"
    (folder / odd).write_text("mine")
    fsspec.filesystem("memory").pipe_file("b.mp4", b"theirs")
    (item,) = read_corpus([odd])
    assert content(item) == "mine"


def test_names_go_into_tables_whatever_bytes_they_have(folder: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.mp4")
    (folder / raw).write_text("latin")
    (item,) = read_corpus([raw])
    assert item.name == "caf\\xe9.mp4"
    assert content(item) == "latin"


def test_every_video_is_one_and_has_a_name_of_its_own(folder: Path) -> None:
    assert names("b.mp4", "b.mp4", "*.mp4") == ["b.mp4"]
    (folder / "one.txt").write_text("b.mp4\n")
    (folder / "deep" / "two.txt").write_text("b.mp4\n")
    with pytest.raises(ValueError, match=r"two videos are called 'b\.mp4'"):
        names("one.txt", "deep/two.txt")


def test_a_video_in_several_spellings_is_one(folder: Path) -> None:
    whole = folder / "deep" / "c.webm"
    spelled = ["./deep/c.webm", "deep/c.webm", "deep/../deep/c.webm", str(whole), f"file://{whole}"]
    (folder / "list.txt").write_text("\n".join(spelled[:4]))
    (folder / "deep" / "here.txt").write_text("c.webm\n")
    assert names("list.txt") == ["./deep/c.webm"]
    for first in spelled:
        found = read_corpus([first, *spelled, "deep", "deep/here.txt", f"file://{folder}/deep"])
        assert [item.address for item in found] == [str(whole)]
        # (Of a path as it is given the system's own words are kept.)
        assert found[0].name == first.removeprefix("./")
    far = "memory://bucket/once.mp4"
    fsspec.filesystem("memory").pipe_file("/bucket/once.mp4", b"far")
    assert names(far, "memory://bucket", far).count(far) == 1


def test_a_shard_in_several_spellings_is_one(folder: Path) -> None:
    with tarfile.open("deep/s.tar", "w") as archive:
        for name in ("x/k.mp4", "y/k.mp4"):
            member = tarfile.TarInfo(name)
            archive.addfile(member)
        linked = tarfile.TarInfo("z/k.mp4")
        linked.type, linked.linkname = tarfile.LNKTYPE, "x/k.mp4"
        archive.addfile(linked)
    (folder / "deep" / "c.webm").unlink()
    spelled = ["deep/s.tar", "deep/./s.tar", str(folder / "deep" / "s.tar"), "deep"]
    for first in spelled[:3]:
        found = names(first, *spelled, f"file://{folder}/deep/s.tar")
        assert found == [f"{first}/{letter}/k.mp4" for letter in "xyz"]


@pytest.mark.parametrize("name", ["s.tar", "l.txt", "t.csv", "t.tsv", "t.parquet"])
def test_a_pipe_keeps_nobody_waiting(folder: Path, name: str) -> None:
    os.mkfifo(folder / "deep" / name)
    for given in (f"deep/{name}", f"file://{folder}/deep/{name}", f"deep/*{name}"):
        with pytest.raises(ValueError, match=rf"{name} is no regular file"):
            names(given)
    for given in ("deep", f"file://{folder}/deep"):
        told: list[str] = []
        assert names(given, tell=told.append) == [f"{given}/c.webm"]
        passed = [f"{given}/s.tar is no regular file, and passed over"]
        assert told == (passed if name == "s.tar" else [])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("list.txt", "# nothing\n", "names no video"),
        ("table.csv", "path\n", "names no video"),
        ("shard.tar", "no tar", "no tar file"),
    ],
)
def test_what_holds_nothing_is_said(folder: Path, name: str, text: str, says: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        names(name)
    with pytest.raises(FileNotFoundError):
        names(f"gone-{name}")
    with pytest.raises(ValueError, match="no video is given"):
        names()


def test_patterns_of_lists_and_shards(folder: Path) -> None:
    (folder / "a1.txt").write_text("b.mp4\n")
    (folder / "a2.txt").write_text("a2.mkv\n")
    assert names("a*.txt") == ["b.mp4", "a2.mkv"]
    with pytest.raises(FileNotFoundError):
        names("z*.txt")


def test_lists_name_stores_that_are_known(folder: Path) -> None:
    (folder / "list.txt").write_text("nostore://x.mp4\n")
    with pytest.raises(ValueError, match="no store is known by 'nostore'"):
        names("list.txt", remote=True)


def test_a_column_of_numbers_holds_no_paths(folder: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"video": [1, 2]}), folder / "t.parquet")
    with pytest.raises(ValueError, match="column 'video' holds 1, which is no path"):
        names("t.parquet")


def test_what_a_store_raises_is_an_error_of_the_video(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", (0.0, 0.0))
    tries: list[str] = []

    class Odd(Exception):
        pass

    def failing(address: str) -> object:
        tries.append(address)
        raise Odd("403")

    monkeypatch.setattr(module, "opened", failing)
    with pytest.raises(OSError, match="Odd: 403"):
        content(Item("x.mp4", "s3://bucket/x.mp4"))
    assert len(tries) == 3
