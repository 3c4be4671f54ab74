"""The pruned model: one forward loop for every backbone and every reducer."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from vidprune.backbones.base import SIGNALS, Backbone
from vidprune.backbones.registry import adapt
from vidprune.layout import Layout
from vidprune.merging import key_bias, pooling_weights, reduced
from vidprune.reducers.base import Reducer, Signals
from vidprune.reducers.schedule import Place, Stage
from vidprune.reducers.spec import parse

_LOSS_ARGUMENTS = {"num_items_in_batch"}


@dataclass(frozen=True)
class Trace:
    """Which tokens stayed, one entry per stage; a stage that drops nothing has none.

    `kept[i]` (B, K) int64: positions among the tokens that entered stage i, in the order kept.
    `origin[i]` (B, K) int64: the same tokens' places in the unpruned grid, flat, time-major.
    Where clips keep different numbers of tokens, both are -1 at padding.
    `owner[i]` (B, N) int64, of reducers that fold: for each token that entered stage i, the place
    in `kept[i]` of the survivor that stands for it; no entry where dropped ones are nobody's.
    """

    kept: tuple[Tensor, ...]
    origin: tuple[Tensor, ...]
    owner: tuple[Tensor, ...] = ()


torch.export.register_dataclass(Trace, serialized_type_name="vidprune.Trace")


@dataclass
class PrunedOutput(ImageClassifierOutput):
    """A Hugging Face classifier output; `trace` is there when it was asked for."""

    trace: Trace | None = None


def run(
    backbone: Backbone,
    reducer: Reducer | None,
    stages: Sequence[Stage],
    pixel_values: Tensor,
    clip_keys: Tensor | None = None,
) -> tuple[Tensor, Trace]:
    """Logits (B, classes) and the trace of clips (B, T, 3, H, W).

    `clip_keys` (B,) int64 seeds the draws of reducers that make any; None derives it from the
    pixels. Without stages this is the model's own forward.
    """
    layout = _whole(backbone, reducer, pixel_values, clip_keys)
    live = _Live(backbone.embed(pixel_values), layout, Trace((), ()))
    due = {(stage.block, stage.place): stage for stage in stages}
    proportional = reducer is not None and "proportional_attention" in reducer.needs
    for block in range(backbone.depth):
        if stage := due.get((block, Place.BEFORE_BLOCK)):
            live = _reduce(live, reducer, stage, _pixels(backbone, reducer, pixel_values))
        bias = key_bias(live.layout, proportional=proportional)
        tokens, normalised = backbone.attend(block, live.tokens, bias)
        live = replace(live, tokens=tokens)
        if stage := due.get((block, Place.AFTER_ATTENTION)):
            signals = _signals(backbone, reducer, block, normalised, bias)
            live = _reduce(live, reducer, stage, signals)
        live = replace(live, tokens=backbone.feed_forward(block, live.tokens))
        if stage := due.get((block, Place.AFTER_BLOCK)):
            signals = _signals(backbone, reducer, block, normalised, bias)
            live = _reduce(live, reducer, stage, signals)
    return backbone.classify(live.tokens, pooling_weights(live.layout)), live.trace


@dataclass(frozen=True)
class _Live:
    """The tokens (B, N, C) that are left, where they lie, and which went at each stage."""

    tokens: Tensor
    layout: Layout
    trace: Trace


def _whole(
    backbone: Backbone, reducer: Reducer | None, pixel_values: Tensor, clip_keys: Tensor | None
) -> Layout:
    """The layout before anything is dropped."""
    if reducer is None or "clip_keys" not in reducer.needs:
        clip_keys = None
    else:
        given = pixel_keys(pixel_values) if clip_keys is None else clip_keys
        clip_keys = given.to(pixel_values.device)
    places = torch.arange(backbone.grid.tokens, device=pixel_values.device)
    origin = places.expand(pixel_values.shape[0], -1)
    return Layout(grid=backbone.grid, origin=origin, clip_keys=clip_keys)


def _pixels(backbone: Backbone, reducer: Reducer | None, pixel_values: Tensor) -> Signals:
    """What there is before any block has run."""
    wanted = reducer is not None and "pixels" in reducer.needs
    return Signals(pixels=backbone.patches(pixel_values) if wanted else None)


def _signals(
    backbone: Backbone,
    reducer: Reducer | None,
    block: int,
    normalised: Tensor,
    bias: Tensor | None,
) -> Signals:
    """What the reducer needs of this block's attention, and nothing else."""
    needs = frozenset() if reducer is None else reducer.needs
    means = {name: backbone.head_mean(block, normalised, name) for name in SIGNALS if name in needs}
    seen = backbone.attention_map(block, normalised, bias) if "attention" in needs else None
    return Signals(**means, attention=seen)


def _reduce(live: _Live, reducer: Reducer | None, stage: Stage, signals: Signals) -> _Live:
    """One stage: choose, gather, fold, and note who stayed."""
    assert reducer is not None, "stages are a reducer's"
    # Where clips keep different numbers, fewer may enter than were planned.
    assert live.tokens.shape[1] <= stage.entering, "the plan fits the tokens"
    reduction = reducer(live.tokens, signals, live.layout, stage)
    tokens, layout = reduced(live.tokens, live.layout, reduction)
    kept, origin = reduction.keep, layout.origin
    if layout.valid is not None:
        kept, origin = (places.masked_fill(~layout.valid, -1) for places in (kept, origin))
    owner = () if reduction.owner is None else (reduction.owner,)
    trace = Trace(
        (*live.trace.kept, kept), (*live.trace.origin, origin), (*live.trace.owner, *owner)
    )
    return _Live(tokens, layout, trace)


