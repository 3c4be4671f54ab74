"""The pruned model: a reducer, its plan and the forward loop laid over a model's own class."""

import copy
import os
from collections import OrderedDict
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from vidprune.backbones.base import Backbone
from vidprune.backbones.embedding import keep_tables_near
from vidprune.backbones.registry import adapt
from vidprune.choosing import answer_by_content
from vidprune.filling import FILLINGS, Filling
from vidprune.merging import pooling_weights
from vidprune.model import Trace, encode, run
from vidprune.outputs import PrunedFeatures, PrunedOutput, check_clips, on_grid, valid_of
from vidprune.planning import stages_for
from vidprune.reducers.base import Reducer
from vidprune.reducers.by_content import ByContent
from vidprune.reducers.schedule import Stage
from vidprune.reducers.spec import describe, parse
from vidprune.video import IMAGENET

_LOSS_ARGUMENTS = {"num_items_in_batch"}
# In a configuration, the text of the reducer that a model was saved with.
RECORDED = "vidprune_reducer"
# Where a module holds its weights and what it is made of.
_WEIGHTS = ("_parameters", "_buffers", "_modules")
# What is called before and after a module's forward.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# By which name the families take their pixels.
_PIXELS = ("pixel_values", "pixel_values_videos")


class Pruned(PreTrainedModel):
    """What `prune` lays over a model's own class: the reducer, its plan and the forward loop."""

    # Kept out of the registered modules: the weights are shared, not held twice.
    dense: PreTrainedModel
    # The class may also be loaded by itself (`from_pretrained`), and is dense then.
    reducer: Reducer | None = None
    stages: tuple[Stage, ...] = ()

    def _clips(self, pixel_values: Tensor | None, kwargs: dict[str, Any]) -> Tensor:
        """The pixels, by whichever name they came; leave in `kwargs` what the loss takes."""
        videos = kwargs.pop("pixel_values_videos", None)
        if (pixel_values is None) == (videos is None):
            raise TypeError(f"give the clips once, as {' or as '.join(_PIXELS)}")
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.pop(name, None) or getattr(self.config, name, False):
                raise ValueError(
                    f"{name}=True is not offered by a pruned model, whose blocks see different "
                    "tokens; ask unprune(model) for it, or use return_trace=True"
                )
        if kwargs.pop("skip_predictor", True) is not True:
            raise ValueError("skip_predictor=False is not offered: the encoder alone is pruned")
        if unknown := kwargs.keys() - _LOSS_ARGUMENTS:
            raise TypeError(f"a pruned model takes no argument {', '.join(sorted(unknown))}")
        given = videos if pixel_values is None else pixel_values
        assert given is not None, "one of the two was given"
        check_clips(given, adapt(self).clip_shape)
        return given

    def _finished(self, output: Any, return_dict: bool | None) -> Any:
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return output if wants_dict else output.to_tuple()

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any
    ) -> None:
        """As transformers do, the dense weights; the configuration also records the reducer, by
        which `vidprune.load` prunes the model again, and the card says so. Without a reducer
        nothing is recorded, and what a card said of an earlier one is taken out.

        `push_to_hub` uploads the same. Raises ValueError for a reducer of one's own, which no text
        names.
        """
        recorded = copy.deepcopy(self.config)
        if self.reducer is not None:
            setattr(recorded, RECORDED, _text_of(self.reducer))
        own = self.__dict__["config"]
        self.__dict__["config"] = recorded
        try:
            super().save_pretrained(save_directory, *arguments, **options)
        finally:
            self.__dict__["config"] = own
        if Path(save_directory).is_dir():
            _write_section(self, Path(save_directory), options.get("repo_id"))

    @classmethod
    def from_pretrained(cls, *args: Any, **options: Any) -> Any:
        """As transformers do, with the reducer that the configuration records."""
        found = super().from_pretrained(*args, **options)
        model, *rest = found if isinstance(found, tuple) else (found,)
        model = as_recorded(model)
        return (model, *rest) if rest else model

    def _upload_modified_files(
        self, working_dir: Any, repo_id: str, *args: Any, **rest: Any
    ) -> Any:
        # transformers' `push_to_hub` has put a card of its own there.
        _write_section(self, Path(working_dir), repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **rest)

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time: copies and pickles are pruned anew from the dense model.
        return prune, (self.dense, self.reducer), {"training": self.training}


