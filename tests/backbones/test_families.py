"""Every family's adapter against the family's own modules: what loops over them give, is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ViTConfig, ViTForImageClassification

from matrix import ALL, ANY_TOKENS, FAMILIES, PER_FRAME, TUBES, Rule
from tiny_job import one_thread
from tiny_models import residuals, tiny
from vidprune.backbones.registry import BACKBONES, ENCODERS, adapt, shape_of
from vidprune.layout import Layout, TokenGrid
from vidprune.model import Trace, encode
from vidprune.pruned import prune
from vidprune.reducers.base import Need, Reduction, Signals
from vidprune.reducers.schedule import Place, Stage

DOUBLE = {"rtol": 1e-10, "atol": 1e-10}
OVER_ALL = [name for name, family in FAMILIES.items() if family.rule in (ALL, ANY_TOKENS)]
TUBES_ALONE = [name for name, family in FAMILIES.items() if family.rule == TUBES]
# How many tokens come before those of the grid.
PREFIX = {"vivit": 1, "timesformer-joint": 1, "timesformer-divided": 1, "timesformer-space": 4}


@pytest.fixture(scope="module", autouse=True)
def small_models_do_not_gain_from_threads() -> Iterator[None]:
    with one_thread(), torch.no_grad():
        yield


def in_double(family: str, **changes: Any) -> PreTrainedModel:
    return tiny(family, FAMILIES[family].grids.usual, **changes).double()


def pixels_for(model: PreTrainedModel, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *adapt(model).clip_shape, generator=generator, dtype=model.dtype)


def at(values: Tensor, places: Tensor) -> Tensor:
    """Rows `places` (B, K) of values (B, N, C)."""
    return torch.stack([row[place] for row, place in zip(values, places, strict=True)])


# Pruned, a model is a loop over its own layers, some of which are given less.


def after_blocks(model: PreTrainedModel, trace: Trace) -> dict[int, tuple[Tensor, Tensor]]:
    """By the block that they follow (-1: none), which tokens stay and where they came from."""
    blocks = [
        stage.block - (1 if stage.place is Place.BEFORE_BLOCK else 0) for stage in model.stages
    ]
    pairs = zip(trace.kept, trace.origin, strict=True)
    return dict(zip(blocks, pairs, strict=True))


def vivit_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    tokens = model.vivit.embeddings(pixels)
    for block, layer in enumerate([nn.Identity(), *model.vivit.layers], -1):
        tokens = layer(tokens)
        if block in left:
            tokens = torch.cat([tokens[:, :1], at(tokens[:, 1:], left[block][0])], 1)
    return model.classifier(model.vivit.layernorm(tokens)[:, 0])


def vjepa2_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    """Each token is told its place, as in pre-training, where the encoder sees parts of a clip."""
    encoder = model.vjepa2.encoder
    tokens = encoder.embeddings(pixels)
    origin = torch.arange(tokens.shape[1]).expand(len(tokens), -1)
    for block in range(-1, len(encoder.layer)):
        if block >= 0:
            tokens = encoder.layer[block](tokens, position_mask=origin)[0]
        if block in left:
            tokens, origin = at(tokens, left[block][0]), left[block][1]
    return model.classifier(model.pooler(encoder.layernorm(tokens)))


def joint_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    """In the model's own order, by place and then by frame, from which nothing is ever moved."""
    inner = model.timesformer
    tokens = inner.embeddings(pixels)
    per_frame = adapt(model).grid.tokens_per_frame
    frames = (tokens.shape[1] - 1) // per_frame
    order = [frame * per_frame + place for place in range(per_frame) for frame in range(frames)]
    orders = [list(order) for _ in tokens]
    for block, layer in enumerate([lambda tokens: (tokens,), *inner.encoder.layer], -1):
        tokens = layer(tokens)[0]
        if block in left:
            stays = [set(clip) for clip in left[block][1].tolist()]
            keep = [
                [place for place, origin in enumerate(clip) if origin in stay]
                for clip, stay in zip(orders, stays, strict=True)
            ]
            orders = [
                [clip[place] for place in places] for clip, places in zip(orders, keep, strict=True)
            ]
            tokens = torch.cat([tokens[:, :1], at(tokens[:, 1:], torch.tensor(keep))], 1)
    return model.classifier(inner.layernorm(tokens)[:, 0])