def _check_clips(pixel_values: Tensor, clip_shape: tuple[int, ...]) -> None:
    if tuple(pixel_values.shape[1:]) != clip_shape:
        raise ValueError(
            f"pixel_values has the shape {tuple(pixel_values.shape)}, but the model takes (batch, "
            f"{', '.join(map(str, clip_shape))}): batch, frames, channels, height, width; sample "
            "the clips so, or load the model with other frames= and size="
        )


def pixel_keys(pixel_values: Tensor) -> Tensor:
    """A number per clip that depends on its pixels (B, T, 3, H, W) and on nothing else, (B,) int64.

    Integer sums wrap and commute, so the batch around a clip cannot change it. Pixels in half
    precision are other pixels, and give another key.
    """
    bits = pixel_values.float().contiguous().flatten(1).view(torch.int32).to(torch.int64)
    weights = torch.arange(bits.shape[1], device=bits.device) * 2 + 0x9E3779B1
    return (bits * weights).sum(1)


class Pruned(PreTrainedModel):
    """What `prune` lays over a model's own class: the reducer, its plan and the forward loop."""

    # Kept out of the registered modules: the weights are shared, not held twice.
    dense: PreTrainedModel
    # The class may also be loaded by itself (`from_pretrained`), and is dense then.
    reducer: Reducer | None = None
    stages: tuple[Stage, ...] = ()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        *,
        clip_keys: Tensor | None = None,
        return_trace: bool = False,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> PrunedOutput | tuple[Any, ...]:
        """Classify clips.

        `pixel_values` (B, T, 3, H, W): normalised. `labels` (B,): adds `loss`.
        `clip_keys` (B,) int64: seeds random draws per clip; by default taken from the pixels.
        `return_trace` adds `trace`: which tokens stayed.
        """
        self._refuse_arguments(kwargs)
        _check_clips(pixel_values, adapt(self).clip_shape)
        logits, trace = run(adapt(self), self.reducer, self.stages, pixel_values, clip_keys)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        output = PrunedOutput(loss=loss, logits=logits, trace=trace if return_trace else None)
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()

    def _refuse_arguments(self, kwargs: dict[str, Any]) -> None:
        """Leave in `kwargs` what the loss takes."""
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.pop(name, None) or getattr(self.config, name, False):
                raise ValueError(
                    f"{name}=True is not offered by a pruned model, whose blocks see different "
                    "tokens; ask unprune(model) for it, or use return_trace=True"
                )
        if unknown := kwargs.keys() - _LOSS_ARGUMENTS:
            raise TypeError(f"a pruned model takes no argument {', '.join(sorted(unknown))}")

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time: copies and pickles are pruned anew from the dense model.
        return prune, (self.dense, self.reducer), {"training": self.training}


def prune(model: PreTrainedModel, reducer: Reducer | str | None) -> PreTrainedModel:
    """The same model with tokens dropped between its blocks.

    `reducer`: for example `STA(r=64)`, its text `"sta:r=64"`, or None. What comes back is an
    instance of the model's own class (so it goes wherever that goes), shares its weights, takes
    `return_trace=True`, and leaves `model` itself as it is; `unprune` gives that back.
    Pruning a pruned model replaces its reducer. As the weights are shared, `.to()` and
    `.train()` on either reach both. `save_pretrained` saves the dense model, without the reducer.

    Raises TypeError for a model that no backbone adapter knows or that is spread over devices, and
    for what is no reducer; ValueError where the reducer does not fit the model.
    """
    reducer = parse(reducer) if isinstance(reducer, str) else reducer
    if isinstance(reducer, type) or not (reducer is None or isinstance(reducer, Reducer)):
        raise TypeError(
            f"reducer={reducer!r} is no reducer; give one with its settings, such as STA(r=64), "
            'its text, such as "sta:r=64", or None'
        )
    dense = unprune(model)
    if len(set(getattr(dense, "hf_device_map", {}).values())) > 1:
        raise TypeError("model is spread over several devices (device_map); load it onto one")
    backbone = adapt(dense)
    stages = reducer.plan(backbone.depth, backbone.grid) if reducer is not None else ()
    kind = _pruned_class(type(dense))  # type: ignore[arg-type]
    pruned: PreTrainedModel = kind.__new__(kind)
    for name, value in vars(dense).items():
        # Weights and modules are shared; the tables that hold them, and those of hooks, are not.
        pruned.__dict__[name] = copy.copy(value) if isinstance(value, dict) else value
    for name in ("forward", "_compiled_call_impl"):
        # Laid over the dense model's own forward, by accelerate or `model.compile()`.
        pruned.__dict__.pop(name, None)
    pruned.__dict__.update(dense=dense, reducer=reducer, stages=stages)
    return pruned


def unprune(model: PreTrainedModel) -> PreTrainedModel:
    """The original model under a pruned one; any other model is handed back as it is."""
    return model.dense if isinstance(model, Pruned) and hasattr(model, "dense") else model


@cache
def _pruned_class(kind: type) -> Any:
    """`kind` with the pruned forward. It keeps its name, by which pipelines know models."""
    if issubclass(kind, Pruned):
        return kind
    return type(kind.__name__, (Pruned, kind), {"__doc__": Pruned.__doc__})
