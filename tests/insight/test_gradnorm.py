"""GradNorm against the original models' own hidden states and autograd."""

import pytest
import torch
from torch import Tensor, nn

from tiny_models import tiny
from vidprune import prune
from vidprune.backbones.videoswin_model import VideoSwinConfig, VideoSwinForVideoClassification
from vidprune.insight.gradnorm import GradNorm, gradnorm, share_held
from vidprune.layout import TokenGrid


def by_hooks(model: nn.Module, layers: list[nn.Module], pixels: Tensor) -> list[Tensor]:
    """Sums over channels of |d loss / d output| of each layer, in the original forward."""
    outputs: list[Tensor] = []

    def note(_: nn.Module, __: object, output: object) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        assert isinstance(tokens, Tensor)
        tokens.retain_grad()
        outputs.append(tokens)

    handles = [layer.register_forward_hook(note) for layer in layers]
    logits = model(pixels).logits
    nn.functional.cross_entropy(logits, logits.argmax(-1), reduction="sum").backward()
    for handle in handles:
        handle.remove()
    grads = [output.grad for output in outputs]
    return [grad.abs().sum(-1) for grad in grads if grad is not None]


FAMILY_LAYERS = {
    "videomae": lambda model: list(model.videomae.encoder.layer),
    "vivit": lambda model: list(model.vivit.layers),
    "vjepa2": lambda model: list(model.vjepa2.encoder.layer),
    "timesformer-joint": lambda model: list(model.timesformer.encoder.layer),
}
GRID = TokenGrid(frames=3, rows=4, columns=4)


@pytest.mark.parametrize("family", FAMILY_LAYERS)
def test_it_is_the_sum_over_the_original_layers_outputs(family: str) -> None:
    model = tiny(family, GRID)
    shape = (2, GRID.frames if "former" in family else 2 * GRID.frames, 3, 16, 16)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = gradnorm(model, pixels)
    wanted = sum(by_hooks(model.requires_grad_(True), FAMILY_LAYERS[family](model), pixels))
    assert isinstance(wanted, Tensor)
    # A class token has no place.
    wanted = wanted[:, -GRID.tokens :]
    if "former" in family:
        # Numbered place by place, in each frame by frame.
        wanted = wanted.unflatten(1, (-1, GRID.frames)).transpose(1, 2).flatten(1)
    torch.testing.assert_close(found.values, wanted)
    assert found.grid == GRID
    assert not found.given


@pytest.mark.parametrize("family", ["videomae", "vivit", "vjepa2", "timesformer-joint"])
def test_a_clip_is_judged_alone_and_pruning_changes_nothing(family: str) -> None:
    model = tiny(family, GRID)
    frames = GRID.frames if "former" in family else 2 * GRID.frames
    pixels = torch.randn((3, frames, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    together = gradnorm(prune(model, "random:r=2"), pixels)
    alone = torch.cat([gradnorm(model, clip[None]).values for clip in pixels])
    torch.testing.assert_close(together.values, alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_nothing_of_a_clip_that_the_model_is_sure_of(
    dtype: torch.dtype,
) -> None:
    model = tiny("videomae", GRID)
    model.classifier.weight.mul_(20)
    pixels = torch.randn((4, 6, 3, 16, 16), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        sure = model(pixels).logits.softmax(-1).amax(-1)
    assert sure.max() > 1 - 1e-4
    wanted = gradnorm(model, pixels).values
    found = gradnorm(model.to(dtype), pixels.to(dtype)).values
    both = torch.stack([wanted / wanted.sum(1, keepdim=True), found / found.sum(1, keepdim=True)])
    assert (both[0] - both[1]).abs().sum(1).max() < 0.2


def test_another_class_has_another_loss_and_a_model_keeps_no_gradients() -> None:
    model = tiny("videomae", GRID).requires_grad_(True)
    pixels = torch.randn((1, 6, 3, 16, 16), generator=torch.Generator().manual_seed(3))
    guess = gradnorm(model, pixels)
    same = gradnorm(model, pixels, guess.labels)
    other = gradnorm(model, pixels, (guess.labels + 1) % 5)
    assert torch.equal(same.values, guess.values)
    assert same.given
    assert not torch.allclose(other.values, guess.values)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_pyramid_shares_out_what_merged_places_have() -> None:
    config = VideoSwinConfig(
        num_frames=4,
        image_size=(20, 28),
        patch_size=(2, 4, 4),
        embed_dim=12,
        depths=(1, 2),
        num_heads=(2, 3),
        window_size=(2, 3, 3),
        num_labels=5,
    )
    torch.manual_seed(4)
    model = VideoSwinForVideoClassification(config).eval()
    pixels = torch.randn(2, 4, 3, 20, 28)
    found = gradnorm(model, pixels)
    blocks = [block for level in model.videoswin.levels for block in level.blocks]
    fine, *coarse = by_hooks(model, blocks, pixels)
    # 5 x 7 places merge into 3 x 4, of which the last row and column cover one place.
    merged = sum(coarse).unflatten(1, (2, 3, 4))  # type: ignore[union-attr]
    wanted = fine.unflatten(1, (2, 5, 7)).clone()
    for row in range(5):
        for column in range(7):
            covers = (1 if row == 4 else 2) * (1 if column == 6 else 2)
            wanted[:, :, row, column] += merged[:, :, row // 2, column // 2] / covers
    torch.testing.assert_close(found.values, wanted.flatten(1))


def test_shares_sum_to_one_and_padding_holds_nothing() -> None:
    values = torch.tensor([[1.0, 2, 3, 4]])
    grid = TokenGrid(frames=1, rows=2, columns=2)
    found = GradNorm(values, grid, torch.tensor([0]), given=False)
    assert share_held(found, torch.tensor([[0, 3]]), grid).item() == pytest.approx(0.5)
    assert share_held(found, torch.tensor([[1, -1]]), grid).item() == pytest.approx(0.2)
    merged = TokenGrid(frames=1, rows=1, columns=1)
    assert share_held(found, torch.tensor([[0]]), merged).item() == pytest.approx(1)


def test_a_model_without_a_head_has_no_loss() -> None:
    encoder = tiny("videomae", GRID, head=False)
    with pytest.raises(TypeError, match="VideoMAEModel without a head: GradNorm is the gradient"):
        gradnorm(encoder, torch.zeros(1, 6, 3, 16, 16))