def divided_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    """Tubes stand one after the other: `places` are those of the first frame that are left. (A
    layer works out how many there are, as long as they are whole rows.)"""
    inner, grid = model.timesformer, adapt(model).grid
    tokens = inner.embeddings(pixels)
    places = torch.arange(grid.tokens_per_frame).expand(len(tokens), -1)
    for block, layer in enumerate(inner.encoder.layer):
        tokens = layer(tokens)[0]
        if block in left:
            stays = left[block][1].unflatten(1, (grid.frames, -1)) % grid.tokens_per_frame
            assert bool((stays == stays[:, :1]).all()), "no tubes"
            keep = (places[:, None] == stays[:, 0, :, None]).int().argmax(-1)
            tubes = tokens[:, 1:].unflatten(1, (-1, grid.frames))
            tokens = torch.cat([tokens[:, :1], at(tubes, keep).flatten(1, 2)], 1)
            places = stays[:, 0]
    return model.classifier(inner.layernorm(tokens)[:, 0])


def space_only_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    """Every frame is a clip of its own, with its own class token."""
    inner, grid = model.timesformer, adapt(model).grid
    tokens = inner.embeddings(pixels)
    for block, layer in enumerate(inner.encoder.layer):
        tokens = layer(tokens)[0]
        if block in left:
            in_frame = left[block][0].unflatten(1, (grid.frames, -1)).flatten(0, 1)
            kept = in_frame % (tokens.shape[1] - 1)
            tokens = torch.cat([tokens[:, :1], at(tokens[:, 1:], kept)], 1)
    return model.classifier(inner.layernorm(tokens)[:, 0])


def videoprism_by_its_layers(model: Any, pixels: Tensor, left: dict[int, Any]) -> Tensor:
    """Frames (B T, n, C) through the blocks in space, then lines (B n, T, C) through those in
    time. `left` are tubes: in every frame the same places go."""
    inner, batch, frames = model.vision_model, len(pixels), adapt(model).grid.frames
    tokens, block = inner.spatial_embeddings(pixels), 0
    for layer in inner.spatial_layers:
        tokens, block = layer(tokens), block + 1
        if block - 1 in left:
            keep = first_frames(left[block - 1][0], frames)
            tokens = at(tokens, keep.repeat_interleave(frames, 0))
    lines = inner.temporal_embeddings(inner.layernorm1(tokens), (batch, frames, 0, 0, 0))
    for layer in inner.temporal_layers:
        lines, block = layer(lines), block + 1
        if block - 1 in left:
            keep = first_frames(left[block - 1][0], frames)
            by_clip = lines.unflatten(0, (batch, -1)).flatten(2)
            lines = at(by_clip, keep).flatten(0, 1).unflatten(1, (frames, -1))
    features = inner.layernorm2(lines).unflatten(0, (batch, -1)).transpose(1, 2).flatten(1, 2)
    return model.classifier(model.head_layernorm(model.head(features)[0]))


def first_frames(kept: Tensor, frames: int) -> Tensor:
    """Positions (B, T k) of tubes as those within a frame, (B, k)."""
    return kept.unflatten(1, (frames, -1))[:, 0]


BY_ITS_LAYERS: dict[str, Callable[[Any, Tensor, dict[int, Any]], Tensor]] = {
    "vivit": vivit_by_its_layers,
    "vjepa2": vjepa2_by_its_layers,
    "timesformer-joint": joint_by_its_layers,
    "timesformer-divided": divided_by_its_layers,
    "timesformer-space": space_only_by_its_layers,
    "videoprism": videoprism_by_its_layers,
}


