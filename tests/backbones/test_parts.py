"""What is done in parts on a CPU is what is done at once."""

from typing import Any

import pytest
import torch

from vidprune import prune
from vidprune.backbones import parts as module
from vidprune.backbones.parts import parts
from vidprune.backbones.videoswin_model import VideoSwinConfig, VideoSwinForVideoClassification

CPU = torch.device("cpu")
CONFIG = VideoSwinConfig(
    num_frames=8,
    image_size=32,
    patch_size=(2, 2, 2),
    embed_dim=12,
    depths=(2, 2, 2),
    num_heads=(3, 6, 12),
    window_size=(2, 4, 4),
    num_labels=5,
)


def test_parts_are_stretches_that_fit_and_follow_each_other() -> None:
    found = parts(10, module._BYTES // 4, CPU)
    assert found == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_one_that_does_not_fit_is_a_part_of_its_own() -> None:
    assert parts(2, 3 * module._BYTES, CPU) == [slice(0, 1), slice(1, 2)]


def test_what_fits_is_one_part_and_so_is_everything_elsewhere() -> None:
    assert parts(10, 1, CPU) == [slice(0, 10)]
    assert parts(10, module._BYTES, torch.device("meta")) == [slice(0, 10)]


@pytest.mark.parametrize("reducer", ["none", "sta:schedule=16/3", "sta:schedule=16/3,gaps=filled"])
@torch.no_grad()
def test_a_model_in_many_parts_is_the_model(reducer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(5)
    model = prune(VideoSwinForVideoClassification(CONFIG).eval().double(), reducer)
    pixels = torch.randn(2, 8, 3, 32, 32, dtype=torch.float64)
    whole = model(pixels).logits
    taken: list[int] = []

    def counted(count: int, bytes_each: int, device: torch.device) -> list[slice]:
        found = parts(count, bytes_each, device)
        taken.append(len(found))
        return found

    monkeypatch.setattr(module, "_BYTES", 2**10)
    for place in ("window_attention", "packed_attention", "videoswin_model"):
        monkeypatch.setattr(f"vidprune.backbones.{place}.parts", counted)
    torch.testing.assert_close(model(pixels).logits, whole)
    assert sum(count > 1 for count in taken) >= 4


@pytest.mark.parametrize("reducer", ["none", "sta:schedule=16/3", "sta:schedule=16/3,gaps=filled"])
@torch.no_grad()
def test_autocast_projects_in_half_precision_and_biases_follow(reducer: str) -> None:
    torch.manual_seed(5)
    model = prune(VideoSwinForVideoClassification(CONFIG).eval(), reducer)
    pixels = torch.randn(2, 8, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(pixels).logits
    assert found.isfinite().all()
    assert found.shape == (2, 5)


@pytest.mark.parametrize(
    ("reducer", "window"),
    [
        (None, (2, 4, 4)),
        # Windows that reach over the grid.
        (None, (2, 3, 3)),
        ("none", (2, 4, 4)),
        ("none", (2, 3, 3)),
        ("sta:schedule=16/3", (2, 4, 4)),
        ("sta:schedule=16/3,gaps=filled", (2, 4, 4)),
        ("sta:schedule=16/3", (2, 3, 3)),
    ],
)
@torch.no_grad()
def test_what_a_hook_was_given_is_not_written_over(
    reducer: str | None, window: tuple[int, int, int]
) -> None:
    """Feature tools keep what modules give and look at it when the forward is done."""
    torch.manual_seed(5)
    config = VideoSwinConfig(**CONFIG.to_dict() | {"window_size": window})
    model = VideoSwinForVideoClassification(config).eval()
    runs = model if reducer is None else prune(model, reducer)
    pixels = torch.randn(2, 8, 3, 32, 32)
    held: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def hold(name: str, given: Any) -> None:
        held.extend((name, each, each.clone()) for each in given if isinstance(each, torch.Tensor))

    for name, part in model.videoswin.named_modules():
        part.register_forward_hook(lambda _m, _i, out, name=name: hold(name, (out,)))
        part.register_forward_pre_hook(lambda _m, given, name=name: hold(name, given))
    runs(pixels)
    names = {name.rpartition(".")[2] for name, _, _ in held}
    assert names >= ({"attention", "drop_path", "proj", "fc2"} if reducer is None else {"proj"})
    assert [name for name, kept, then in held if not torch.equal(kept, then)] == []


@pytest.mark.parametrize("window", [(2, 4, 4), (2, 3, 3)])
def test_a_block_is_the_sum_of_what_hooks_on_its_parts_see(window: tuple[int, int, int]) -> None:
    """Also where they take gradients, for which nothing may be written over either."""
    torch.manual_seed(5)
    config = VideoSwinConfig(**CONFIG.to_dict() | {"window_size": window})
    model = VideoSwinForVideoClassification(config).eval()
    block = model.videoswin.levels[1].blocks[1]
    seen: dict[str, torch.Tensor] = {}
    for name in ("", "attention", "mlp"):
        part = block.get_submodule(name)
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        part.register_full_backward_hook(lambda *_: None)
    block.register_forward_pre_hook(lambda _m, given: seen.update(entering=given[0]))
    model(torch.randn(2, 8, 3, 32, 32)).logits.sum().backward()
    after = seen["entering"] + seen["attention"]
    assert torch.equal(seen[""], after + seen["mlp"])
    assert torch.equal(seen["mlp"], block.mlp(block.norm2(after)))
