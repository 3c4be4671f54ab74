"""VideoSwin pruned: what goes between levels, attention with gaps filled and closed, its costs."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from vidprune.backbones.architectures import architecture
from vidprune.backbones.base import compiled_half
from vidprune.backbones.packed_attention import attend_packed
from vidprune.backbones.packing import Packing, cut_lines, quotas_for
from vidprune.backbones.registry import adapt, shape_of
from vidprune.backbones.videoswin_model import VideoSwinConfig, VideoSwinForVideoClassification
from vidprune.backbones.window_attention import window_bias
from vidprune.backbones.windows import Cut
from vidprune.exporting import sta_by_loops
from vidprune.layout import Layout, Quotas, TokenGrid
from vidprune.macs import costs
from vidprune.model import run
from vidprune.planning import stages_for
from vidprune.pruned import prune
from vidprune.reducers.base import Signals, chosen
from vidprune.reducers.baselines import Random
from vidprune.reducers.dropping import Dropping, lowest
from vidprune.reducers.exact import rising
from vidprune.reducers.schedule import Stage

CPU = torch.device("cpu")


def tiny(*, seed: int = 0, **changes: Any) -> VideoSwinForVideoClassification:
    """Grids of 4x12x12, 4x6x6 and 4x3x3 tokens, windows of 2x3x3; every weight is drawn."""
    shape = {
        "num_frames": 8,
        "image_size": 48,
        "embed_dim": 12,
        "depths": (1, 2, 2),
        "num_heads": (2, 3, 4),
        "window_size": (2, 3, 3),
        "num_labels": 5,
    }
    model = VideoSwinForVideoClassification(VideoSwinConfig(**shape | changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            centre = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + centre)
    return model.requires_grad_(False)


def clips(batch: int = 2, *, seed: int = 1) -> Tensor:
    return torch.randn(batch, 8, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


# What the paper's numbers mean.

PUBLISHED = {
    "swin3d_t": (87.8, 67.4, 60.6, 53.8),
    "swin3d_s": (165.7, 120.8, 105.9, 90.9),
    "swin3d_b": (281.3, 201.6, 175.0, 148.5),
    "swin3d_b_ssv2": (320.4, 240.6, 214.1, 187.5),
}
PRINTED = {
    "swin3d_t": (88, 68, 61, 54),
    "swin3d_s": (166, 121, 106, 91),
    "swin3d_b": (282, 202, 176, 149),
    "swin3d_b_ssv2": (321, 241, 215, 188),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_cell_of_the_paper_s_table(name: str) -> None:
    config = architecture(name)
    found = [costs(config, f"sta:r={r},gaps=filled").gmacs_per_view for r in (0, 192, 256, 320)]
    assert found == pytest.approx(PUBLISHED[name], rel=0.01)
    assert found == pytest.approx(PRINTED[name], rel=0.015)


def test_the_paper_s_drops() -> None:
    found = costs(architecture("swin3d_t"), "sta:r=256")
    assert found.tokens == (16 * 528, 16 * 100, 16 * 17)
    assert costs(architecture("swin3d_t"), "sta:schedule=256/96/32") == found


# Windows that hold as many.

CUTS = [
    ((4, 6, 6), (2, 3, 3)),
    ((4, 12, 6), (2, 3, 3)),
    ((3, 8, 8), (3, 4, 4)),
    ((4, 14, 14), (2, 7, 7)),
    ((4, 7, 7), (2, 7, 7)),
]


def both_cuts(sides: tuple[int, int, int], window: tuple[int, int, int]) -> tuple[Cut, Cut]:
    grid = TokenGrid(frames=sides[0], rows=sides[1], columns=sides[2])
    shift = (window[0] // 2, window[1] // 2, window[2] // 2)
    return (
        Cut(grid=grid, window=window, shift=(0, 0, 0)),
        Cut(grid=grid, window=window, shift=shift),
    )


@pytest.mark.parametrize(("sides", "window"), CUTS, ids=str)
def test_quotas_fill_every_window_alike_and_leave_out_none(sides: Any, window: Any) -> None:
    regular, shifted = both_cuts(sides, window)
    grid = regular.grid
    windows = regular.counts[1] * regular.counts[2]
    for each in range(1, grid.tokens_per_frame // windows + 1):
        quotas = quotas_for(grid, regular, shifted, each * windows)
        assert quotas is not None
        assert sum(quotas.kept) == each * windows
        areas = Counter(quotas.cells)
        for cell, kept in enumerate(quotas.kept):
            share = areas[cell] * each * windows / grid.tokens_per_frame
            assert abs(kept - share) < 1, "in proportion to the cells"
            assert kept <= areas[cell]
        kept_at = kept_places(quotas, grid)
        for cut in (regular, shifted):
            for members in cut.places(CPU).tolist():
                assert len(kept_at & set(members)) == each * cut.sides[0]


def kept_places(quotas: Quotas, grid: TokenGrid) -> set[int]:
    """The first places of every cell, in every frame."""
    left = Counter(dict(enumerate(quotas.kept)))
    inside = []
    for place, cell in enumerate(quotas.cells):
        if left[cell]:
            left[cell] -= 1
            inside.append(place)
    return {time * grid.tokens_per_frame + p for time in range(grid.frames) for p in inside}


def test_what_cannot_be_shared_alike_is_not_packed() -> None:
    regular, shifted = both_cuts((4, 6, 6), (2, 3, 3))
    assert quotas_for(regular.grid, regular, shifted, 21) is None
    reaching = both_cuts((4, 7, 6), (2, 3, 3))
    assert reaching[0].padded
    assert quotas_for(reaching[0].grid, *reaching, 12) is None


def test_a_reducer_s_order_holds_within_the_cells() -> None:
    quotas = Quotas(cells=(0, 1, 0, 1, 1, 0), kept=(1, 2))
    stage = Stage(index=0, block=0, groups=1, entering=6, drop=3, quotas=quotas)
    order = torch.tensor([[5, 4, 3, 2, 1, 0], [1, 0, 2, 3, 5, 4]])
    assert chosen(order, stage).tolist() == [[5, 4, 3], [0, 1, 3]]


@pytest.mark.parametrize("each", [2, 5, 9])
@pytest.mark.parametrize("shift", [False, True])
def test_packed_attention_is_attention_with_the_dropped_left_out(each: int, shift: bool) -> None:
    regular, shifted = both_cuts((4, 6, 6), (2, 3, 3))
    grid, cut = regular.grid, shifted if shift else regular
    quotas = quotas_for(grid, regular, shifted, 4 * each)
    assert quotas is not None
    attention = tiny().videoswin.levels[1].blocks[0].attention
    origin = torch.stack([drawn_by(quotas, grid, seed=seed) for seed in (0, 1)])
    tokens = torch.randn(2, origin.shape[1], 24, generator=torch.Generator().manual_seed(7))
    packing = Packing(
        cut=cut, rows=cut_lines(shifted, 1), columns=cut_lines(shifted, 2), kept=quotas.kept
    )
    found = attend_packed(attention, tokens, origin, packing.tables(CPU))
    for clip in range(2):
        wanted = masked(attention, tokens[clip], origin[clip].tolist(), cut)
        torch.testing.assert_close(found[clip], wanted, rtol=1e-4, atol=1e-5)


def drawn_by(quotas: Quotas, grid: TokenGrid, *, seed: int) -> Tensor:
    """Places drawn by quotas, frame by frame and cell by cell."""
    draws = torch.rand(grid.frames, grid.tokens_per_frame, generator=_seeded(seed))
    kept = sum(quotas.kept)
    drop = grid.tokens_per_frame - kept
    stage = Stage(
        index=0, block=0, groups=grid.frames, entering=grid.tokens, drop=drop, quotas=quotas
    )
    starts = torch.arange(grid.frames)[:, None] * grid.tokens_per_frame
    return (chosen(rising(draws), stage) + starts).flatten()


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def masked(attention: Any, tokens: Tensor, origin: list[int], cut: Cut) -> Tensor:
    """One clip: window by window over all places, with those that were dropped at -inf."""
    at = {place: position for position, place in enumerate(origin)}
    qkv = attention.qkv(tokens).view(len(origin), 3, attention.heads, -1)
    relative, apart = window_bias(attention, cut.offsets(CPU)), cut.apart(CPU)
    apart = torch.zeros(len(cut.kinds)) if apart is None else apart
    kinds = [kind for kind, count in enumerate(cut.kinds) for _ in range(count)]
    mixed = torch.zeros_like(tokens)
    for kind, places in zip(kinds, cut.places(CPU).tolist(), strict=True):
        here = [(slot, at[place]) for slot, place in enumerate(places) if place in at]
        slots, rows = zip(*here, strict=True)
        query, key, value = qkv[list(rows)].permute(1, 2, 0, 3)
        bias = (relative + apart[kind])[:, list(slots)][:, :, list(slots)]
        scores = query @ key.mT * query.shape[-1] ** -0.5 + bias
        mixed[list(rows)] = (scores.softmax(-1) @ value).transpose(0, 1).flatten(1)
    return attention.proj(mixed)


# The forward loop over levels.


BY_LOOPS = (
    "sta:schedule=16/3",
    "sta:schedule=16/3,gaps=filled",
    "sta:schedule=15/2",
    "sta:r=16",
    "sta:schedule=16/3,fold=true",
    "sta:schedule=16/3,fold=true,gaps=filled",
)
# Their rules are tested elsewhere: here, what becomes of what they keep.
BY_TRACE = (
    "random:schedule=16/3",
    "random:schedule=16/3,gaps=filled",
    "random:schedule=16/3,fold=true",
    "grid:schedule=16/3",
    "grid:schedule=16/3,places=random,fold=true",
    "grid:schedule=15/2,fold=true",
    "sta:schedule=16/3,first_group=random",
)


@pytest.mark.parametrize("spec", BY_LOOPS + BY_TRACE)
@torch.no_grad()
def test_pruned_logits_are_those_of_a_plain_loop(spec: str) -> None:
    """STA's selection, too, is made here: by loops, from keys that a hook has seen."""
    model, pixels = tiny().double(), clips(1).double()
    pruned = prune(model, spec)
    output = pruned(pixels, return_trace=True)
    kept = [sorted(origin[0].tolist()) for origin in output.trace.origin]
    given = kept if spec in BY_TRACE else None
    logits, chosen_places = plainly(model, pixels, pruned, given)
    assert kept == chosen_places
    torch.testing.assert_close(output.logits, logits)


