"""Patches by products, and tables that go where their model goes; on CUDA see `test_gpu`."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import vidprune
from matrix import MODELS, Model
from tiny_models import tiny
from tiny_videomae import clips, tiny_videomae
from vidprune.backbones.embedding import (
    PatchConv2d,
    PatchConv3d,
    is_product,
    patch_product,
    project_by_products,
)


def made(name: Model) -> PreTrainedModel:
    return tiny(name.family, name.grids.usual, head=name.head)


@pytest.mark.parametrize(
    ("conv", "shape"),
    [
        (nn.Conv2d(3, 7, (4, 3), stride=(4, 3)), (2, 3, 8, 9)),
        (nn.Conv2d(3, 7, 2, stride=2, bias=False), (1, 3, 2, 4)),
        (nn.Conv3d(3, 7, (2, 4, 3), stride=(2, 4, 3)), (2, 3, 4, 8, 9)),
        (nn.Conv3d(1, 5, (1, 2, 2), stride=(1, 2, 2)), (3, 1, 3, 2, 6)),
    ],
)
def test_a_convolution_of_patches_is_a_product(
    conv: nn.Conv2d | nn.Conv3d, shape: tuple[int, ...]
) -> None:
    pixels = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = conv.double()(pixels)
    found = patch_product(conv, pixels)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS, ids=str)
def test_every_family_projects_its_patches_by_products(name: Model) -> None:
    model = made(name)
    project_by_products(model)
    found = [module for module in model.modules() if isinstance(module, PatchConv2d | PatchConv3d)]
    assert len(found) == 1


def test_other_convolutions_stay_what_they_are() -> None:
    kept = nn.ModuleList(
        [
            nn.Conv2d(4, 4, 2, stride=1),
            nn.Conv2d(4, 4, 2, stride=2, padding=1),
            nn.Conv2d(4, 4, 2, stride=2, groups=2),
            nn.Conv3d(4, 4, 2, stride=2, dilation=2),
        ]
    )
    project_by_products(kept)  # type: ignore[arg-type]
    assert [type(module) for module in kept] == [nn.Conv2d] * 3 + [nn.Conv3d]


def test_on_a_cpu_they_are_what_they_were() -> None:
    conv, pixels = nn.Conv2d(3, 4, 2, stride=2), torch.randn(1, 3, 4, 4)
    wanted = conv(pixels)
    project_by_products(nn.ModuleList([conv]))  # type: ignore[arg-type]
    assert type(conv) is PatchConv2d
    assert not is_product(conv, pixels)
    assert torch.equal(conv(pixels), wanted)


@pytest.mark.parametrize("how", ["load", "prune"])
def test_tables_go_where_their_model_goes(tmp_path: Path, how: str) -> None:
    model = tiny_videomae()
    saved = {*model.state_dict()}
    pixels = clips(1)
    wanted = model(pixels).logits
    if how == "load":
        model.save_pretrained(tmp_path)
        model = vidprune.load(tmp_path)
    else:
        vidprune.prune(model, "sta:r=2")
    torch.testing.assert_close(model(pixels).logits, wanted)
    assert {*model.state_dict()} == saved
    assert model.to("meta").videomae.embeddings.position_embeddings.is_meta
