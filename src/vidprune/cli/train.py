"""`vidprune train`."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import checkpoint_name, tell_random_weights
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.options import SPECS, add_source, add_views, add_workers, named_path
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vidprune.commands.train import Recipe
    from vidprune.training.record import Training
    from vidprune.video import Sample

# Of a head whose classes only labels count; the largest published have some thousands.
MOST_CLASSES = 100_000


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="fine-tune a model, dense or with a reducer attached",
        description="Fine-tune a model on labelled videos with transformers' Trainer. The output "
        "folder gets model/ (for --model of every command), train.json and log.jsonl; the same "
        "command takes up a run that was cut off, and torchrun shares it over processes. Defaults "
        "are VideoMAE's for Kinetics.",
    )
    verb.add_argument(
        "--data",
        type=named_path,
        required=True,
        metavar="PATH",
        help="list file of `path label` lines, folder with such a train.csv, or folder of folders "
        "named after the classes",
    )
    verb.add_argument(
        "--validation", type=named_path, metavar="PATH", help="the same, to evaluate on (nothing)"
    )
    verb.add_argument(
        "--output", type=named_path, required=True, metavar="DIR", help="folder of the run"
    )
    _add_model(verb)
    _add_schedule(verb)
    _add_chance(verb)
    add_views(verb)
    return verb


def _add_model(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("model")
    add_source(group)
    group.add_argument(
        "--labels",
        metavar="SET",
        help="names of the classes: kinetics400, something_something_v2, or a file",
    )
    group.add_argument("--new-head", action="store_true", help="begin with a new head in any case")
    group.add_argument(
        "--reducer", default="none", metavar="SPEC", help=f"while training: none, {SPECS} (none)"
    )
    group.add_argument(
        "--evaluate-with",
        nargs="+",
        metavar="SPEC",
        help="reducers to evaluate the finished model with (none, and that of --reducer)",
    )
    group.add_argument("--device", help="cuda, mps or cpu (the best there is)")


def _add_schedule(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("schedule")
    for name, kind, default, what in (
        ("epochs", int, 75, ""),
        ("batch-size", int, 8, "videos in a step of one process "),
        ("accumulate", int, 1, "steps before an update "),
        ("learning-rate", float, 5e-4, "for 256 videos at once; scaled to an update's "),
        ("warmup-epochs", float, 5, ""),
        ("layer-decay", float, 0.75, "learning rate of a block over that of the next "),
        ("weight-decay", float, 0.05, ""),
        ("clip-gradients", float, 5.0, "largest norm "),
        ("seed", int, 0, ""),
        ("evaluate-every", int, 1, "epochs "),
        ("save-every", int, 1, "epochs "),
    ):
        group.add_argument(
            f"--{name}", type=kind, default=default, metavar="N", help=f"{what}({default})"
        )
    group.add_argument(
        "--optimizer",
        choices=("adamw", "muon"),
        default="adamw",
        help="muon: for the matrices of the blocks, with adamw for the rest (adamw)",
    )
    group.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of autocast (fp32)"
    )
    group.add_argument("--compile", action="store_true", help="compile the model")
    add_workers(group, beside_a_model=False)
    group.add_argument("--tensorboard", action="store_true", help="also write DIR/tensorboard")
    group.add_argument(
        "--restart", action="store_true", help="discard what the output folder holds of a run"
    )


def _add_chance(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("augmentation")
    group.add_argument(
        "--repeats", type=int, default=2, metavar="N", help="clips of each video in a batch (2)"
    )
    group.add_argument(
        "--crop-area",
        nargs=2,
        type=float,
        default=(0.08, 1.0),
        metavar=("FROM", "TO"),
        help="share of the frame that a crop covers (0.08 1)",
    )
    group.add_argument(
        "--no-flip", action="store_true", help="for classes in which left and right matter"
    )
    for name, kind, default, what in (
        ("operations", int, 4, "of RandAugment, 0 for none "),
        ("magnitude", float, 7.0, "of RandAugment, 0 to 10 "),
        ("erasing", float, 0.25, "how likely a rectangle becomes noise "),
        ("mixup", float, 0.8, "0 for none "),
        ("cutmix", float, 1.0, "0 for none "),
        ("smoothing", float, 0.1, "of labels "),
    ):
        group.add_argument(
            f"--{name}", type=kind, default=default, metavar="N", help=f"{what}({default:g})"
        )


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.train import Job, Machine, Named, train
    from vidprune.inference import best_device, named_device
    from vidprune.parallel import join, leave
    from vidprune.prepare import protocol_for

    _check_extras(arguments)
    _check_arguments(arguments)
    recipe = _recipe(arguments)
    process = join()
    try:
        model, samples, validation, options = _prepared(arguments)
        job = Job(
            model=model,
            protocol=protocol_for(model, options),
            samples=samples,
            output=arguments.output,
            recipe=recipe,
            named=Named(
                checkpoint=checkpoint_name(arguments),
                data=str(arguments.data),
                command=arguments.command,
            ),
            machine=Machine(
                device=named_device(arguments.device) if arguments.device else best_device(),
                workers=arguments.workers,
                compiled=arguments.compile,
                process=process,
            ),
            validation=validation,
            tensorboard=arguments.tensorboard,
        )
        found = train(job, restart=arguments.restart, observe=_tell_progress)
    finally:
        leave()
    if found is not None:
        _tell(found, arguments.output)
        if found.unreadable or any(report.unreadable for report in found.evaluations):
            return FAILURE
    return 0


def _prepared(
    arguments: argparse.Namespace,
) -> "tuple[PreTrainedModel, tuple[Sample, ...], tuple[Sample, ...], Any]":
    """The model with a head for the classes of the videos, and the videos."""
    from vidprune.prepare import (
        ViewOptions,
        class_names_of,
        fit_head,
        folder_classes,
        load_model,
        names_in,
    )
    from vidprune.video import read_dataset

    names = ("protocol", "sampling", "segments", "crops", "stride", "frames", "size")
    options = ViewOptions(**{name: getattr(arguments, name) for name in names})
    model = load_model(
        arguments.model, options=options, arch=arguments.arch, config=arguments.config
    )
    tell_random_weights(arguments)
    classes = None if arguments.labels is None else names_in(arguments.labels)
    named_by_folders = classes is None and _is_of_folders(arguments.data, "train")
    if named_by_folders:
        classes = folder_classes(arguments.data, model)
    samples = read_dataset(arguments.data, split="train", classes=classes)
    if named_by_folders:
        _check_filled(arguments.data, classes or (), samples)
    validation: tuple[Sample, ...] = ()
    if arguments.validation is not None:
        known = classes or class_names_of(model)
        validation = read_dataset(arguments.validation, split="test", classes=known)
    if classes is None:
        count = max(
            _classes_of(samples, arguments.data, model),
            _classes_of(validation, arguments.validation, model),
        )
    else:
        count = len(classes)
    if fit_head(model, classes, count, anew=arguments.new_head, seed=arguments.seed):
        print(f"vidprune: a new head for {count} classes", file=sys.stderr)
    return model, samples, validation, options


def _is_of_folders(data: Path, split: str) -> bool:
    """Whether it is a folder of folders named after the classes."""
    return data.is_dir() and not (data / f"{split}.csv").exists()


def _check_filled(data: Path, classes: Sequence[str], samples: "Sequence[Sample]") -> None:
    """Raise ValueError for a class of a folder without videos, of which nothing can be learned."""
    learned = {sample.label for sample in samples}
    if empty := [name for label, name in enumerate(classes) if label not in learned]:
        raise ValueError(
            f"{data}: the folder of class {empty[0]!r} holds no video; put some there, take it "
            "away, or name all classes that there are to be (--labels)"
        )


def _classes_of(samples: "Sequence[Sample]", listed: Path, model: "PreTrainedModel") -> int:
    """As many as the largest label says.

    Raises ValueError where that is more than any head has, which is a slip, and takes all memory.
    """
    last = max(samples, key=lambda sample: sample.label, default=None)
    if last is None:
        return 0
    if last.label >= max(MOST_CLASSES, model.config.num_labels):
        raise ValueError(
            f"label {last.label} of {last.name} in {listed} asks for a head of {last.label + 1} "
            f"classes; labels must be below {MOST_CLASSES}, unless the model has more or --labels "
            "names them; number the classes from 0"
        )
    return last.label + 1


def _recipe(arguments: argparse.Namespace) -> "Recipe":
    from vidprune.commands.train import Recipe
    from vidprune.training.augment import Augmentation
    from vidprune.training.mixing import Mixing
    from vidprune.training.schedule import Schedule

    def of(*names: str) -> dict[str, Any]:
        return {name: getattr(arguments, name) for name in names}

    attached = arguments.reducer
    return Recipe(
        schedule=Schedule(
            **of("epochs", "batch_size", "accumulate", "learning_rate", "warmup_epochs"),
            **of("layer_decay", "weight_decay", "clip_gradients", "optimizer", "precision", "seed"),
        ),
        augmentation=Augmentation(
            crop_area=tuple(arguments.crop_area),
            flip=not arguments.no_flip,
            **of("operations", "magnitude", "erasing"),
        ),
        mixing=Mixing(**of("mixup", "cutmix", "smoothing")),
        **of("repeats", "evaluate_every", "save_every"),
        reducer=attached,
        evaluated=tuple(dict.fromkeys(arguments.evaluate_with or ("none", attached))),
    )


def _check_extras(arguments: argparse.Namespace) -> None:
    from importlib.util import find_spec

    needed = ["accelerate", *(["tensorboard"] if arguments.tensorboard else [])]
    for name in needed:
        if find_spec(name) is None:
            raise ValueError(f"train needs {name}; install vidprune[train]")


def _check_arguments(arguments: argparse.Namespace) -> None:
    """Raise ValueError for arguments that do not go together."""
    from vidprune.training.outputs import check_beside, check_spared

    if arguments.evaluate_with and arguments.validation is None:
        raise ValueError(
            f"evaluate_with={' '.join(arguments.evaluate_with)!r} needs videos to evaluate on; "
            "add --validation, or leave it out"
        )
    for data, split in ((arguments.data, "train"), (arguments.validation, "test")):
        if data is not None and _is_of_folders(data, split):
            check_beside(arguments.output, data)
    check_spared(arguments.output, [Path(arguments.model)])


def _tell_progress(record: Mapping[str, Any]) -> None:
    """One line of the log, for people."""
    shown = [f"epoch {record.get('epoch', 0):.2f}"]
    for name, words in (("loss", "loss {:.4f}"), ("eval_top1", "top-1 {:.2f} %")):
        if name in record:
            shown.append(words.format(record[name]))
    if len(shown) > 1:
        print("  ".join(shown), file=sys.stderr, flush=True)


def _tell(found: "Training", output: Path) -> None:
    from vidprune.terminal import training_table

    open_console().print(training_table(found))
    name_unreadable(found.unreadable)
    # Reducers are evaluated on the same videos.
    of_validation = (each for report in found.evaluations for each in report.unreadable)
    name_unreadable({each["path"]: each for each in of_validation}.values())
    print(f"model: {output / 'model'}")
