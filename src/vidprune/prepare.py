"""From what a user names to the model and the protocol that a command runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.checkpoints import load, name_classes
from vidprune.backbones.positions import PositionRule
from vidprune.backbones.quantized import Quantization
from vidprune.backbones.registry import adapt, has_head
from vidprune.exporting.running import Exported
from vidprune.inference import normalisation_of
from vidprune.labels import LABEL_SETS, label_names
from vidprune.pruned import take_recorded
from vidprune.video import PROTOCOLS, Protocol, class_names, normalise, plain_names, read_views

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# The label set that a protocol's checkpoints predict, where they do not carry names themselves.
_PROTOCOL_LABELS = {
    "k400": "kinetics400",
    "ssv2": "something_something_v2",
    "videoswin-k400": "kinetics400",
    "videoswin-ssv2": "something_something_v2",
}


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How videos are sampled: a preset, and what replaces its parts.

    Without a preset it is what the checkpoint records, or else one centre view.
    """

    protocol: str | None = None
    sampling: str | None = None
    segments: int | None = None
    crops: int | None = None
    stride: int | None = None
    frames: int | None = None
    size: int | None = None


def load_model(
    source: str,
    *,
    options: ViewOptions,
    arch: str | None = None,
    config: Path | None = None,
    positions: PositionRule = "interpolate",
    labels: str | None = None,
    dtype: str = "fp32",
    attn_implementation: str | None = None,
    onednn: bool = False,
    quantize: Quantization | None = None,
    head: bool | None = None,
) -> PreTrainedModel:
    """The dense model, made for the clips that `options` ask for, with names for its classes.

    Whatever reducer the checkpoint records is left out. `head` as in `load`; `labels` is a label
    set that ships with vidprune, or a file with one name per line.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not known; choose one of {', '.join(DTYPES)}")
    model = load(
        source,
        arch=arch,
        config=config,
        frames=options.frames,
        size=options.size,
        positions=positions,
        dtype=DTYPES[dtype],
        attn_implementation=attn_implementation,
        onednn=onednn,
        quantize=quantize,
        head=head,
    )
    take_recorded(model)
    if labels is not None:
        name_classes(model, names_in(labels))
    elif not has_head(model):
        return model
    elif not any(class_names_of(model)) and options.protocol in _PROTOCOL_LABELS:
        names = label_names(_PROTOCOL_LABELS[options.protocol])
        if len(names) == model.config.num_labels:
            name_classes(model, names)
    return model


def protocol_for(model: PreTrainedModel | Exported, options: ViewOptions) -> Protocol:
    """The views to take: the preset, or what the checkpoint records, with its parts replaced.

    Frames and size are the model's own, which `load_model` made to fit.
    """
    recorded = getattr(model.config, "view_protocol", None)
    if options.protocol is not None:
        if options.protocol not in PROTOCOLS:
            raise ValueError(
                f"protocol={options.protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}"
            )
        base = PROTOCOLS[options.protocol]
    else:
        base = Protocol(**recorded) if recorded else PROTOCOLS["single"]
    parts = {
        name: value
        for name in ("sampling", "segments", "crops", "stride")
        if (value := getattr(options, name)) is not None
    }
    if parts.get("sampling") == "segment":
        parts.setdefault("stride", 1)
    exported = isinstance(model, Exported)
    frames, _, height, width = model.record.clip_shape if exported else adapt(model).clip_shape
    if height != width:
        raise ValueError(f"the model takes {height}x{width} pixels, but views are square")
    return replace(base, **parts, frames=frames, size=height)


def read_clip(
    path: str | Path, model: PreTrainedModel, *, options: ViewOptions | None = None
) -> Tensor:
    """A video as the model's input, (V, T, 3, S, S) normalised; V is 1 unless `options` say else.

    Raises UnreadableVideo where the file cannot be read to its end.
    """
    views = read_views(path, protocol_for(model, options or ViewOptions()))
    pixels = normalise(views.pixels, normalisation_of(model), dtype=model.dtype)
    return pixels.to(model.device)


def class_names_of(model: PreTrainedModel) -> list[str | None]:
    """The names of the model's classes, each None where transformers made it up."""
    names = model.config.id2label
    return [None if names[index] == f"LABEL_{index}" else names[index] for index in sorted(names)]


def class_number(model: PreTrainedModel, text: str) -> int:
    """The class that `text` means, by its name or by its number.

    Raises ValueError where the model has no such class, or several of that name.
    """
    names = class_names_of(model)
    if text in names:
        if names.count(text) > 1:
            raise ValueError(f"label={text!r} names several classes; give the number of one")
        return names.index(text)
    if text.isascii() and text.isdigit() and int(text) < len(names):
        return int(text)
    raise ValueError(
        f"label={text!r} is no class of the model; give the name of one, or its number, 0 to "
        f"{len(names) - 1}"
    )


def fit_head(
    model: PreTrainedModel, names: Sequence[str] | None, count: int, *, anew: bool, seed: int
) -> bool:
    """Give the model a head for `count` classes, called `names`; whether it is a new one.

    The head that is there stays, unless `anew`, where it has these names, or where on one side
    there are none, as many classes. A new one has small weights, drawn by `seed`.

    Raises ValueError for a model without a head.
    """
    if not has_head(model):
        raise ValueError(
            f"model is a {type(model).__name__}, an encoder without a head; load a classifier's "
            "checkpoint, whatever its classes"
        )
    own = class_names_of(model)
    unnamed = not names or not any(own)
    fits = len(own) == count if unnamed else own == list(names or ())
    if fits and not anew:
        if names:
            name_classes(model, names)
        return False
    model.config.id2label = dict(enumerate(names or [f"LABEL_{index}" for index in range(count)]))
    model.config.label2id = {name: index for index, name in model.config.id2label.items()}
    head = torch.nn.Linear(model.classifier.in_features, count)
    weights = torch.Generator().manual_seed(seed)
    torch.nn.init.trunc_normal_(head.weight, std=0.01, generator=weights)
    torch.nn.init.zeros_(head.bias)
    model.classifier = head
    model.num_labels = count
    return True


def folder_classes(folder: Path, model: PreTrainedModel) -> tuple[str, ...]:
    """The classes of a folder of class folders: the model's own, in its order, where the folders
    are named after just these; else the folders' names, sorted.

    Raises ValueError where two folders are named after one class.
    """
    found, known = class_names(folder), class_names_of(model)
    if len(plain_names(found)) < len(found):
        raise ValueError(
            f"{folder} holds folders that differ by case or underscores alone, among "
            f"{', '.join(found[:8])}; make one of them"
        )
    if plain_names(found).keys() == plain_names(known).keys():
        return tuple(name for name in known if name is not None)
    return found


def names_in(labels: str) -> tuple[str, ...]:
    """The names of a label set that ships with vidprune, or of a file with one per line."""
    if labels in LABEL_SETS:
        return label_names(labels)
    if not Path(labels).is_file():
        raise FileNotFoundError(
            f"labels={labels!r} is neither a file with one name per line nor one of "
            f"{', '.join(LABEL_SETS)}"
        )
    try:
        return tuple(Path(labels).read_text(encoding="utf-8-sig").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(f"labels={labels!r} is not UTF-8; save it with that encoding") from error