class PrunedClassifier(Pruned):
    """The forward of a model with a head."""

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        clip_keys: Tensor | None = None,
        return_trace: bool = False,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> PrunedOutput | tuple[Any, ...]:
        """Classify clips.

        `pixel_values` (B, T, 3, H, W): normalised; `pixel_values_videos` is another name for it.
        `labels` (B,): adds `loss`. `clip_keys` (B,) int64: seeds random draws per clip; by default
        taken from the pixels. `return_trace` adds `trace`: which tokens stayed.
        """
        self._check_asked(return_trace)
        clips = self._clips(pixel_values, kwargs)
        logits, trace, setting = self._answered(clips, clip_keys)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)
        output = PrunedOutput(loss=loss, logits=logits, trace=trace if return_trace else None)
        if setting is not None:
            # Beside the output's items, which a Trainer takes for predictions.
            object.__setattr__(output, "setting", setting)
        return self._finished(output, return_dict)

    def _check_asked(self, return_trace: bool) -> None:
        """Refuse what this model cannot give."""

    def _answered(
        self, clips: Tensor, clip_keys: Tensor | None
    ) -> tuple[Tensor, Trace | None, Tensor | None]:
        """Logits, which tokens stayed, and which setting answered, where that is to be told."""
        return *run(adapt(self), self.reducer, self.stages, clips, clip_keys), None


class ClassifierByContent(PrunedClassifier):
    """The forward of a model with a head that classifies each clip by the setting that its content
    asks for; the output's `setting` says which answered.

    Raises ValueError for `return_trace`, since clips keep different numbers of tokens, and where a
    graph is to be exported, which it is not.
    """

    # One for each setting, over the same weights.
    settings: tuple[PreTrainedModel, ...]

    def train(self, mode: bool = True) -> "ClassifierByContent":
        """As of any module; the settings are no modules of it, and go along."""
        super().train(mode)
        for setting in self.settings:
            setting.training = mode
        return self

    def _check_asked(self, return_trace: bool) -> None:
        if return_trace:
            raise ValueError(
                "return_trace=True is not offered by a budget by content, whose clips keep "
                "different numbers of tokens; ask one of model.settings for it"
            )
        if torch.compiler.is_exporting():
            stages_for(adapt(self), self.reducer)

    def _answered(
        self, clips: Tensor, clip_keys: Tensor | None
    ) -> tuple[Tensor, Trace | None, Tensor | None]:
        logits, setting = answer_by_content(
            self.reducer,  # type: ignore[arg-type]
            [partial(_logits_of, model) for model in self.settings],
            clips,
            partial(_as_seen, clips, self.config),
            clip_keys,
        )
        return logits, None, setting


def _logits_of(model: PreTrainedModel, clips: Tensor, clip_keys: Tensor | None) -> Tensor:
    found: Tensor = model(clips, clip_keys=clip_keys).logits
    return found


def _as_seen(clips: Tensor, config: PreTrainedConfig) -> Tensor:
    """Normalised clips (B, T, 3, H, W) by values in [0, 1], but for a colour's mean, which does not
    change from frame to frame."""
    std = getattr(config, "image_std", None) or IMAGENET.std
    return clips * torch.tensor(std, device=clips.device).view(3, 1, 1)


