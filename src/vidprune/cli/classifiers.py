"""What the arguments ask for as a model, ready to classify."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vidprune.inference import Classifier
    from vidprune.video import Protocol


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

    models, protocol = make_models(arguments, reducers)
    return [
        Classifier(
            model,
            protocol,
            batch_size=arguments.batch_size,
            device=named_device(arguments.device) if arguments.device else None,
            compiled=arguments.compile,
        )
        for model in models
    ]


def make_models(
    arguments: argparse.Namespace, reducers: Sequence[str]
) -> tuple[list["PreTrainedModel"], "Protocol"]:
    """The model with each of these reducers, over the same weights, and the views it is given."""
    from vidprune.prepare import ViewOptions, load_model, protocol_for
    from vidprune.pruned import prune

    names = ("protocol", "sampling", "segments", "crops", "stride", "frames", "size")
    options = ViewOptions(**{name: getattr(arguments, name) for name in names})
    model = load_model(
        arguments.model,
        options=options,
        arch=arguments.arch,
        config=arguments.config,
        positions=arguments.positions,
        labels=arguments.labels,
        dtype=arguments.dtype,
        attn_implementation=arguments.attn_implementation,
        onednn=arguments.onednn,
    )
    tell_random_weights(arguments)
    return [prune(model, reducer) for reducer in reducers], protocol_for(model, options)


def tell_random_weights(arguments: argparse.Namespace) -> None:
    """Say so where a model is named by its architecture alone."""
    from vidprune.backbones.architectures import ARCHITECTURES

    if arguments.model in ARCHITECTURES and not Path(arguments.model).exists():
        print(f"vidprune: {arguments.model} has random weights", file=sys.stderr)
