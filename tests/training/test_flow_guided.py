"""The recipe that tells tokens how they move: what it measures, what it shows, what it hands on."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vidprune
from vidprune.demo.clips import write_clips

pytest.importorskip("accelerate")
pytest.importorskip("cv2")
FOLDER = Path(__file__).parents[2] / "recipes" / "flow_guided"


@pytest.fixture(scope="module")
def recipe() -> dict:
    sys.path.insert(0, str(FOLDER))
    try:
        return runpy.run_path(str(FOLDER / "train.py"))
    finally:
        sys.path.remove(str(FOLDER))


def run(recipe: dict, *options: str) -> None:
    before = sys.argv
    sys.argv = ["train.py", *options, "--workers", "0", "--size", "32"]
    try:
        recipe["main"]()
    finally:
        sys.argv = before


def textured(shift: int) -> np.ndarray:
    """A random texture that moves by so many pixels to the right from frame to frame."""
    noise = np.random.default_rng(0).normal(size=(1, 3, 96, 160))
    for _ in range(3):
        noise = (noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3) + np.roll(noise, -1, 2)) / 4
    texture = np.clip(128 + 200 * noise, 0, 255).astype(np.uint8)
    frames = [texture[0, :, :64, 40 - shift * k : 104 - shift * k] for k in range(4)]
    return np.stack(frames)


@pytest.mark.parametrize("shift", [-2, 0, 3])
def test_flow_is_in_pixels_per_frame_with_x_before_y(recipe: dict, shift: int) -> None:
    flow = recipe["flow_of"](textured(shift)).astype(np.float32)
    assert flow.shape == (2, 64, 64, 2)
    inner = flow[:, 12:-12, 12:-12].reshape(-1, 2)
    assert np.abs(np.median(inner, 0) - (shift, 0)).max() < 0.2


def test_a_token_is_told_the_mean_of_its_own_patch(recipe: dict) -> None:
    flow = torch.zeros(1, 2, 16, 24, 2)
    flow[0, 1, 8:, 16:] = torch.tensor([3.0, -1.0])
    told = recipe["patch_means"](flow, 8)
    assert told.shape == (1, 2 * 2 * 3, 2)
    expected = torch.zeros(12, 2)
    expected[6 + 3 + 2] = torch.tensor([3.0, -1.0])
    assert torch.equal(told[0], expected)


def test_the_same_places_are_shown_in_every_frame(recipe: dict) -> None:
    torch.manual_seed(0)
    kept = recipe["shown"](5, 4, 30, 7).view(5, 4, 7)
    places = kept - 30 * torch.arange(4)[:, None]
    assert (places == places[:, :1]).all()
    assert ((places >= 0) & (places < 30)).all()
    assert all(len(set(row.tolist())) == 7 for row in places[:, 0])
    assert len({tuple(row.tolist()) for row in places[:, 0]}) > 1


def test_all_tokens_shown_is_the_model_itself(recipe: dict) -> None:
    model = vidprune.load("demo", size=32)
    guided = recipe["Guided"](model).eval()
    pixels = torch.randn(2, 16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, flow, parts = guided(pixels, torch.arange(8 * 16).expand(2, -1))
        torch.testing.assert_close(logits, model(pixels).logits, rtol=1e-5, atol=1e-5)
    assert flow.shape == (2, 128, 2)
    assert [part.shape for part in parts] == [(2, 128, 12)] * 2


def test_tokens_that_move_apart_count_most(recipe: dict) -> None:
    flow = torch.zeros(1, 4, 2)
    flow[0, 3] = torch.tensor([5.0, 0.0])
    targets = torch.tensor([[1.0, 0.0]])
    told = torch.zeros(1, 4, 2)
    wrong_behind, wrong_in_front = told.clone(), told.clone()
    wrong_behind[0, 0] = torch.tensor([-4.0, 4.0])
    wrong_in_front[0, 3] = torch.tensor([-4.0, 4.0])
    error = recipe["parts_error"]
    assert error(wrong_in_front, targets, flow) > 2 * error(wrong_behind, targets, flow)


@pytest.mark.slow
def test_it_learns_goes_on_and_hands_its_model_on(
    recipe: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clips(tmp_path / "clips", per_class=1, seed=5)
    (tmp_path / "clips" / "test.csv").rename(tmp_path / "clips" / "train.csv")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    with (tmp_path / "clips" / "train.csv").open("a") as file:
        file.write("broken.mp4 3\n")
    (tmp_path / "names.txt").write_text("\n".join(f"motion {k}" for k in range(12)) + "\n")
    options = ("--model", "demo", "--data", str(tmp_path / "clips"), "--batch-size", "6")
    options += ("--labels", str(tmp_path / "names.txt"), "--places", "8", "--operations", "0")
    options += ("--repeats", "1", "--learning-rate", "3e-3", "--epochs", "24")

    run(recipe, *options, "--output", str(tmp_path / "whole"))
    lines = list(map(json.loads, (tmp_path / "whole" / "log.jsonl").read_text().splitlines()))
    found = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(found[-3:]) < 0.8 * found[0]
    whole = vidprune.load(tmp_path / "whole" / "model")
    assert whole.config.id2label[3] == "motion 3"
    assert whole.config.image_size == 32
    assert len((tmp_path / "whole" / "videos.txt").read_text().splitlines()) == 13

    # What is finished is left as it is.
    kept = (tmp_path / "whole" / "log.jsonl").read_text()
    run(recipe, *options, "--output", str(tmp_path / "whole"))
    assert (tmp_path / "whole" / "log.jsonl").read_text() == kept
    assert "whole is finished" in capsys.readouterr().out

    # Nothing goes on from what other videos taught, and no list says other than what was seen.
    listed = (tmp_path / "whole" / "videos.txt").read_text()
    lines = (tmp_path / "clips" / "train.csv").read_text().splitlines()[:4]
    (tmp_path / "clips" / "other.csv").write_text("\n".join(lines))
    others = [str(tmp_path / "clips" / "other.csv") if o == options[3] else o for o in options]
    with pytest.raises(SystemExit):
        run(recipe, *others, "--output", str(tmp_path / "whole"))
    assert "another run" in capsys.readouterr().err
    assert (tmp_path / "whole" / "videos.txt").read_text() == listed

    # Cut off in the middle, it ends with the very weights.
    def fall(*_: object) -> None:
        raise KeyboardInterrupt

    trainer = recipe["GuidedTrainer"]
    weight = trainer.guidance_weight

    def cut(self: object) -> float:
        return fall() if self.state.global_step == 21 else weight(self)

    trainer.guidance_weight = cut
    try:
        with pytest.raises(KeyboardInterrupt):
            run(recipe, *options, "--output", str(tmp_path / "parts"))
    finally:
        trainer.guidance_weight = weight
    assert list((tmp_path / "parts").glob("checkpoint-*"))
    run(recipe, *options, "--output", str(tmp_path / "parts"))
    again = vidprune.load(tmp_path / "parts" / "model").state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(
    ("model", "names", "sentence"),
    [
        ("swin3d_t", 12, "takes a VideoMAE of at least three blocks"),
        ("demo", 3, "is outside the head's 3 classes"),
        ("nowhere", 12, "nowhere"),
    ],
)
def test_refusals_are_sentences(
    recipe: dict,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    names: int,
    sentence: str,
) -> None:
    # The hub would be asked again and again, where there is no network.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "train.csv").write_text("a.mp4 3\nb.mp4 11\n")
    (tmp_path / "names.txt").write_text("\n".join(f"motion {k}" for k in range(names)) + "\n")
    given = ["--model", model, "--data", str(tmp_path), "--labels", str(tmp_path / "names.txt")]
    with pytest.raises(SystemExit):
        run(recipe, *given, "--output", str(tmp_path / "run"))
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