def dropping(rule: Rule) -> tuple[str, ...]:
    """What is dropped from models of a rule; of tubes whole rows."""
    if rule == TUBES:
        tubes = "grid:schedule=4/4/4,places=random"
        return ("grid:schedule=4/8", tubes, f"{tubes},blocks=0/1/2", f"{tubes},blocks=1/2/3")
    if rule == PER_FRAME:
        return ("sta:r=5,stages=1", "grid:r=4")
    return ("sta:r=3", "random:r=2,blocks=0/3", "grid:r=4", "run-length:r=5")


@pytest.mark.parametrize(
    ("family", "spec"),
    [(family, spec) for family in BY_ITS_LAYERS for spec in dropping(FAMILIES[family].rule)],
)
def test_a_pruned_model_is_a_loop_over_its_own_layers(family: str, spec: str) -> None:
    model = in_double(family)
    pixels = pixels_for(model)
    pruned = prune(model, spec)
    output = pruned(pixels, return_trace=True)
    wanted = BY_ITS_LAYERS[family](model, pixels, after_blocks(pruned, output.trace))
    torch.testing.assert_close(output.logits, wanted, **DOUBLE)
    assert float((output.logits - model(pixels).logits).abs().min(-1).values.max()) > 1e-4
    torch.testing.assert_close(
        BY_ITS_LAYERS[family](model, pixels, {}), model(pixels).logits, **DOUBLE
    )


def as_much_as_may_go(rule: Rule) -> tuple[str, str]:
    """All but one of each frame at once, and less in two stages, with folding."""
    once, twice = "schedule=15/,blocks=0/", "schedule=9/5,blocks=0/2,fold=true"
    return (
        f"{'grid' if rule == TUBES else 'sta'}:{once}",
        f"{'grid' if rule in (TUBES, PER_FRAME) else 'sta'}:{twice}",
    )


@pytest.mark.parametrize(
    ("family", "spec"),
    [(family, spec) for family in PREFIX for spec in as_much_as_may_go(FAMILIES[family].rule)],
)
def test_the_class_token_stays_itself_and_in_its_place_whatever_goes(
    family: str, spec: str
) -> None:
    """Only the first block mixes: there it comes to know its clip, and where there is one for each
    frame its frame; from then on it is handed on as it is, or is another."""
    model = tiny(family, FAMILIES[family].grids.usual, head=False)
    for weight in residuals(model, since=1):
        weight.data.zero_()
    pixels = pixels_for(model)
    own = model(pixels).last_hidden_state[:, 0]
    assert len(own.unique(dim=0)) == len(own)
    assert torch.equal(prune(model, spec)(pixels).last_hidden_state[:, 0], own)


@pytest.mark.parametrize("family", [family for family in FAMILIES if "swin" not in family])
def test_the_first_tokens_are_the_model_s_own_and_are_never_counted(family: str) -> None:
    model = tiny(family, FAMILIES[family].grids.usual, head=False)
    backbone, pixels = adapt(model), pixels_for(model)
    assert backbone.prefix == PREFIX.get(family, 0)
    tokens = backbone.embed(pixels)
    assert tokens.shape[1] == backbone.prefix + backbone.grid.tokens
    # They do not depend on the pixels, all others do.
    other = backbone.embed(pixels + 1)
    same = (tokens == other).all(-1)
    assert same[:, : backbone.prefix].all()
    assert not same[:, backbone.prefix :].any()


@pytest.mark.parametrize("temporal", [0, 2])
def test_videoprism_is_bit_equal_with_few_tokens_threads_and_no_blocks_in_time(
    temporal: int,
) -> None:
    """(So few rows are shared out among threads, and end on other bits in another order.)"""
    grid = TokenGrid(frames=2, rows=1, columns=3)
    model = tiny("videoprism", grid, num_temporal_layers=temporal)
    pixels, threads = pixels_for(model, 1), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(prune(model, None)(pixels).logits, model(pixels).logits)
    finally:
        torch.set_num_threads(threads)