def plainly(
    model: Any, pixels: Tensor, pruned: Any, given: list[list[int]] | None
) -> tuple[Tensor, list[list[int]]]:
    """Every place of every grid is kept, and those that were dropped are never asked for their
    own: they hold copies of their nearest, or are masked where gaps are closed. `given`: which
    places stay, stage by stage, where they are not chosen here."""
    encoder, chosen_places = model.videoswin, []
    tokens, grid = encoder.patch_embed(pixels)
    live: list[int] | None = None
    closed = False
    sizes = None
    for number, level in enumerate(encoder.levels):
        for block in level.blocks:
            normalised = block.norm1(tokens)
            cut = block.cut(grid)
            if live is not None and closed:
                mixed = torch.zeros_like(tokens)
                own = masked(block.attention, normalised[0, live], live, cut)
                mixed[0, live] = own
            else:
                mixed = block.attention(_copied(normalised, live, grid), cut)
            tokens = block.feed_forward(tokens + mixed)
        if level.downsample is None:
            continue
        heads = block.attention.heads
        keys = block.attention.qkv(normalised).chunk(3, -1)[1].unflatten(-1, (heads, -1)).mean(-2)
        keys, tokens = (_copied(values, live, grid)[0] for values in (keys, tokens))
        keys = _cell_means(keys, grid)
        (tokens, grid) = level.downsample(tokens[None], grid)
        stage = pruned.stages[number]
        if given is None:
            backward = number % 2 == 1
            live = select_by_loops(tokens[0].numpy(), keys.numpy(), stage, backward=backward)
        else:
            live = given[number]
        live, closed = sorted(live), stage.quotas is not None
        chosen_places.append(live)
        if pruned.reducer.fold:
            tokens, sizes = _folded_by_loops(tokens, keys, live)
    kept = tokens[0] if live is None else tokens[0, live]
    return model.classifier(_mean(encoder.norm(kept), sizes))[None], chosen_places


