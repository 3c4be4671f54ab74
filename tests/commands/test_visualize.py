"""`vidprune visualize`: every file that it promises, and the figures behind them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tiny_checkpoints import tiny
from tiny_job import drifting_images, one_thread, write_video
from vidprune import cli, load, prune, read_clip
from vidprune.commands.visualize import FORMATS, Wish, visualize
from vidprune.demo.clips import write_clips
from vidprune.inference import clip_key
from vidprune.insight.gradnorm import gradnorm
from vidprune.insight.look import look
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.video import read_views


@pytest.fixture(scope="module", autouse=True)
def small_models_do_not_gain_from_threads() -> Iterator[None]:
    with one_thread():
        yield


SPECS = ("sta:r=32", "random:r=32", "tome:r=71")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=5)
    return folder


@pytest.fixture(scope="module")
def looked(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over one clip."""
    output = tmp_path_factory.mktemp("looked")
    command = ["visualize", str(clips / "growing" / "000.mp4"), "--model", "demo", "--scores"]
    options = ["--reducer", *SPECS, "--output", str(output), "--workers", "0"]
    assert cli.main([*command, *options]) == 0
    return output


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "looks.json").read_text(encoding="utf-8"))
    return found


def test_every_file_is_there_and_can_be_opened(looked: Path) -> None:
    names = {path.name for path in looked.iterdir()}
    curves = {"trajectory.png", "trajectory.svg"}
    assert names == {"000.png", "000.mp4", "000.gif", "index.html", "looks.json"} | curves
    # The clip and GradNorm; three stages of STA, each with three scores; three of random; ToMe's
    # twelve.
    assert Image.open(looked / "000.png").height > (2 + 12 + 3 + 12) * 160
    with av.open(str(looked / "000.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 16
    assert Image.open(looked / "000.gif").n_frames == 16
    # Its first panel is the clip.
    own = load("demo")
    seen = read_clip_pixels(looked, own)
    panel = frames[0][10 + 48 : 10 + 48 + 224, 10 : 10 + 224].astype(float)
    assert abs(panel - seen).mean() < 6


def read_clip_pixels(looked: Path, model: Any) -> np.ndarray:
    """The first frame that the model saw, as large as in the film."""
    from vidprune.video import read_views

    path = Path(record_of(looked)["command"].split()[2])
    frame = read_views(path, protocol_for(model, ViewOptions())).pixels[0, 0].permute(1, 2, 0)
    picture = Image.fromarray(frame.numpy()).resize((224, 224), Image.Resampling.LANCZOS)
    return np.asarray(picture).astype(float)


def test_the_figures_are_those_of_the_models(looked: Path) -> None:
    found = record_of(looked)
    path = found["command"].split()[2]
    model = load("demo")
    pixels = read_clip(path, model)
    keys = torch.tensor([clip_key(path, 0)])
    norm = gradnorm(model, pixels).values[0]
    assert [row["reducer"] for row in found["rows"]] == ["none", *SPECS]
    for row, spec in zip(found["rows"][1:], SPECS, strict=True):
        with torch.no_grad():
            trace = prune(model, spec)(pixels, clip_keys=keys, return_trace=True).trace
        for stage, origin in zip(row["stages"], trace.origin, strict=True):
            held = 100 * norm[origin[0]].sum() / norm.sum()
            assert stage["gradnorm"]["value"] == pytest.approx(held.item(), rel=1e-4)
            assert stage["at_random"] == pytest.approx(100 * origin.shape[1] / 512)
            assert stage["tokens"] == origin.shape[1]
    assert found["seconds_per_clip"] > 0
    assert len(found["rows"][0]["trajectory"]) == 12
    assert not found["rows"][0]["stages"]


def test_broken_and_like_named_clips(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    videos = [clips / "growing" / "000.mp4", tmp_path / "broken.mp4", clips / "parting/000.mp4"]
    command = ["visualize", *map(str, videos), "--model", "demo", "--reducer", "random:r=8"]
    options = ["--output", str(tmp_path / "out"), "--formats", "png", "--workers", "0"]
    assert cli.main([*command, *options]) == cli.FAILURE
    assert "broken.mp4" in capsys.readouterr().err
    found = record_of(tmp_path / "out")
    assert found["num_clips"] == 2
    assert [Path(each["path"]).name for each in found["unreadable"]] == ["broken.mp4"]
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {"growing-000.png", "parting-000.png"} <= pictures
    assert not (tmp_path / "out" / "index.html").exists()


def test_what_is_looked_at_is_never_overwritten(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "trajectory.mp4"
    video.write_bytes((clips / "growing/000.mp4").read_bytes())
    command = ["visualize", str(video), "--model", "demo", "--reducer", "none", "--workers", "0"]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 0
    # Named apart from the curves, which have that name.
    assert {"trajectory-2.png", "trajectory.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    own = tmp_path / "own" / "clip.mp4"
    own.parent.mkdir()
    own.write_bytes(video.read_bytes())
    command[1] = str(own)
    assert cli.main([*command, "--output", str(own.parent)]) == cli.USAGE
    assert "holds clip.mp4, which is looked at and would be overwritten" in capsys.readouterr().err
    assert own.read_bytes() == video.read_bytes()
    assert list(own.parent.iterdir()) == [own]


def test_what_is_cut_off_leaves_the_former_file_whole(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["visualize", str(clips / "growing/000.mp4"), "--model", "demo", "--reducer", "none"]
    options = ["--output", str(tmp_path), "--formats", "gif", "--workers", "0"]
    assert cli.main([*command, *options]) == 0
    before = (tmp_path / "000.gif").read_bytes()

    def half(frames: np.ndarray, path: Path) -> None:
        path.write_bytes(b"GIF89a")
        raise OSError("no space is left")

    monkeypatch.setattr("vidprune.commands.visualize.write_gif", half)
    assert cli.main([*command, *options]) == cli.FAILURE
    assert (tmp_path / "000.gif").read_bytes() == before


def test_nothing_readable_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    command = ["visualize", str(tmp_path / "broken.mp4"), "--model", "demo"]
    options = ["--reducer", "sta:r=8", "--output", str(tmp_path / "out"), "--workers", "0"]
    assert cli.main([*command, *options]) == cli.FAILURE


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--view", "7"], "view=7 must be one of the protocol's views, 0 to 0"),
        (["--label", "dancing"], "label='dancing' is no class of the model; give the name of one"),
        (["--label", "99"], "label='99' is no class of the model"),
        (["--formats", "bmp"], "argument --formats: invalid choice: 'bmp'"),
    ],
)
def test_wrong_options_get_a_sentence(
    clips: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["visualize", str(clips / "growing/000.mp4"), "--model", "demo", "--reducer", "none"]
    try:
        status = cli.main([*command, "--output", str(tmp_path / "out"), *options])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == cli.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_class_can_be_named(clips: Path, tmp_path: Path) -> None:
    command = ["visualize", str(clips / "growing/000.mp4"), "--model", "demo", "--reducer", "none"]
    options = ["--output", str(tmp_path), "--label", "shrinking", "--formats", "html"]
    assert cli.main([*command, *options, "--workers", "0"]) == 0
    assert '"gradnormOf": "shrinking"' in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_logits_that_are_not_finite_are_nobody_s_class(clips: Path, tmp_path: Path) -> None:
    model = tiny("videomae")
    model.classifier.weight.data.fill_(float("nan"))
    models = [prune(model, None), prune(model, "grid:r=1,blocks=0/")]
    found = visualize(
        models,
        protocol_for(model, ViewOptions()),
        [clips / "growing/000.mp4"],
        output=tmp_path,
        wish=Wish(formats=("png", "html")),
        checkpoint="broken",
        workers=0,
    )
    assert found.rows[1].same_class is None
    assert "NaN" not in (tmp_path / "looks.json").read_text(encoding="utf-8")
    assert (tmp_path / "index.html").exists()


def test_what_depends_on_the_clip_costs_so_much_at_most(clips: Path) -> None:
    model = load("demo")
    pixels = read_views(clips / "growing/000.mp4", protocol_for(model, ViewOptions())).pixels[0]
    models = [prune(model, spec) for spec in (None, "run-length:threshold=0.1", "random:r=8")]
    found = look(models, pixels, video="clip", clip_key=0, repeats=1)
    assert [each.at_most for each in found.looks] == [False, True, False]


@pytest.mark.parametrize("name", ["vjepa2", "videoswin", "timesformer", "vivit"])
@pytest.mark.parametrize("head", [True, False])
def test_every_family_is_drawn_with_a_head_and_without(
    name: str, head: bool, tmp_path: Path
) -> None:
    model = tiny(name, head=head)
    spec = "grid:r=4" if name == "videoswin" else "grid:r=1,blocks=0/"
    write_video(tmp_path / "clip.mp4", drifting_images(0))
    models = [prune(model, None), prune(model, spec)]
    found = visualize(
        models,
        protocol_for(model, ViewOptions()),
        [tmp_path / "clip.mp4"],
        output=tmp_path / "out",
        wish=Wish(scores=True),
        checkpoint=name,
        workers=0,
    )
    assert found.rows[1].stages
    assert (found.rows[1].stages[0].gradnorm is not None) == head
    assert (found.rows[1].same_class is not None) == head
    assert {path.suffix[1:] for path in (tmp_path / "out").iterdir()} >= set(FORMATS)


ODD = (
    "odd_321x241_vp9__torchcodec.mp4",
    "one_frame_64x64_mpeg4__torchcodec.mp4",
    "rotated90_h264__torchcodec.mp4",
    "k400_YABnJL_bDzw__vtp.mp4",
)


@pytest.mark.parametrize("name", ODD)
def test_real_clips_are_drawn(shared: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    command = ["visualize", str(shared(f"clips/{name}")), "--model", "demo", "--scores"]
    options = ["--reducer", "sta:r=16,fold=true", "--output", str(tmp_path), "--workers", "0"]
    assert cli.main([*command, *options]) == 0
    assert list(tmp_path.glob("*.gif"))