def test_every_family_is_a_loop_over_its_layers_somewhere() -> None:
    elsewhere = {"videomae", "videoswin"}  # in test_videomae and test_videoswin
    assert FAMILIES.keys() - BY_ITS_LAYERS.keys() == elsewhere, "add a loop to BY_ITS_LAYERS"


# After the last block nothing attends any more.


@pytest.mark.parametrize("family", TUBES_ALONE)
@pytest.mark.parametrize("spec", ["sta:schedule=5/,blocks=3/", "random:schedule=5/,blocks=3/"])
def test_after_the_last_block_any_may_go(family: str, spec: str) -> None:
    model = in_double(family, head=False)
    pixels, backbone = pixels_for(model), adapt(model)
    output = prune(model, spec)(pixels, return_trace=True)
    own = model(pixels).last_hidden_state
    grid_tokens = own[:, backbone.prefix :]
    places = backbone.places(torch.device("cpu"))
    if places is not None:
        grid_tokens = grid_tokens[:, places.argsort()]
    wanted = torch.cat([own[:, : backbone.prefix], at(grid_tokens, output.trace.origin[0])], 1)
    torch.testing.assert_close(output.last_hidden_state, wanted, **DOUBLE)


@pytest.mark.parametrize(
    ("family", "spec"),
    [
        *(
            (name, spec)
            for name, family in FAMILIES.items()
            if family.rule == PER_FRAME
            for spec in ("sta:schedule=0/5,blocks=0/3", "tome:schedule=0/0/0/5")
        ),
        *(
            (family, spec)
            for family in TUBES_ALONE
            for spec in (
                "vid-tldr:r=5,blocks=3/",
                "tome:schedule=0/0/5/0",
                "sta:schedule=5/,blocks=2/",
            )
        ),
    ],
)
def test_but_frames_that_stay_apart_and_maps_of_attention_ask_for_more(
    family: str, spec: str
) -> None:
    with pytest.raises(ValueError, match="does not fit this model, which attends"):
        prune(in_double(family), spec)


# What reducers are given.


@dataclass(frozen=True)
class Spy:
    """Keeps all tokens, as they stand, and notes what it is given at each block."""

    needs: frozenset[Need]
    seen: dict[int, Signals] = field(default_factory=dict)
    origin: dict[int, Tensor] = field(default_factory=dict)

    def plan(self, depth: int, grid: Any) -> tuple[Stage, ...]:
        raise AssertionError("its stages are given")

    def __call__(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Reduction:
        self.seen[stage.block], self.origin[stage.block] = signals, layout.origin
        return Reduction(torch.arange(tokens.shape[1]).expand(len(tokens), -1))


def spied(model: PreTrainedModel, pixels: Tensor, *needs: Need) -> Spy:
    backbone, spy = adapt(model), Spy(frozenset(needs))
    stages = [
        Stage(
            index=block,
            block=block,
            groups=1,
            entering=backbone.grid.tokens,
            drop=0,
            place=Place.AFTER_ATTENTION,
        )
        for block in range(backbone.depth)
    ]
    encode(backbone, spy, stages, pixels)
    return spy


SEPARATE = {
    "videomae": lambda block: (
        f"videomae.encoder.layer.{block}.attention.attention",
        ("key", "query", "value"),
    ),
    "vivit": lambda block: (f"vivit.layers.{block}.attention", ("k_proj", "q_proj", "v_proj")),
    "vjepa2": lambda block: (
        f"vjepa2.encoder.layer.{block}.attention",
        ("key", "query", "value"),
    ),
    "videoprism": lambda block: (
        f"vision_model.{('spatial', 'temporal')[block // 2]}_layers.{block % 2}.attention",
        ("k_proj", "q_proj", "v_proj"),
    ),
}


def hooked(model: nn.Module, names: list[str], pixels: Tensor) -> list[Tensor]:
    """What modules give in the model's own forward, in the order of their names."""
    seen: dict[str, Tensor] = {}
    handles = [
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out)
        )
        for name in names
    ]
    model(pixels)
    for handle in handles:
        handle.remove()
    return [seen[name] for name in names]