class PrunedEncoder(Pruned):
    """The forward of a model without a head."""

    def forward(
        self,
        pixel_values: Tensor | None = None,
        *,
        clip_keys: Tensor | None = None,
        dense: Filling | None = None,
        return_trace: bool = False,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> PrunedFeatures | tuple[Any, ...]:
        """Embed clips.

        `pixel_values` (B, T, 3, H, W): normalised; `pixel_values_videos` is another name for it.
        `dense` adds `dense_features`, in which a dropped place takes the feature of the survivor
        that lies "nearest", or of the "owner" that its token was folded into. `clip_keys` (B,)
        int64: seeds random draws per clip; by default taken from the pixels. `return_trace` adds
        `trace`: which tokens stayed.

        Raises ValueError for dense="owner" where the reducer folds nothing.
        """
        if dense is not None and dense not in FILLINGS:
            raise ValueError(f"dense={dense!r} is not known; choose one of {', '.join(FILLINGS)}")
        backbone, clips = adapt(self), self._clips(pixel_values, kwargs)
        encoded = encode(backbone, self.reducer, self.stages, clips, clip_keys)
        features = backbone.features(encoded.tokens)
        pooled = backbone.pool(features, pooling_weights(encoded.layout))
        output = PrunedFeatures(
            last_hidden_state=features,
            pooler_output=pooled,
            dense_features=None if dense is None else on_grid(backbone, features, encoded, dense),
            valid=valid_of(backbone, encoded),
            trace=encoded.trace if return_trace else None,
        )
        return self._finished(output, return_dict)


def prune(model: PreTrainedModel, reducer: Reducer | str | None) -> PreTrainedModel:
    """The same model with tokens dropped between its blocks.

    `reducer`: for example `STA(r=64)`, its text `"sta:r=64"`, a recipe's file, a budget by content
    (`ByContent`), or None. What comes back is an instance of the model's own class (so it goes
    wherever that goes), shares its weights, takes `return_trace=True`, and leaves `model` itself as
    it is; `unprune` gives that back. A model without a head gives features (see `PrunedFeatures`),
    one with a head gives logits.
    Pruning a pruned model replaces its reducer. As the weights are shared, `.to()` and
    `.train()` on either reach both, and so does a module that is put in the place of another, such
    as a new head. `save_pretrained` saves the dense weights with the reducer's text.

    Raises TypeError for a model that no backbone adapter knows or that is spread over devices, and
    for what is no reducer; ValueError where the reducer does not fit the model.
    """
    reducer = parse(reducer) if isinstance(reducer, str) else reducer
    known = reducer is None or isinstance(reducer, ByContent | Reducer)
    if isinstance(reducer, type) or not known:
        raise TypeError(
            f"reducer={reducer!r} is no reducer; give one with its settings, such as STA(r=64), "
            'its text, such as "sta:r=64", or None'
        )
    dense = unprune(model)
    if len(set(getattr(dense, "hf_device_map", {}).values())) > 1:
        raise TypeError("model is spread over several devices (device_map); load it onto one")
    keep_tables_near(dense)
    backbone = adapt(dense)
    found = _own(dense, reducer)
    kind = _pruned_class(type(dense), _forward_for(backbone, reducer))  # type: ignore[arg-type]
    pruned: PreTrainedModel = kind.__new__(kind)
    for name, value in vars(dense).items():
        # Weights and modules are shared, with the tables that hold them; those of hooks are not.
        own = isinstance(value, dict) and name not in _WEIGHTS
        pruned.__dict__[name] = copy.copy(value) if own else value
    for name in ("forward", "_compiled_call_impl"):
        # Laid over the dense model's own forward, by accelerate or `model.compile()`.
        pruned.__dict__.pop(name, None)
    pruned.__dict__.update(dense=dense, reducer=reducer, **found)
    return pruned


def _own(dense: PreTrainedModel, reducer: Reducer | None) -> dict[str, Any]:
    """What a pruned model has beside its reducer: a plan, or a model for each setting."""
    if isinstance(reducer, ByContent):
        settings = tuple(prune(dense, each) for each in reducer.settings)
        for setting in settings:
            # Those of the model itself are called, once.
            setting.__dict__.update({name: OrderedDict() for name in _HOOKS})
        return {"settings": settings}
    return {"stages": stages_for(adapt(dense), reducer)}


def _forward_for(backbone: Backbone, reducer: Reducer | None) -> type[Pruned]:
    """The class whose forward it is."""
    if not isinstance(reducer, ByContent):
        return PrunedClassifier if backbone.has_head else PrunedEncoder
    if not backbone.has_head:
        raise ValueError(
            f"a budget by {reducer.signal} takes a model that classifies, and this is an encoder "
            "without a head; give it one of the settings, or none"
        )
    return ClassifierByContent


def as_recorded(model: PreTrainedModel) -> PreTrainedModel:
    """The model pruned as its configuration records, where it does.

    Raises ValueError where this vidprune does not know that reducer, or it does not fit.
    """
    recorded = take_recorded(model)
    if recorded is None:
        return model
    try:
        return prune(model, recorded)
    except ValueError as error:
        raise ValueError(
            f"the checkpoint records {RECORDED}={recorded!r}, which cannot be: {error}; take it "
            "out of its config.json for the dense model"
        ) from error


def take_recorded(model: PreTrainedModel) -> str | None:
    """The text of the reducer that a configuration records, which then records none: it belongs to
    the pruned model, not to the dense one beneath."""
    recorded: object = vars(model.config).pop(RECORDED, None)
    return None if recorded is None else str(recorded)


def _text_of(reducer: Reducer) -> str:
    """By which it is known again. Raises ValueError where none is."""
    text = describe(reducer)
    try:
        found = parse(text)
    except ValueError:
        found = None
    if found != reducer:
        raise ValueError(
            f"reducer={reducer!r} cannot be recorded: no text gives it back when the model is "
            "loaded; save unprune(model), and prune that again once it is loaded"
        )
    return text


def _write_section(model: PreTrainedModel, folder: Path, name: str | None) -> None:
    # What counts multiply-accumulates knows pruned models.
    from vidprune.cards import write_section

    write_section(model, folder, name)


def unprune(model: PreTrainedModel) -> PreTrainedModel:
    """The original model under a pruned one, with what has since been put in the place of its
    modules and weights, on either; any other model is handed back as it is."""
    return model.dense if isinstance(model, Pruned) and hasattr(model, "dense") else model


@cache
def _pruned_class(kind: type, forward: type[Pruned]) -> Any:
    """`kind` with a pruned forward. It keeps its name, by which pipelines know models."""
    if issubclass(kind, Pruned):
        return kind
    return type(kind.__name__, (forward, kind), {"__doc__": forward.__doc__})
