"""What the arguments ask for as a model, ready to classify."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vidprune.printable import shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vidprune.assembly import Assembly
    from vidprune.inference import Classifier
    from vidprune.video import Protocol

_VIEWS = ("protocol", "sampling", "segments", "crops", "stride", "frames", "size")
_NAMED_ALIKE = (
    *("reducer", "arch", "config", "positions", "labels", "dtype", "attn_implementation"),
    *("onednn", "quantize", "batch_size", "decoder"),
)


def checkpoint_name(arguments: argparse.Namespace) -> str:
    """How records name the model."""
    return " ".join(filter(None, (arguments.model, arguments.arch)))


def make_classifier(arguments: argparse.Namespace) -> "Classifier":
    """The model with its one reducer."""
    (classifier,) = make_classifiers(arguments, [arguments.reducer])
    return classifier


def make_classifiers(arguments: argparse.Namespace, reducers: Sequence[str]) -> list["Classifier"]:
    """The model with each of these reducers, over the same weights."""
    from vidprune.inference import Classifier, named_device

    assembly = assembly_of(arguments)
    device = named_device(arguments.device) if arguments.device else None
    models, protocol = assembly.models(reducers, device)
    tell_random_weights(arguments)
    found = [assembly.ready(model, protocol, device) for model in models]
    return [each for each in found if isinstance(each, Classifier)]


def make_models(
    arguments: argparse.Namespace, reducers: Sequence[str]
) -> tuple[list["PreTrainedModel"], "Protocol"]:
    """The model with each of these reducers, over the same weights, and the views it is given."""
    check_no_export(arguments)
    found = assembly_of(arguments).models(reducers)
    tell_random_weights(arguments)
    return found


def check_no_export(arguments: argparse.Namespace) -> None:
    """Raise ValueError for an exported model, where a command takes weights."""
    from vidprune.exporting.record import is_exported

    if is_exported(arguments.model):
        raise ValueError(
            f"{arguments.model} is exported; predict, evaluate and embed take it, and other "
            "commands the checkpoint that it was made of"
        )


def assembly_of(arguments: argparse.Namespace, *, head: bool | None = None) -> "Assembly":
    """What the arguments say of a model; not every verb has all of them."""
    from vidprune.assembly import Assembly
    from vidprune.prepare import ViewOptions

    return Assembly(
        source=arguments.model,
        options=ViewOptions(**{name: getattr(arguments, name) for name in _VIEWS}),
        head=head,
        compiled=getattr(arguments, "compile", False),
        replayed=getattr(arguments, "replay", False),
        **{name: getattr(arguments, name) for name in _NAMED_ALIKE if hasattr(arguments, name)},
    )


def tell_random_weights(arguments: argparse.Namespace) -> None:
    """Say so where a model is named by its architecture alone."""
    from vidprune.backbones.architectures import ARCHITECTURES

    if arguments.model in ARCHITECTURES and not Path(arguments.model).exists():
        print(f"vidprune: {shown(arguments.model)} has random weights", file=sys.stderr)
