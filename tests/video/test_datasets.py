"""Lists of labelled videos, class folders, and the inputs of a command line."""

import re
from pathlib import Path

import pytest

from vidprune.video.datasets import (
    Sample,
    class_names,
    expand_inputs,
    read_class_folders,
    read_dataset,
    read_list,
)


def list_file(folder, content, name="test.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


# --- list files ---


def test_a_list_is_read_in_order_with_paths_from_its_folder(tmp_path):
    path = list_file(tmp_path, "b.mp4 3\nsub/a.mp4 0\n/data/c.mp4 12\n../d.mp4 1\n")
    assert read_list(path) == (
        Sample(tmp_path / "b.mp4", 3, "b.mp4"),
        Sample(tmp_path / "sub/a.mp4", 0, "sub/a.mp4"),
        Sample(Path("/data/c.mp4"), 12, "/data/c.mp4"),
        Sample(tmp_path / "../d.mp4", 1, "../d.mp4"),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"my clip (1).mp4 7\n",
        b"my clip (1).mp4 7",
        b"\xef\xbb\xbfmy clip (1).mp4 7\r\n\r\n",
        b"# path label\n\n   \nmy clip (1).mp4 7\n#end",
        b"  my clip (1).mp4   7  \n",
        b"my clip (1).mp4\t7\n",
        b"my clip (1).mp4 007\n",
    ],
)
def test_spaces_comments_blank_lines_and_line_ends(tmp_path, content):
    (sample,) = read_list(list_file(tmp_path, content))
    assert sample == Sample(tmp_path / "my clip (1).mp4", 7, "my clip (1).mp4")


