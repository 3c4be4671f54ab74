"""WebDataset shards: every video in them or a refusal, and never a part in silence."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow.parquet
import pytest

from vidprune.cli import main
from vidprune.corpus import items
from vidprune.corpus.fetching import local_file
from vidprune.corpus.items import read_corpus

Make = Callable[[tarfile.TarFile], None]
CONTENT = {"0/a.mp4": b"first" * 200, "0/a.txt": b"words", "0/b.mp4": b"second" * 300}


def add(archive: tarfile.TarFile, name: str, content: bytes = b"", **said: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in said.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in CONTENT.items():
            add(archive, name, content)
    return path


def header_of(path: Path, name: str) -> int:
    with tarfile.open(path) as archive:
        return archive.getmember(name).offset


def test_videos_are_where_they_are_said_to_be(shard: Path) -> None:
    found = read_corpus([str(shard)])
    assert [item.name for item in found] == [f"{shard}/0/a.mp4", f"{shard}/0/b.mp4"]
    for item, name in zip(found, ("0/a.mp4", "0/b.mp4"), strict=True):
        with local_file(item) as path:
            assert path.read_bytes() == CONTENT[name]


@pytest.mark.parametrize("name", ["0/a.txt", "0/b.mp4"])
def test_a_damaged_header_is_not_the_end(shard: Path, name: str) -> None:
    place = header_of(shard, name)
    content = bytearray(shard.read_bytes())
    content[place + 100 : place + 400] = b"\xff" * 300
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged at byte {place}"):
        read_corpus([str(shard)])


@pytest.mark.parametrize("beyond", [0, 300, 512, 700])
def test_what_is_cut_off_is_not_whole(shard: Path, beyond: int) -> None:
    """In a header, in a member, and where one would begin."""
    content = shard.read_bytes()
    shard.write_bytes(content[: header_of(shard, "0/b.mp4") + beyond])
    with pytest.raises(ValueError, match=r"damaged at byte|cut short|no tar file"):
        read_corpus([str(shard)])


@pytest.mark.parametrize("apart", [0, 512, 3 * 2**20])
def test_what_is_behind_the_end_is_not_lost_in_silence(shard: Path, apart: int) -> None:
    whole = shard.read_bytes()
    shard.write_bytes(whole + bytes(apart))
    assert len(read_corpus([str(shard)])) == 2
    shard.write_bytes(whole + bytes(apart) + whole)
    with pytest.raises(ValueError, match=f"goes on at byte {len(whole) + apart}, behind the end"):
        read_corpus([str(shard)])


def test_a_member_that_is_there_twice_takes_its_shard_alone(tmp_path: Path, shard: Path) -> None:
    double = tmp_path / "double.tar"
    with tarfile.open(double, "w") as archive:
        for content in (b"one", b"another"):
            add(archive, "a.mp4", content)
            add(archive, "a.txt", content)
    found = {Path(item.name).name: item.error for item in read_corpus([str(tmp_path)])}
    assert list(found) == ["double.tar", "a.mp4", "b.mp4"]
    assert f"{double} holds 'a.mp4' twice" in (found["double.tar"] or "")
    with pytest.raises(ValueError, match=r"double\.tar holds 'a\.mp4' twice"):
        read_corpus([str(double)])


def test_a_hard_link_is_what_it_links_to(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a.mp4", b"content")
        add(archive, "again.mp4", type=tarfile.LNKTYPE, linkname="a.mp4")
    first, second = read_corpus([str(path)])
    with local_file(first) as a, local_file(second) as b:
        assert a.read_bytes() == b.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "a.mp4"}, "as a link or with holes"),
        ({"type": tarfile.LNKTYPE, "linkname": "gone.mp4"}, "as a link or with holes"),
    ],
)
def test_a_video_that_is_no_plain_file_is_refused(
    tmp_path: Path, said: dict[str, object], says: str
) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a.mp4", b"content")
        add(archive, "odd.mp4", **said)
    with pytest.raises(ValueError, match=says):
        read_corpus([str(path)])


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "shard.tar"
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 3 * 2**30
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + 3 * 2**30)
    with pytest.raises(ValueError, match="a name of 3221225472 bytes"):
        read_corpus([str(path)])


def test_a_size_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    header = tarfile.TarInfo("a.mp4")
    header.size = 2**60
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(ValueError, match=r"shard\.tar (is cut short|is no tar file)"):
        read_corpus([str(path)])


def test_shards_in_a_folder_are_read_and_others_passed_over(tmp_path: Path, shard: Path) -> None:
    (tmp_path / "beside.mp4").write_bytes(b"content")
    with tarfile.open(tmp_path / "words.tar", "w") as archive:
        add(archive, "words.txt", b"words")
    found = [Path(item.name).name for item in read_corpus([str(tmp_path)])]
    assert found == ["beside.mp4", "a.mp4", "b.mp4"]


def test_a_damaged_shard_among_others_is_one_row_and_the_rest_goes_on(
    tmp_path: Path, shard: Path
) -> None:
    (tmp_path / "z.mp4").write_bytes(b"content")
    cut, odd, closed = tmp_path / "cut.tar", tmp_path / "odd.tar", tmp_path / "gone.tar"
    cut.write_bytes(shard.read_bytes()[: header_of(shard, "0/b.mp4") + 300])
    with tarfile.open(odd, "w") as archive:
        add(archive, "a.mp4", b"content")
        add(archive, "b.mp4", type=tarfile.SYMTYPE, linkname="a.mp4")
    closed.symlink_to(tmp_path / "nowhere")
    found = read_corpus([str(tmp_path)])
    assert found == read_corpus([str(tmp_path)]), "the same over restarts"
    told = {item.name.removeprefix(f"{tmp_path}/"): item.error for item in found}
    assert list(told) == [
        *("z.mp4", "cut.tar", "gone.tar", "odd.tar", "shard.tar/0/a.mp4", "shard.tar/0/b.mp4"),
    ]
    assert [name for name, error in told.items() if error] == ["cut.tar", "gone.tar", "odd.tar"]
    assert "cut.tar" in (told["cut.tar"] or "")
    assert "as a link or with holes" in (told["odd.tar"] or "")
    assert told["gone.tar"] == "it cannot be opened (No such file or directory)"
    for named in (cut, odd):
        with pytest.raises(ValueError, match=named.name):
            read_corpus([str(named)])


def test_a_damaged_shard_has_its_row_in_the_table(tmp_path: Path, shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:700])
    words = ["predict", str(tmp_path), "--model", "demo", "--workers", "0"]
    for _ in range(2):
        assert main([*words, "--output", str(tmp_path.parent / "answers")]) == 1
        (row,) = pyarrow.parquet.read_table(tmp_path.parent / "answers").to_pylist()
        assert row["video"] == str(shard)
        assert row["error"].startswith(f"{shard} is ")
        assert row["labels"] is None


def test_what_cannot_be_read_for_the_moment_is_no_damage(
    tmp_path: Path, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job without the videos in it would be another one."""

    class Away(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("no answer")

    monkeypatch.setattr(items, "opened", lambda address: Away(shard.read_bytes()))
    with pytest.raises(ValueError, match=r"shard\.tar cannot be read now \(no answer\)"):
        read_corpus([str(tmp_path)])


def test_a_folder_of_nothing_but_shards_is_no_video(tmp_path: Path, shard: Path) -> None:
    assert len(read_corpus([str(tmp_path)])) == 2


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_dot_files_and_folders_called_like_shards_are_passed_over(
    tmp_path: Path, shard: Path, scheme: str
) -> None:
    (tmp_path / "folder.tar").mkdir()
    for name in ("._shard.tar", ".b.mp4", "folder.tar/c.mp4", "folder.tar/._c.mp4"):
        (tmp_path / name).write_bytes(b"what another system left")
    given = f"{scheme}{tmp_path}"
    if scheme:
        fsspec.filesystem("memory").put(f"{tmp_path}/", f"{tmp_path}/", recursive=True)
    found = [item.name.removeprefix(given) for item in read_corpus([given])]
    assert sorted(found) == ["/folder.tar/c.mp4", "/shard.tar/0/a.mp4", "/shard.tar/0/b.mp4"]


def test_a_folder_may_be_called_like_a_shard(tmp_path: Path) -> None:
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "folder.tar" / "a.mp4").write_bytes(b"content")
    (item,) = read_corpus([str(tmp_path / "folder.tar")])
    assert item.name.endswith("folder.tar/a.mp4")