def _folded_by_loops(tokens: Tensor, keys: Tensor, live: list[int]) -> tuple[Tensor, Tensor]:
    """Each live place holds the mean of its own token and those whose keys are most like its own;
    also how many they are, (K,)."""
    unit = keys / keys.norm(dim=-1, keepdim=True)
    joined = {place: [place] for place in live}
    for place in set(range(len(keys))) - joined.keys():
        joined[max(live, key=lambda other: float(unit[place] @ unit[other]))].append(place)
    tokens, before = tokens.clone(), tokens
    for place, places in joined.items():
        tokens[0, place] = before[0, places].mean(0)
    return tokens, tokens.new_tensor([len(joined[place]) for place in live])


def _mean(features: Tensor, sizes: Tensor | None) -> Tensor:
    """Over tokens (K, C), each as often as it stands for one."""
    if sizes is None:
        return features.mean(0)
    return (features * sizes[:, None]).sum(0) / sizes.sum()


def _copied(values: Tensor, live: list[int] | None, grid: TokenGrid) -> Tensor:
    """Each place holds what its nearest live place of the frame holds."""
    if live is None:
        return values
    return values[:, [_nearest(place, live, grid) for place in range(grid.tokens)]]


def _nearest(place: int, live: list[int], grid: TokenGrid) -> int:
    per_frame = grid.tokens_per_frame

    def apart(other: int) -> tuple[int, int]:
        (r, c), (s, d) = (divmod(p % per_frame, grid.columns) for p in (place, other))
        return (r - s) ** 2 + (c - d) ** 2, other

    return min((o for o in live if o // per_frame == place // per_frame), key=apart)


def _cell_means(values: Tensor, grid: TokenGrid) -> Tensor:
    tall = values.view(grid.frames, grid.rows, grid.columns, -1)
    return torch.stack(
        [
            tall[t, r : r + 2, c : c + 2].flatten(0, 1).mean(0)
            for t in range(grid.frames)
            for r in range(0, grid.rows, 2)
            for c in range(0, grid.columns, 2)
        ]
    )


def select_by_loops(tokens: Any, keys: Any, stage: Stage, *, backward: bool) -> list[int]:
    """STA's specification, frame by frame; by quotas the best of each cell instead of all."""
    size, kept = stage.group_size, {}
    follow: list[list[int]] = [[] for _ in range(stage.groups)]
    visits = sta_by_loops.visit(
        tokens,
        keys,
        groups=stage.groups,
        drop=stage.drop,
        backward=backward,
        score="both",
        follow=follow,
    )
    for group, scores, _ in visits:
        order = sta_by_loops.lowest(scores, size)
        left = Counter({0: size - stage.drop})
        cells = (0,) * size
        if stage.quotas is not None:
            left, cells = Counter(dict(enumerate(stage.quotas.kept))), stage.quotas.cells
        for position in order:
            if left[cells[position]]:
                left[cells[position]] -= 1
                follow[group].append(position)
        kept[group] = follow[group]
    return [group * size + p for group in range(stage.groups) for p in kept[group]]


def test_closed_gaps_cost_less_attention_and_as_many_linear_layers() -> None:
    config = architecture("swin3d_t")
    closed, filled = costs(config, "sta:r=256"), costs(config, "sta:r=256,gaps=filled")
    assert closed.tokens == filled.tokens
    assert closed.modules["mlp"] == filled.modules["mlp"]
    assert closed.attention < 0.7 * filled.attention


def test_a_level_that_cannot_be_packed_is_filled() -> None:
    for spec, gaps in {
        "sta:schedule=16/2": ("closed", "closed"),
        "sta:schedule=15/2": ("filled", "closed"),
        "random:schedule=16/2,gaps=filled": ("filled", "filled"),
    }.items():
        stages = prune(tiny(), spec).stages
        assert tuple(stage.gaps for stage in stages) == gaps
        assert [stage.quotas is None for stage in stages] == [gap == "filled" for gap in gaps]
        assert costs(tiny(), spec).gaps == gaps


def test_a_stage_says_what_becomes_of_its_gaps() -> None:
    first, second = prune(tiny(), "sta:schedule=15/2").stages
    place = "after block 0: 144 -> 84 tokens (4 groups of 36, 15 dropped from each; gaps filled)"
    assert str(first) == place
    assert str(second).endswith("2 dropped from each; gaps closed)")


@pytest.mark.parametrize("name", ["swin3d_t", "swin3d_b_ssv2"])
def test_which_gaps_are_closed_at_224_pixels(name: str) -> None:
    """The rule in docs/models.md: 16 windows, 4 and 1, each of which has to hold as many."""
    shape = shape_of(architecture(name))
    closed = {}
    for r in range(8, 392):
        gaps = [stage.gaps for stage in stages_for(shape, Random(r=r))]
        closed[r] = all(gap == "closed" for gap in gaps)
        expected = (r % 16 == 0, (3 * r // 8) % 4 == 0, True)
        assert tuple(gap == "closed" for gap in gaps) == expected, r
    assert [r for r in closed if closed[r]] == list(range(32, 392, 32))
    with pytest.raises(ValueError, match="a group holds 49 tokens"):
        stages_for(shape, Random(r=392))


@pytest.mark.parametrize("r", range(1, 8))
def test_too_few_to_reach_the_last_level_close_no_gaps(r: int) -> None:
    stages = stages_for(shape_of(architecture("swin3d_t")), Random(r=r))
    assert {stage.gaps for stage in stages} == {"filled"}


@pytest.mark.parametrize("spec", ["sta:r=16", "random:r=16", "grid:r=16", "sta:r=15"])
@torch.no_grad()
def test_folding_joins_what_goes_and_pools_by_size(spec: str) -> None:
    model = tiny()
    plain, folded = (prune(model, spec + fold)(clips()).logits for fold in ("", ",fold=true"))
    assert bool(folded.isfinite().all())
    assert not torch.allclose(plain, folded)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("tome:r=5", "tome:r=5 does not fit a model that merges"),
        ("run-length:r=2", "choose sta, random or grid"),
        ("vid-tldr:r=5", "choose sta, random or grid"),
        ("sta:r=4,fold=true,proportional_attention=true", "without proportional attention"),
        ("sta:r=4,blocks=0/1/2", "leave blocks out"),
        ("sta:r=4,stages=3", "leave stages out"),
        ("sta:schedule=4/2/1", "give one number for each"),
        ("sta:r=4,schedule=constant", "has no meaning for a model whose tokens merge"),
        ("sta:r=36", "choose a smaller r"),
        ("sta:r=4,gaps=open", "choose one of closed, filled"),
    ],
)
def test_what_does_not_fit_a_pyramid_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        prune(tiny(), spec)


@dataclass(frozen=True, kw_only=True)
class Quietest(Dropping):
    """The tokens of every frame with the smallest channels: `kept_by` takes them by their rank."""

    kept_by: Callable[[Tensor, Stage], Tensor]

    def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
        return self.kept_by(tokens.abs().sum(-1), stage)


def regardless_of_quotas(ranks: Tensor, stage: Stage) -> Tensor:
    return lowest(ranks, replace(stage, quotas=None))


def in_rising_position(ranks: Tensor, stage: Stage) -> Tensor:
    return lowest(ranks, stage).sort(-1).values


@pytest.mark.parametrize("kept_by", [regardless_of_quotas, in_rising_position])
@pytest.mark.parametrize("fold", [False, True])
def test_a_reducer_that_does_not_keep_to_quotas_is_refused(kept_by: Any, fold: bool) -> None:
    with pytest.raises(ValueError, match=r"does not keep to the quotas .* choose gaps='filled'"):
        prune(tiny(), Quietest(r=16, fold=fold, kept_by=kept_by))
    with pytest.raises(ValueError, match="does not keep to the quotas"):
        costs(tiny().config, Quietest(r=16, fold=fold, kept_by=kept_by))
    assert prune(tiny(), Quietest(r=16, fold=fold, gaps="filled", kept_by=kept_by)).stages
    # Where no stage has quotas, nothing is asked.
    assert prune(tiny(), Quietest(schedule=(15, 0), fold=fold, kept_by=kept_by)).stages


@torch.no_grad()
def test_a_reducer_that_keeps_to_quotas_is_as_good_as_ours() -> None:
    model, pixels = tiny(), clips()
    pruned = prune(model, Quietest(schedule=(16, 3), kept_by=lowest))
    output = pruned(pixels, return_trace=True)
    assert all(stage.quotas is not None for stage in pruned.stages)
    given = [sorted(origin[0].tolist()) for origin in output.trace.origin]
    wanted, _ = plainly(model, pixels[:1], pruned, given)
    torch.testing.assert_close(output.logits[:1], wanted, rtol=1e-4, atol=1e-5)


def test_the_adapter_cuts_as_the_model_does() -> None:
    model = tiny()
    backbone = adapt(model)
    grids = [level.grid for level in backbone.levels]
    blocks = [
        (n, block) for n, level in enumerate(model.videoswin.levels) for block in level.blocks
    ]
    for number, (level, block) in enumerate(blocks):
        assert backbone.cut(number) == block.cut(grids[level])
        assert backbone.layer(number) is block


# Compiled.


@pytest.mark.parametrize("spec", ["none", "sta:schedule=16/3", "sta:schedule=16/3,gaps=filled"])
@torch.no_grad()
def test_blocks_are_graphs_of_their_own_and_give_what_eager_ones_give(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[torch.fx.GraphModule] = []

    def see(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        traced.append(graph)
        return graph.forward

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiled(f, backend=see, **options))
    compiled_half.cache_clear()
    pruned, pixels = prune(tiny(), spec), clips(2)
    found, _ = run(adapt(pruned, compiled=True), pruned.reducer, pruned.stages, pixels)
    compiled_half.cache_clear()
    torch.testing.assert_close(found, pruned(pixels).logits)
    # Five blocks; those that cut alike share their graphs, and all of one width their MLPs.
    assert 0 < len(traced) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
@torch.no_grad()
def test_one_compiled_model_takes_clips_of_several_sizes(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    model = tiny()
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=dynamic)
    for frames, side in ((8, 48), (12, 48), (8, 24), (8, 48)):
        pixels = torch.randn(1, frames, 3, side, side)
        torch.testing.assert_close(compiled(pixels).logits, model(pixels).logits)


@pytest.mark.slow
@torch.no_grad()
def test_a_pruned_model_compiled_with_dynamic_sizes_is_traced_once() -> None:
    torch._dynamo.reset()
    pruned = prune(tiny(), "sta:schedule=16/3")
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(pruned, fullgraph=True, backend=counter, dynamic=True)
    for batch in (2, 3, 4):
        pixels = clips(batch)
        torch.testing.assert_close(compiled(pixels).logits, pruned(pixels).logits)
    assert counter.frame_count == 1
