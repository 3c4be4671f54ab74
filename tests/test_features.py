"""Models without a head: pooled features, and features for every place of the grid."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from matrix import ENCODERS, PAIRS, Model
from tiny_job import one_thread
from tiny_models import residuals, tiny
from vidprune.backbones.registry import adapt
from vidprune.filling import cell_means, spread
from vidprune.inference import Classifier
from vidprune.layout import TokenGrid
from vidprune.nearest import nearest, nearest_in_frame
from vidprune.pruned import Pruned, prune, unprune
from vidprune.reducers.spec import describe
from vidprune.video import Protocol

each_encoder = pytest.mark.parametrize("name", ENCODERS, ids=str)
PRUNED = [(model, spec) for model, spec in PAIRS if not model.head]
FOLDING = [(model, spec) for model, spec in PRUNED if "fold=true" in spec or "tome:r=5" in spec]
LOSING = [*((model, "grid:r=4") for model in ENCODERS), (ENCODERS[0], "tome:r=5,mode=drop")]


@pytest.fixture(scope="module", autouse=True)
def small_models_do_not_gain_from_threads() -> Iterator[None]:
    with one_thread(), torch.no_grad():
        yield


def encoder(name: Model, **changes: Any) -> PreTrainedModel:
    return tiny(name.family, name.grids.usual, head=False, **changes)


def pixels_for(model: PreTrainedModel, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, *adapt(model).clip_shape, generator=generator)


def last_grid(model: PreTrainedModel) -> TokenGrid:
    """On which a model's features lie."""
    return adapt(model).levels[-1].grid


def of_tokens(model: PreTrainedModel, features: Tensor, batch: int) -> Tensor:
    """The grid's tokens of a last hidden state, (B, K, C): its own left out."""
    frames = features.shape[0] // batch
    if frames > 1:
        # Frame by frame, each with a class token of its own.
        return features[:, 1:].unflatten(0, (batch, frames)).flatten(1, 2)
    return features[:, adapt(model).prefix :]


# Which place takes which token.


def distance(one: int, other: int, grid: TokenGrid) -> int:
    here, there = (
        (
            place // grid.tokens_per_frame,
            place % grid.tokens_per_frame // grid.columns,
            place % grid.columns,
        )
        for place in (one % grid.tokens, other % grid.tokens)
    )
    # (The column within a row: a frame is made of whole rows.)
    return sum((a - b) ** 2 for a, b in zip(here, there, strict=True))


def nearest_by_loops(origin: list[int], grid: TokenGrid, *, in_frame: bool = False) -> list[int]:
    """For each place the position in `origin` of the nearest; of equals the earlier place."""
    found = []
    for place in range(grid.tokens):
        best, best_rank = -1, (10**9, 0)
        for position, live in enumerate(origin):
            same_frame = live // grid.tokens_per_frame == place // grid.tokens_per_frame
            rank = (distance(place, live, grid), live)
            if live >= 0 and (same_frame or not in_frame) and rank < best_rank:
                best, best_rank = position, rank
        found.append(best)
    return found


grids = st.builds(
    TokenGrid, frames=st.integers(1, 4), rows=st.integers(1, 5), columns=st.integers(1, 5)
)


@given(data=st.data(), grid=grids)
@settings(max_examples=60, deadline=None)
def test_the_nearest_is_that_of_a_loop(data: st.DataObject, grid: TokenGrid) -> None:
    kept = data.draw(st.integers(1, grid.tokens))
    places = st.permutations(range(grid.tokens))
    clips = [data.draw(places)[:kept] for _ in range(2)]
    found = nearest(torch.tensor(clips), grid)
    assert found.tolist() == [nearest_by_loops(clip, grid) for clip in clips]
    # A place that has its own token is its own nearest.
    for clip, rows in zip(clips, found.tolist(), strict=True):
        assert [rows[place] for place in clip] == list(range(kept))


@given(data=st.data(), grid=grids)
@settings(max_examples=40, deadline=None)
def test_padding_is_nobody_s_nearest(data: st.DataObject, grid: TokenGrid) -> None:
    kept = data.draw(st.integers(1, grid.tokens))
    places = data.draw(st.permutations(range(grid.tokens)))[:kept]
    valid = data.draw(st.lists(st.booleans(), min_size=kept, max_size=kept))
    valid[data.draw(st.integers(0, kept - 1))] = True
    there = [place if real else -1 for place, real in zip(places, valid, strict=True)]
    found = nearest(torch.tensor([places]), grid, valid=torch.tensor([valid]))
    assert found[0].tolist() == nearest_by_loops(there, grid)


