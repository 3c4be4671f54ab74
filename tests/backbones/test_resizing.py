"""Other clips than a checkpoint was trained on, in every family."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_checkpoints import CONFIGS, answer, clip_for, settled, tiny
from vidprune.backbones.checkpoints import load
from vidprune.backbones.positions import interpolated_table
from vidprune.backbones.resizing import LEARNED, resized, stretch
from vidprune.layout import TokenGrid


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("head", [True, False])
def test_other_clips_run_and_outlive_saving(tmp_path: Path, family: str, head: bool) -> None:
    tiny(family, head=head).save_pretrained(tmp_path)
    size = 4 if family == "videoswin" else 64
    model = settled(load(tmp_path, frames=4, size=size))
    pixels = clip_for(model)
    assert pixels.shape == (1, 4, 3, size, size)
    wanted = answer(model, pixels)
    model.save_pretrained(tmp_path / "resized")
    assert torch.equal(answer(settled(load(tmp_path / "resized")), pixels), wanted)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_own_size_changes_nothing(tmp_path: Path, family: str) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    pixels = clip_for(model)
    loaded = settled(load(tmp_path, frames=pixels.shape[1], size=pixels.shape[3]))
    assert torch.equal(answer(loaded, pixels), answer(model, pixels))


@pytest.mark.parametrize("family", LEARNED)
def test_only_tables_of_positions_change(family: str) -> None:
    model = tiny(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stretch(model, frames=16, size=2 * clip_for(model).shape[3])
    after = model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if before[name].shape != after[name].shape}
    assert changed
    assert all("position_embeddings" in name or "time_embeddings" in name for name in changed)
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - changed)


@pytest.mark.parametrize(("family", "frames"), [("vivit", 8), ("timesformer", 1)])
def test_the_class_tokens_row_stays_and_the_others_are_stretched(family: str, frames: int) -> None:
    model, other = tiny(family), tiny(family)
    stretch(other, frames=16, size=64)
    old, new = (m.base_model.embeddings.position_embeddings for m in (model, other))
    assert torch.equal(new[:, :1], old[:, :1])
    source = TokenGrid(frames=max(frames // 2, 1), rows=2, columns=2)
    target = TokenGrid(frames=frames, rows=4, columns=4)
    assert torch.equal(new[:, 1:], interpolated_table(old[:, 1:], source=source, target=target))


@pytest.mark.parametrize("family", LEARNED)
def test_places_and_times_are_stretched_apart(family: str) -> None:
    # Rows that do not depend on the time stay those of their places, whatever the frame count.
    model = tiny(family)
    pixels = clip_for(model)
    longer = tiny(family)
    stretch(longer, frames=16)
    module = LEARNED[family][0].module
    old, new = (getattr(m.base_model, module).position_embeddings for m in (model, longer))
    if family == "vivit":
        places = old[:, 1:].unflatten(1, (4, 4))
        assert torch.allclose(new[:, 1:].unflatten(1, (8, 4))[:, 0], places[:, 0])
    else:
        assert torch.equal(old, new)
    assert answer(longer, pixels.repeat(1, 2, 1, 1, 1)).shape[-1] == 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stretched_model_has_one_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    tiny("vivit").to(dtype).save_pretrained(tmp_path)
    model = load(tmp_path, size=64, dtype=dtype)
    assert {weight.dtype for weight in model.parameters()} == {dtype}


@pytest.mark.parametrize(
    ("family", "options", "sentence"),
    [
        *(
            (family, {"size": 40}, "size=40 must be a positive multiple of 16")
            for family in CONFIGS
            if family != "videoswin"
        ),
        ("vivit", {"frames": 7}, "frames=7 must be a positive multiple of 2"),
        ("vjepa2", {"frames": 0}, "frames=0 must be a positive multiple of 2"),
        ("timesformer", {"frames": -1}, "frames=-1 must be a positive multiple of 1"),
        ("videoswin", {"size": 0}, "size=0 must be a positive multiple of 1"),
        ("videoswin", {"frames": True}, "frames=True must be a positive multiple of 1"),
        ("videoswin", {"size": True}, "size=True must be a positive multiple of 1"),
        ("videoswin", {"size": 32.0}, "size=32.0 must be a positive multiple of 1"),
        ("timesformer", {"frames": True}, "frames=True must be a positive multiple of 1"),
    ],
)
def test_clips_that_the_model_cannot_take_are_refused(
    tmp_path: Path, family: str, options: dict[str, Any], sentence: str
) -> None:
    tiny(family).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path, **options)
    with pytest.raises(ValueError, match=sentence):
        resized(CONFIGS[family](), **options)


@pytest.mark.parametrize("family", LEARNED)
def test_a_learned_table_is_not_recomputed(tmp_path: Path, family: str) -> None:
    tiny(family).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"positions='recompute'.*has learned its own"):
        load(tmp_path, positions="recompute")