def projections(family: str, model: PreTrainedModel, block: int, pixels: Tensor) -> list[Tensor]:
    """Keys, queries and values that a block computes in the model's own forward, (B, N, C) each:
    those of the grid's tokens, time-major."""
    if family in SEPARATE:
        module, parts = SEPARATE[family](block)
        found = hooked(model, [f"{module}.{part}" for part in parts], pixels)
    elif family == "videoswin":
        name = f"videoswin.levels.{(0, 1, 1, 2)[block]}.blocks.{(0, 0, 1, 0)[block]}"
        # The model projects window by window; here the whole grid in one.
        (normalised,) = hooked(model, [f"{name}.norm1"], pixels)
        query, key, value = model.get_submodule(f"{name}.attention.qkv")(normalised).chunk(3, -1)
        found = [key, query, value]
    else:
        name = f"timesformer.encoder.layer.{block}.attention.attention.qkv"
        query, key, value = hooked(model, [name], pixels)[0].chunk(3, -1)
        found = [key, query, value]
    return [of_the_grid(family, model, block, each) for each in found]


def of_the_grid(family: str, model: PreTrainedModel, block: int, found: Tensor) -> Tensor:
    backbone, batch = adapt(model), 2
    frames = backbone.grid.frames
    if family in ("vivit", "timesformer-joint"):
        found = found[:, 1:]
    if family == "timesformer-joint":
        return found.unflatten(1, (-1, frames)).transpose(1, 2).flatten(1, 2)
    if family in ("timesformer-divided", "timesformer-space"):
        return found[:, 1:].unflatten(0, (batch, frames)).flatten(1, 2)
    if family == "videoprism":
        if block < 2:
            return found.unflatten(0, (batch, frames)).flatten(1, 2)
        return found.unflatten(0, (batch, -1)).transpose(1, 2).flatten(1, 2)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_signals_are_means_over_heads_of_what_attention_computes(family: str) -> None:
    model = in_double(family)
    pixels, backbone = pixels_for(model), adapt(model)
    if family == "videoswin":
        # Where levels end, signals are those of merged tokens: here they are asked for in between.
        seen = {block: of_block(model, pixels, block) for block in range(backbone.depth)}
    else:
        spy = spied(model, pixels, "keys", "queries", "values")
        seen = spy.seen
        in_order = torch.arange(backbone.grid.tokens).expand(2, -1)
        assert all(torch.equal(origin, in_order) for origin in spy.origin.values())
    for block in range(backbone.depth):
        width, key_width = backbone.widths(block)
        wanted = projections(family, model, block, pixels)
        found = (seen[block].keys, seen[block].queries, seen[block].values)
        for ours, theirs in zip(found, wanted, strict=True):
            mean = theirs.unflatten(-1, (width // key_width, key_width)).mean(-2)
            torch.testing.assert_close(ours, mean, rtol=1e-9, atol=1e-9)


def of_block(model: PreTrainedModel, pixels: Tensor, block: int) -> Signals:
    """A pyramid's signals of one block, by its own parts in turn."""
    backbone, done = adapt(model), 0
    tokens = backbone.embed(pixels)
    for number, level in enumerate(backbone.levels):
        layout = Layout(
            grid=level.grid, origin=torch.arange(level.grid.tokens).expand(len(tokens), -1)
        )
        for _ in range(level.blocks):
            tokens, normalised = backbone.attend(done, tokens, layout)
            if done == block:
                means = [
                    backbone.head_mean(block, normalised, signal)
                    for signal in ("keys", "queries", "values")
                ]
                return Signals(keys=means[0], queries=means[1], values=means[2])
            tokens, done = backbone.feed_forward(done, tokens), done + 1
        tokens = backbone.downsample(number, tokens)
    raise AssertionError("there is no such block")


@pytest.mark.parametrize("family", OVER_ALL)
def test_the_attention_map_is_the_mean_over_heads_of_the_softmax(family: str) -> None:
    """Among the grid's tokens: what goes to a class token is shared out."""
    model = in_double(family)
    pixels, heads = pixels_for(model), 3
    spy = spied(model, pixels, "attention")
    for block in range(adapt(model).depth):
        keys, queries, _ = projections(family, model, block, pixels)
        if family == "vjepa2":
            module = model.vjepa2.encoder.layer[block].attention
            places = module.get_position_ids(keys)
            key, query = (
                module.apply_rotary_embeddings(heads_of(each, heads), places)
                for each in (keys, queries)
            )
        else:
            key, query = heads_of(keys, heads), heads_of(queries, heads)
        logits = query @ key.mT / key.shape[-1] ** 0.5
        weights = logits.softmax(-1)
        if family in ("vivit", "timesformer-joint"):
            weights = weights * (1 - to_class_token(family, model, block, pixels, query))
        mean = weights.mean(1)
        wanted = mean / mean.sum(-1, keepdim=True)
        found = spy.seen[block].attention
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-6)
        assert float(found.std()) > 1e-3


def heads_of(projected: Tensor, heads: int) -> Tensor:
    return projected.unflatten(-1, (heads, -1)).transpose(1, 2)


def to_class_token(
    family: str, model: PreTrainedModel, block: int, pixels: Tensor, query: Tensor
) -> Tensor:
    """How much of each query's attention goes to the class token, (B, heads, N, 1)."""
    if family == "vivit":
        (keys,) = hooked(model, [f"vivit.layers.{block}.attention.k_proj"], pixels)
    else:
        name = f"timesformer.encoder.layer.{block}.attention.attention.qkv"
        keys = hooked(model, [name], pixels)[0].chunk(3, -1)[1]
    logits = query @ heads_of(keys, query.shape[1]).mT / query.shape[-1] ** 0.5
    return logits.softmax(-1)[..., :1]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "videoswin"])