@given(data=st.data(), grid=grids)
@settings(max_examples=60, deadline=None)
def test_the_nearest_in_a_frame_is_that_of_a_loop(data: st.DataObject, grid: TokenGrid) -> None:
    kept = data.draw(st.integers(1, grid.tokens_per_frame))
    in_frame = st.permutations(range(grid.tokens_per_frame))
    clips = [
        [
            frame * grid.tokens_per_frame + place
            for frame in range(grid.frames)
            for place in data.draw(in_frame)[:kept]
        ]
        for _ in range(2)
    ]
    found = nearest_in_frame(torch.tensor(clips), grid)
    assert found.tolist() == [nearest_by_loops(clip, grid, in_frame=True) for clip in clips]


@pytest.mark.parametrize("columns", [600, pytest.param(1400, marks=pytest.mark.slow)])
def test_nearest_in_a_long_frame_is_that_of_the_whole(columns: int) -> None:
    """Distances there are beyond 32 bits."""
    grid = TokenGrid(frames=1, rows=10, columns=columns)
    origin = torch.tensor([[0, grid.tokens - 1]])
    assert torch.equal(nearest_in_frame(origin, grid), nearest(origin, grid))


@given(grid=grids, seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_means_of_what_merges_are_those_of_a_loop(grid: TokenGrid, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, grid.tokens, 3, generator=generator, dtype=torch.float64)
    tall = values.unflatten(1, (grid.frames, grid.rows, grid.columns))
    wanted = [
        tall[:, frame, row : row + 2, column : column + 2].mean((1, 2))
        for frame in range(grid.frames)
        for row in range(0, grid.rows, 2)
        for column in range(0, grid.columns, 2)
    ]
    torch.testing.assert_close(cell_means(values, grid), torch.stack(wanted, 1))


# Dense features.


@each_encoder
@pytest.mark.parametrize("dense", ["nearest", "owner"])
@pytest.mark.parametrize("reducer", [None, "sta:r=0"])
def test_with_nothing_dropped_dense_features_are_the_model_s_own(
    name: Model, dense: str, reducer: str | None
) -> None:
    model = encoder(name)
    pixels = pixels_for(model)
    output = prune(model, reducer)(pixels, dense=dense)
    original = model(pixels).last_hidden_state
    assert torch.equal(output.last_hidden_state, original)
    own = of_tokens(model, original, 3)
    places = adapt(model).places(own.device)
    if places is not None:
        # They stand in another order there, but dense features are time-major.
        own = own[:, places.argsort()]
    assert torch.equal(output.dense_features, own)


@each_encoder
def test_dense_features_are_time_major(name: Model) -> None:
    """A place of which only the features are watched moves most where its pixels are changed."""
    model = encoder(name)
    grid, pixels = last_grid(model), pixels_for(model, 1)
    frames, _, height, width = adapt(model).clip_shape
    tube = frames // grid.frames, height // grid.rows, width // grid.columns
    for weight in residuals(model):
        weight.data.zero_()
    pruned = prune(model, None)
    for frame, row, column in ((0, 0, 0), (1, 2, 1), (3, 1, 2)):
        other = pixels.clone()
        time, down, right = (
            slice(number * side, (number + 1) * side)
            for number, side in zip((frame, row, column), tube, strict=True)
        )
        other[:, time, :, down, right] += 1
        before, after = (pruned(clip, dense="nearest").dense_features for clip in (pixels, other))
        changed = (before != after).any(-1)[0].nonzero().flatten().tolist()
        assert changed == [(frame * grid.rows + row) * grid.columns + column]


@pytest.mark.parametrize(("name", "spec"), PRUNED, ids=str)
def test_kept_places_have_their_own_and_dropped_ones_the_nearest(name: Model, spec: str) -> None:
    model = encoder(name)
    pixels, grid = pixels_for(model), last_grid(model)
    output = prune(model, spec)(pixels, dense="nearest", return_trace=True)
    survivors = of_tokens(model, output.last_hidden_state, 3)
    assert output.dense_features.shape == (3, grid.tokens, survivors.shape[-1])
    for clip, origin in enumerate(output.trace.origin[-1].tolist()):
        for position, place in enumerate(origin):
            if place >= 0:
                assert torch.equal(output.dense_features[clip, place], survivors[clip, position])
        rows = nearest_by_loops(origin, grid)
        assert torch.equal(output.dense_features[clip], survivors[clip, rows])


def owner_by_loops(output: Any, model: PreTrainedModel, clip: int) -> list[int]:
    """For each place of the last grid the survivor that it went into, stage after stage."""
    stages = output.trace.owner
    if len(adapt(model).levels) > 1:
        # Each level begins anew, with a stage of its own.
        stages = stages[-1:]
    found = []
    for place in range(last_grid(model).tokens):
        for owner in stages:
            place = int(owner[clip, place])
        found.append(place)
    return found


@pytest.mark.parametrize(("name", "spec"), FOLDING, ids=str)
def test_dropped_places_have_their_owner_s(name: Model, spec: str) -> None:
    model = encoder(name)
    output = prune(model, spec)(pixels_for(model), dense="owner", return_trace=True)
    survivors = of_tokens(model, output.last_hidden_state, 3)
    for clip in range(3):
        rows = owner_by_loops(output, model, clip)
        assert torch.equal(output.dense_features[clip], survivors[clip, rows])
    near = prune(model, spec)(pixels_for(model), dense="nearest").dense_features
    assert not torch.equal(near, output.dense_features)


def test_a_last_level_without_a_stage_is_whole() -> None:
    model = encoder(Model("videoswin", head=False))
    pruned = prune(model, "sta:schedule=8/0,fold=true")
    output = pruned(pixels_for(model), dense="owner", return_trace=True)
    assert [tuple(kept.shape) for kept in output.trace.kept] == [(3, 4 * 28)]
    assert torch.equal(output.dense_features, output.last_hidden_state)
    assert output.dense_features.shape[1] == 4 * 9


def test_copies_go_where_they_are_sent() -> None:
    values = torch.randn(2, 3, 4)
    source = torch.tensor([[0, 0, 2, 1], [2, 1, 0, 0]])
    wanted = torch.stack([clip[rows] for clip, rows in zip(values, source, strict=True)])
    assert torch.equal(spread(values, source), wanted)


@pytest.mark.parametrize(("name", "spec"), LOSING, ids=str)
def test_an_owner_is_refused_where_nothing_is_folded(name: Model, spec: str) -> None:
    model = encoder(name)
    with pytest.raises(
        ValueError, match=r"dense='owner' needs a reducer that folds .*dense='nearest'"
    ):
        prune(model, spec)(pixels_for(model), dense="owner")


def test_a_filling_that_is_not_known_is_refused() -> None:
    pruned = prune(encoder(ENCODERS[0]), "sta:r=3")
    with pytest.raises(ValueError, match="dense='best' is not known; choose one of nearest, owner"):
        pruned(pixels_for(pruned), dense="best")


@pytest.mark.parametrize(("name", "spec"), PRUNED, ids=str)
def test_padding_is_told_from_tokens(name: Model, spec: str) -> None:
    model = encoder(name)
    output = prune(model, spec)(pixels_for(model), return_trace=True)
    if "threshold" not in spec:
        assert output.valid is None
        return
    own = torch.ones(3, adapt(model).prefix, dtype=torch.bool)
    assert torch.equal(output.valid, torch.cat([own, output.trace.origin[-1] >= 0], 1))
    assert output.valid.shape == output.last_hidden_state.shape[:2]
    assert not output.valid.all()


@each_encoder
def test_dense_features_come_only_when_asked_for(name: Model) -> None:
    model = encoder(name)
    output = prune(model, "grid:r=4")(pixels_for(model))
    assert list(output.keys()) == ["last_hidden_state", "pooler_output"]
    assert output.dense_features is output.trace is None


# Pooled features.


# (vid-tldr counts what it merges by saliency too.)
@pytest.mark.parametrize(("name", "spec"), [p for p in PRUNED if "vid-tldr" not in p[1]], ids=str)
def test_pooled_features_are_those_of_the_class_token_or_the_mean(name: Model, spec: str) -> None:
    """The mean counts a survivor as often as there are tokens that it stands for."""
    model = encoder(name)
    output = prune(model, spec)(pixels_for(model), return_trace=True)
    features = output.last_hidden_state
    if name.family == "vivit":
        wanted = model.pooler(features)
    elif name.family == "timesformer-space":
        # Each frame has one, and a clip their mean.
        wanted = features[:, 0].unflatten(0, (3, -1)).mean(1)
    elif adapt(model).prefix:
        wanted = features[:, 0]
    else:
        sizes = counts(output, model)
        wanted = (features * sizes[..., None]).sum(1) / sizes.sum(1, keepdim=True)
    torch.testing.assert_close(output.pooler_output, wanted)
    whole = prune(model, None)(pixels_for(model)).pooler_output
    assert whole.shape == output.pooler_output.shape == (3, model.config.hidden_size)
    assert not torch.allclose(whole, output.pooler_output, atol=1e-4)


def counts(output: Any, model: PreTrainedModel) -> Tensor:
    """How many tokens of the last grid each survivor stands for; none for padding."""
    origin = output.trace.origin[-1]
    if not output.trace.owner:
        return (origin >= 0).float()
    sizes = torch.zeros(origin.shape)
    for clip in range(len(sizes)):
        for row in owner_by_loops(output, model, clip):
            sizes[clip, row] += 1
    return sizes


def test_a_vivit_without_a_pooler_gives_its_class_token() -> None:
    kind, whole = type(encoder(ENCODERS[1])), encoder(ENCODERS[1])
    model = kind(whole.config, add_pooling_layer=False).eval()
    output = prune(model, "sta:r=3")(pixels_for(model))
    assert torch.equal(output.pooler_output, output.last_hidden_state[:, 0])


@pytest.mark.parametrize("family", ["videomae", "vivit", "timesformer-divided", "videoswin"])
def test_a_classifier_without_classes_gives_features(family: str) -> None:
    """What it hands out as logits is its pooled features."""
    model = tiny(family, Model(family).grids.usual, num_labels=0)
    pixels = pixels_for(model)
    pruned = prune(model, None)
    assert torch.equal(pruned(pixels).pooler_output, model(pixels).logits)
    output = prune(model, "grid:r=4")(pixels, dense="nearest")
    assert output.dense_features.shape[1] == last_grid(model).tokens


# As a model of Hugging Face.


@each_encoder
def test_a_pruned_encoder_shares_its_weights_and_gives_back_the_original(name: Model) -> None:
    model = encoder(name)
    pruned, pixels = prune(model, "grid:r=4"), pixels_for(model)
    assert isinstance(pruned, type(model))
    assert type(pruned).__name__ == type(model).__name__
    assert unprune(pruned) is model
    assert not isinstance(model, Pruned)
    ours, theirs = pruned.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[key].data_ptr() == theirs[key].data_ptr() for key in ours)
    wanted = pruned(pixels).last_hidden_state
    for twin in (copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        assert torch.equal(twin(pixels).last_hidden_state, wanted)
        assert describe(twin.reducer) == "grid:r=4"


@each_encoder
def test_pixels_come_by_either_name_and_once(name: Model) -> None:
    pruned = prune(encoder(name), "grid:r=4")
    pixels = pixels_for(pruned)
    wanted = pruned(pixels).pooler_output
    assert torch.equal(pruned(pixel_values=pixels).pooler_output, wanted)
    assert torch.equal(pruned(pixel_values_videos=pixels).pooler_output, wanted)
    assert torch.equal(pruned(pixels, return_dict=False)[1], wanted)
    with pytest.raises(TypeError, match="give the clips once"):
        pruned(pixels, pixel_values_videos=pixels)
    with pytest.raises(TypeError, match="give the clips once"):
        pruned()
    with pytest.raises(TypeError, match="takes no argument labels"):
        pruned(pixels, labels=torch.zeros(3))
    with pytest.raises(ValueError, match="output_hidden_states=True is not offered"):
        pruned(pixels, output_hidden_states=True)
    with pytest.raises(ValueError, match="pixel_values has the shape"):
        pruned(pixels[:, 1:])


def test_the_predictor_is_not_run() -> None:
    model = encoder(ENCODERS[2])
    pruned, pixels = prune(model, None), pixels_for(model)
    original = model(pixels, skip_predictor=True)
    assert torch.equal(pruned(pixels, skip_predictor=True)[0], original.last_hidden_state)
    with pytest.raises(ValueError, match="the encoder alone is pruned"):
        pruned(pixels, skip_predictor=False)


@each_encoder
def test_a_classifier_of_videos_refuses_an_encoder(name: Model) -> None:
    model = encoder(name)
    frames, _, size, _ = adapt(model).clip_shape
    protocol = Protocol(sampling="segment", segments=1, crops=1, frames=frames, size=size)
    with pytest.raises(ValueError, match="an encoder without a head, which has no classes"):
        Classifier(prune(model, None), protocol)
