"""Which weights learn how fast, in every family; Muon and AdamW as one optimizer."""

import copy

import pytest
import torch

from matrix import CLASSIFIERS, Model
from tiny_models import tiny
from vidprune.backbones.registry import adapt
from vidprune.training.layers import MuonAndAdamW, depths, groups, matrices_in_blocks


@pytest.mark.parametrize("model", CLASSIFIERS, ids=str)
def test_depths_rise_from_the_pixels_to_the_head(model: Model) -> None:
    made = tiny(model.family, model.grids.usual)
    found, last = depths(made), adapt(made).depth + 1
    assert {name for name, depth in found.items() if depth == last} >= {
        "classifier.weight",
        "classifier.bias",
    }
    first = [name for name, depth in found.items() if depth == 0]
    assert first
    # VideoPrism's norms stand first, wherever they run.
    own_order = ("vision_model.layernorm1", "vision_model.layernorm2")
    assert all("embed" in name or name.startswith(own_order) for name in first)
    assert set(found.values()) == set(range(last + 1))
    assert list(found.values()) == sorted(found.values())


def test_what_merges_patches_learns_with_the_block_before_it() -> None:
    made = tiny("videoswin", Model("videoswin").grids.usual)
    found, backbone = depths(made), adapt(made)
    ends = [name for name in found if "downsample" in name or "merging" in name]
    assert ends
    own = dict(made.named_parameters())
    inside = {id(w) for b in range(backbone.depth) for w in backbone.layer(b).parameters()}
    assert all(id(own[name]) not in inside and 0 < found[name] <= backbone.depth for name in ends)


def test_every_weight_is_in_one_group_at_its_rate() -> None:
    made = tiny("videomae", Model("videomae").grids.usual, blocks=3).requires_grad_(True)
    found = groups(made, rate=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {id(w): group["lr"] for group in found for w in group["params"]}
    decays = {id(w): group["weight_decay"] for group in found for w in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in found)
    own = dict(made.named_parameters())
    assert rates.keys() == {id(weight) for weight in own.values()}
    layer = made.videomae.encoder.layer
    assert rates[id(made.classifier.weight)] == 1
    assert [rates[id(each.intermediate.dense.weight)] for each in layer] == [0.125, 0.25, 0.5]
    assert rates[id(own["videomae.embeddings.patch_embeddings.projection.weight"])] == 0.0625
    assert decays[id(made.classifier.weight)] == 0.1
    assert decays[id(made.classifier.bias)] == 0
    assert decays[id(made.fc_norm.weight)] == 0


@pytest.mark.parametrize("model", CLASSIFIERS, ids=str)
def test_tables_and_tokens_of_the_model_s_own_neither_decay_nor_go_to_muon(model: Model) -> None:
    made = tiny(model.family, model.grids.usual).requires_grad_(True)
    found = groups(made, rate=1.0, weight_decay=0.1, layer_decay=0.5)
    still = {id(w) for group in found if not group["weight_decay"] for w in group["params"]}
    muon = matrices_in_blocks(made)
    linear = {id(module.weight) for module in made.modules() if isinstance(module, torch.nn.Linear)}
    assert muon
    assert muon <= linear
    assert not muon & still
    for name, weight in made.named_parameters():
        if any(word in name for word in ("position", "cls_token", "bias_table")) or weight.ndim < 2:
            assert id(weight) in still, name


def test_what_is_frozen_is_in_no_group() -> None:
    made = tiny("videomae", Model("videomae").grids.usual).requires_grad_(False)
    made.classifier.requires_grad_(True)
    found = groups(made, rate=1.0, weight_decay=0.1, layer_decay=0.5)
    assert {id(w) for group in found for w in group["params"]} == {
        id(weight) for weight in made.classifier.parameters()
    }


def optimizer_of(model: torch.nn.Module) -> MuonAndAdamW:
    found = groups(model, rate=1e-2, weight_decay=0.1, layer_decay=0.9)
    return MuonAndAdamW(found, matrices_in_blocks(model), (0.9, 0.95))


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    made = tiny("videomae", Model("videomae").grids.usual).requires_grad_(True)
    muon, adamw = optimizer_of(made).parts
    assert isinstance(muon, torch.optim.Muon)
    chosen = {id(w) for group in muon.param_groups for w in group["params"]}
    rest = {id(w) for group in adamw.param_groups for w in group["params"]}
    own = dict(made.named_parameters())
    assert chosen == {id(w) for name, w in own.items() if ".layer." in name and w.ndim == 2}
    assert chosen | rest == {id(weight) for weight in own.values()}
    assert not chosen & rest


def test_a_schedule_reaches_both_and_a_saved_state_goes_on_alike() -> None:
    torch.manual_seed(0)
    grid = Model("videomae").grids.usual
    one = tiny("videomae", grid).requires_grad_(True)
    other = tiny("videomae", grid).requires_grad_(True)
    other.load_state_dict(one.state_dict())
    first, second = optimizer_of(one), optimizer_of(other)

    def step(model: torch.nn.Module, optimizer: MuonAndAdamW, number: int) -> None:
        noise = torch.Generator().manual_seed(number)
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=noise)
        optimizer.step()

    step(one, first, 1)
    other.load_state_dict(one.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer in (first, second):
        for group in optimizer.param_groups:
            group["lr"] *= 0.1
        assert [g["lr"] for part in optimizer.parts for g in part.param_groups] == [
            group["lr"] for group in optimizer.param_groups
        ]
    step(one, first, 2)
    step(other, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    before = [weight.clone() for weight in one.parameters()]
    for group in first.param_groups:
        group["lr"] = 0.0
    step(one, first, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, one.parameters(), strict=True))