def test_names_in_other_scripts(tmp_path):
    (sample,) = read_list(list_file(tmp_path, "видео\u2028é.mp4 1\n"))
    assert sample.name == "видео\u2028é.mp4"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("clip.mp4", "'clip.mp4' has no label; write `path label`"),
        ("17", "'17' has no label"),
        ("clip.mp4 dog", "the label is 'dog', but must be a whole number of 0 or more"),
        ("clip.mp4 -1", "the label is '-1', but must be a whole number of 0 or more"),
        ("clip.mp4 1.5", "the label is '1.5', but"),
        ("clip.mp4 1_0", "the label is '1_0', but"),
        ("clip.mp4 ²", "the label is '²', but"),
        ("clip.mp4,3 ", "has no label"),
        ("clip one.mp4", "the label is 'one.mp4', but"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, complaint):
    path = list_file(tmp_path, f"# first\ngood.mp4 0\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        read_list(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_a_video_listed_twice_is_one_video(tmp_path):
    samples = read_list(list_file(tmp_path, "a.mp4 1\nb.mp4 2\na.mp4 1\n"))
    assert [sample.name for sample in samples] == ["a.mp4", "b.mp4"]


def test_a_video_with_two_labels_is_an_error(tmp_path):
    path = list_file(tmp_path, "a.mp4 1\nb.mp4 2\n\na.mp4 3\n")
    with pytest.raises(ValueError, match=r"line 4: 'a.mp4' has label 3, but line 1 gives it 1;"):
        read_list(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing\n"])
def test_an_empty_list_is_an_error(tmp_path, content):
    with pytest.raises(ValueError, match="no video is listed; write one `path label` per line"):
        read_list(list_file(tmp_path, content))


def test_a_list_in_another_encoding_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="byte 1 is not UTF-8"):
        read_list(list_file(tmp_path, b"a\xe9.mp4 1\n"))


def test_a_video_is_no_list(tmp_path):
    with pytest.raises(ValueError, match=r"clip\.mp4 is a video, and labelled"):
        read_list(tmp_path / "clip.mp4")


def test_a_real_list(shared):
    samples = read_list(shared("jhmdb/split1/test.csv"))
    assert len(samples) == 268
    assert {sample.label for sample in samples} == set(range(21))
    assert all(sample.path.is_file() for sample in samples)


# --- folders ---


def test_class_folders_are_labelled_in_sorted_order(tmp_path):
    touch(tmp_path, "walk/b10.mp4", "walk/b2.MP4", "Run/deep/er/a.webm", "walk/notes.txt")
    touch(tmp_path, "walk/.hidden.mp4", ".git/x.mp4", "stray.mp4", "empty/.keep")
    assert class_names(tmp_path) == ("Run", "empty", "walk")
    assert [(s.name, s.label) for s in read_class_folders(tmp_path)] == [
        ("Run/deep/er/a.webm", 0),
        ("walk/b2.MP4", 2),
        ("walk/b10.mp4", 2),
    ]


def test_a_folder_without_videos_is_an_error(tmp_path):
    touch(tmp_path, "walk/notes.txt")
    with pytest.raises(ValueError, match="no class folder with videos in it; give a list file"):
        read_class_folders(tmp_path)


def test_a_dataset_is_a_list_a_folder_with_a_list_or_class_folders(tmp_path):
    touch(tmp_path, "walk/a.mp4")
    assert [sample.name for sample in read_dataset(tmp_path)] == ["walk/a.mp4"]
    listed = list_file(tmp_path, "walk/a.mp4 5\n")
    list_file(tmp_path, "walk/a.mp4 6\n", "val.csv")
    assert [sample.label for sample in read_dataset(tmp_path)] == [5]
    assert [sample.label for sample in read_dataset(tmp_path, split="val")] == [6]
    assert read_dataset(listed) == read_dataset(tmp_path)


def test_a_dataset_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data is .*, but there is no such file or folder"):
        read_dataset(tmp_path / "nowhere")


def test_real_class_folders_agree_with_their_labels(shared):
    names = shared("jhmdb/labels.txt").read_text().split()
    assert list(class_names(shared("jhmdb/clips"))) == names
    samples = read_class_folders(shared("jhmdb/clips"))
    assert len(samples) == 928
    assert all(sample.path.parent.name == names[sample.label] for sample in samples)


# --- inputs of a command line ---


def test_files_folders_and_patterns_expand_in_order(tmp_path):
    touch(tmp_path, "d/v10.mp4", "d/v9.mp4", "d/sub/v1.avi", "d/readme.txt", "e/x.mp4")
    d, e = tmp_path / "d", tmp_path / "e"
    expanded = expand_inputs([e / "x.mp4", d, str(d / "*.mp4"), str(tmp_path / "**" / "x.*")])
    in_folder = (d / "v9.mp4", d / "v10.mp4")
    assert expanded == (e / "x.mp4", d / "sub/v1.avi", *in_folder, *in_folder, e / "x.mp4")


def test_a_pattern_that_matches_folders_stands_for_what_is_in_them(tmp_path):
    touch(tmp_path, "class2/b.mp4", "class10/a.mp4", "class3/notes.txt")
    assert expand_inputs([tmp_path / "class*"]) == (
        tmp_path / "class2/b.mp4",
        tmp_path / "class3",
        tmp_path / "class10/a.mp4",
    )


def test_nothing_is_lost(tmp_path):
    touch(tmp_path, "empty/notes.txt", "a.mp4")
    missing, pattern, empty = tmp_path / "no.mp4", tmp_path / "no*.mp4", tmp_path / "empty"
    inputs = [missing, pattern, empty, tmp_path / "a.mp4"]
    assert expand_inputs(inputs) == tuple(inputs)


def test_a_file_that_is_no_video_by_name_is_kept_when_named(tmp_path):
    touch(tmp_path, "clip", "notes.txt")
    inputs = (tmp_path / "clip", tmp_path / "notes.txt")
    assert expand_inputs(inputs) == inputs


def test_names_that_look_like_patterns(tmp_path):
    touch(tmp_path, "[ab]/c?.mp4", "a/c1.mp4")
    literal = tmp_path / "[ab]" / "c?.mp4"
    assert expand_inputs([literal]) == (literal,)
    assert expand_inputs([tmp_path / "[ab]"]) == (literal,)


def test_a_dangling_link_is_kept(tmp_path):
    link = tmp_path / "link.mp4"
    link.symlink_to(tmp_path / "gone.mp4")
    assert expand_inputs([link]) == (link,)


def test_a_list_of_zero_bytes_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("a.mp4 0\n", encoding="utf-16-le")
    with pytest.raises(ValueError, match=r"test\.csv holds zero bytes.*save it in UTF-8"):
        read_list(tmp_path / "test.csv")