def test_patches_stand_in_the_order_of_the_tokens(family: str) -> None:
    """Another pixel in one place changes one patch and, before block 0, one token."""
    model = in_double(family)
    backbone, pixels = adapt(model), pixels_for(model, 1)
    places = backbone.places(torch.device("cpu"))
    length, height, width = backbone.tube
    for frame, row, column in ((0, 0, 0), (1, 2, 3), (3, 3, 1)):
        other = pixels.clone()
        other[0, frame * length, 1, row * height + 1, column * width + 2] += 1
        place = (frame * backbone.grid.rows + row) * backbone.grid.columns + column
        changed = (backbone.patches(pixels) != backbone.patches(other)).flatten(2).any(-1)
        assert changed[0].nonzero().flatten().tolist() == [place]
        moved = (backbone.embed(pixels) != backbone.embed(other)).any(-1)[0, backbone.prefix :]
        (token,) = moved.nonzero().flatten().tolist()
        assert place == (token if places is None else places[token])


# A token of size two is there twice.


def laid_out(grid: Any, origin: list[int]) -> Layout:
    return Layout(grid=grid, origin=torch.tensor(origin)[None])


def which_twice(family: str, grid: Any) -> list[int]:
    """Places that may be there twice: one, or one in each frame, or a tube."""
    one_in_each = [frame * grid.tokens_per_frame + (5 + 3 * frame) % 16 for frame in range(4)]
    tube = [frame * grid.tokens_per_frame + 6 for frame in range(grid.frames)]
    rule = FAMILIES[family].rule
    return one_in_each if rule == PER_FRAME else tube if rule == TUBES else [22]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "videoswin"])
