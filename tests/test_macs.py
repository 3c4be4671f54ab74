"""Multiply-accumulates: a formula by hand for small models, the published table for the others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ViTConfig

from tiny_checkpoints import CONFIGS, tiny
from tiny_videomae import tiny_config, tiny_videomae
from vidprune.backbones.checkpoints import configuration, load
from vidprune.backbones.videomae_checkpoints import architecture
from vidprune.backbones.videoswin_checkpoints import to_torchvision
from vidprune.macs import costs, gmacs_per_view
from vidprune.pruned import prune
from vidprune.reducers.baselines import Random
from vidprune.reducers.sta import STA

LETTERS = {"S": "small", "B": "base", "L": "large", "H": "huge"}
DROPS = (0, 16, 32, 48, 64, 80, 96)
# fvcore on the authors' release, for each of DROPS.
PUBLISHED = {
    "S": (56.95, 49.15, 41.81, 35.03, 28.80, 23.14, 18.04),
    "B": (180.49, 157.90, 136.32, 115.86, 96.53, 78.31, 61.21),
    "L": (597.22, 520.39, 446.66, 376.10, 308.74, 244.56, 183.56),
    "H": (1191.64, 1038.46, 890.65, 748.33, 611.49, 480.14, 354.28),
}


def block(tokens: int, width: int = 24, hidden: int = 48) -> int:
    """Query, key, value and output projections, attention's two products, the MLP."""
    return 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * hidden


EMBED = 128 * 24 * (3 * 2 * 16 * 16)
HEAD = 24 * 5


def sta_stage(tokens: int, groups: int, drop: int, width: int = 24, key: int = 8) -> int:
    """The head-mean key; then similarities and their weighted sum, group after group."""
    size = tokens // groups
    bipartite = (size - size // 2) * (size // 2) * key
    second = size * size * (key + 1) if groups > 1 else 0
    later = (groups - 2) * size * (size - drop) * (key + 1) if groups > 2 else 0
    return tokens * width * key + bipartite + second + later


@pytest.mark.parametrize("reducer", [None, STA(r=0)])
def test_a_dense_model_costs_what_the_formula_says(reducer: Any) -> None:
    wanted = (EMBED + 6 * block(128) + HEAD) / 1e9
    assert gmacs_per_view(prune(tiny_videomae(), reducer)) == pytest.approx(wanted, rel=1e-9)
    assert gmacs_per_view(tiny_videomae()) == pytest.approx(wanted, rel=1e-9)


def test_random_pruning_costs_its_blocks_alone() -> None:
    lengths = (128, 104, 104, 92, 92, 86)
    wanted = (EMBED + sum(block(tokens) for tokens in lengths) + HEAD) / 1e9
    assert gmacs_per_view(prune(tiny_videomae(), Random(r=3))) == pytest.approx(wanted, rel=1e-9)


def test_sta_costs_its_blocks_and_its_selection() -> None:
    lengths = (128, 104, 104, 92, 92, 86)
    blocks = EMBED + sum(block(tokens) for tokens in lengths) + HEAD
    stages = [sta_stage(128, 8, 3), sta_stage(104, 4, 3), sta_stage(92, 2, 3)]
    wanted = (blocks + sum(stages)) / 1e9
    assert gmacs_per_view(prune(tiny_videomae(), STA(r=3))) == pytest.approx(wanted, rel=1e-9)


def test_other_clips_cost_what_they_hold() -> None:
    model = tiny_videomae(image_size=(32, 64), num_frames=4)
    wanted = (EMBED / 8 + 6 * block(16) + HEAD) / 1e9
    assert gmacs_per_view(model) == pytest.approx(wanted, rel=1e-9)


def test_counting_touches_neither_weights_nor_mode() -> None:
    model = prune(tiny_videomae().train().bfloat16(), STA(r=3))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    gmacs_per_view(model)
    assert model.dense.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("letter", ["S", "B", "L", "H"])
def test_every_size_costs_what_was_published(letter: str) -> None:
    config = architecture(f"vit_{LETTERS[letter]}_patch16_224")
    found = [costs(config, STA(r=r)).gmacs_per_view for r in DROPS]
    assert found == pytest.approx(PUBLISHED[letter], rel=0.005)


def test_parts_add_up_and_selection_stands_apart() -> None:
    config = architecture("vit_large_patch16_224")
    found, dense = costs(config, "sta:r=64"), costs(config)
    assert found.gmacs_per_view == pytest.approx(sum(found.modules.values()))
    assert found.linear + found.attention + found.selection == pytest.approx(found.gmacs_per_view)
    assert found.gmacs_dense == dense.gmacs_per_view
    assert found.tokens == (1056, 800, 672)
    assert dense.tokens == ()
    assert "selection" not in dense.modules
    wanted = sum(sta_stage(n, g, 64, width=1024, key=64) for n, g in STAGES_OF_64)
    assert found.modules["selection"] * 1e9 == pytest.approx(wanted)


STAGES_OF_64 = ((1568, 8), (1056, 4), (800, 2))


def test_a_pruned_model_brings_its_reducer_and_another_may_take_its_place() -> None:
    pruned = prune(tiny_videomae(), STA(r=3))
    assert costs(pruned) == costs(tiny_videomae(), "sta:r=3") == costs(tiny_config(), STA(r=3))
    assert costs(pruned, "random:r=3").gmacs_per_view < costs(pruned).gmacs_per_view


def test_what_no_adapter_knows_and_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="family 'vit', which no backbone adapter knows"):
        costs(ViTConfig())
    with pytest.raises(ValueError, match="a group holds 16 tokens"):
        costs(tiny_config(), "sta:r=16")


@pytest.mark.parametrize("head", [True, False], ids=["classifier", "encoder"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_folder_costs_what_its_model_costs(tmp_path: Path, family: str, head: bool) -> None:
    tiny(family, head=head).save_pretrained(tmp_path)
    config = configuration(tmp_path)
    assert costs(config, "grid:r=1,stages=1") == costs(load(tmp_path), "grid:r=1,stages=1")
    assert costs(config) == costs(load(tmp_path))


def test_a_configuration_that_names_no_model_is_a_classifier_s() -> None:
    config = CONFIGS["vjepa2"]()
    assert config.architectures is None
    assert costs(config) == costs(tiny("vjepa2"))
    config.architectures = ["VJEPA2Something"]
    assert costs(config) == costs(tiny("vjepa2"))
    config.architectures = ["VJEPA2Model"]
    assert costs(config) == costs(tiny("vjepa2", head=False))


def test_an_original_file_has_the_head_that_its_configuration_says_nothing_of(
    tmp_path: Path,
) -> None:
    torch.save(to_torchvision(tiny("videoswin").state_dict()), tmp_path / "swin.pth")
    tiny("videoswin", head=False).save_pretrained(tmp_path)
    file, config = tmp_path / "swin.pth", tmp_path / "config.json"
    assert costs(configuration(file, config=config)) == costs(load(file, config=config))