def test_a_bias_of_log_two_is_the_token_twice(family: str) -> None:
    model = in_double(family)
    backbone = adapt(model)
    grid, prefix = backbone.grid, backbone.prefix
    twice = which_twice(family, grid)
    generator = torch.Generator().manual_seed(0)
    shape = (1, prefix + grid.tokens, 24)
    tokens = torch.randn(shape, generator=generator, dtype=torch.float64)
    bias = torch.zeros(1, prefix + grid.tokens, dtype=torch.float64)
    bias[:, [prefix + place for place in twice]] = torch.tensor(2.0).double().log()
    # Beside itself, so that order in time stays.
    there = [place for place in range(grid.tokens) for _ in range(1 + (place in twice))]
    rows = [*range(prefix), *(prefix + place for place in there)]
    first = [*range(prefix), *(prefix + there.index(place) for place in range(grid.tokens))]
    differs = []
    for block in range(backbone.depth):
        whole = laid_out(grid, list(range(grid.tokens)))
        found, _ = backbone.attend(block, tokens, whole, bias)
        repeated, _ = backbone.attend(block, tokens[:, rows], laid_out(grid, there))
        torch.testing.assert_close(found, repeated[:, first], rtol=1e-6, atol=1e-6)
        plain, _ = backbone.attend(block, tokens, whole)
        differs.append(not torch.allclose(found, plain, atol=1e-3))
        nought, _ = backbone.attend(block, tokens, whole, torch.zeros_like(bias))
        torch.testing.assert_close(nought, plain, **DOUBLE)
    # (Along a tube that is there twice, each of the two is alone as before.)
    assert all(differs) or (family in TUBES_ALONE and any(differs))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in PREFIX])
@pytest.mark.parametrize("head", [True, False])
def test_a_weight_of_two_pools_the_token_twice(family: str, head: bool) -> None:
    model = in_double(family, head=head)
    backbone = adapt(model)
    width = model.config.hidden_size
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 12, width, generator=generator, dtype=torch.float64)
    weights = torch.ones(1, 12, dtype=torch.float64)
    weights[:, 4] = 2
    if family == "vjepa2" and head:
        # Among themselves tokens attend alike, whatever they weigh: there is only one query then.
        model.pooler.self_attention_layers = nn.ModuleList()
    twice = torch.cat([features, features[:, 4:5]], 1)
    found = backbone.pool(features, weights / weights.sum())
    torch.testing.assert_close(found, backbone.pool(twice), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found, backbone.pool(features), atol=1e-4)
    absent = torch.zeros(1, 12, dtype=torch.float64)
    absent[:, :7] = 1 / 7
    found = backbone.pool(features, absent)
    torch.testing.assert_close(found, backbone.pool(features[:, :7]), rtol=1e-6, atol=1e-6)


def test_padding_is_not_seen_by_the_attentive_pooler() -> None:
    model = in_double("vjepa2")
    backbone = adapt(model)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, 24, generator=generator, dtype=torch.float64)
    weights = torch.full((2, 12), 1 / 7, dtype=torch.float64)
    weights[:, 7:] = 0
    found = backbone.pool(features, weights)
    torch.testing.assert_close(found, backbone.pool(features[:, :7]), rtol=1e-6, atol=1e-6)


# Unknown ones.


def test_a_model_that_no_adapter_knows_is_refused_with_those_that_are_known() -> None:
    config = ViTConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=1, image_size=32)
    with pytest.raises(TypeError) as refusal:
        prune(ViTForImageClassification(config), "sta:r=1")
    said = str(refusal.value)
    assert "model is a ViTForImageClassification, which no backbone adapter knows" in said
    assert all(name in said for name in (*BACKBONES, *ENCODERS))
    assert "CONTRIBUTING.md" in said
    with pytest.raises(TypeError, match=r"family 'vit', which .* CONTRIBUTING\.md"):
        shape_of(config)
