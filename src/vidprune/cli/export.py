"""`vidprune export`."""

import argparse
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import (
    assembly_of,
    check_no_export,
    checkpoint_name,
    tell_random_weights,
)
from vidprune.cli.console import name_unreadable, open_console
from vidprune.cli.ending import ended_in_order
from vidprune.cli.options import add_source, add_views, named_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from vidprune.video import Protocol

# Repeated here, so that help costs no import of torch; a test keeps them alike.
FORMATS = ("onnx", "torch", "aoti")


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "export",
        help="a model, dense or pruned, as a file for ONNX Runtime or for torch alone",
        description="Write a model as an ONNX graph, as an archive of torch.export or as a package "
        "of AOTInductor, with a record of preprocessing, views and classes beside it. What is "
        "written is run and compared with the model before it takes its place.",
    )
    group = verb.add_argument_group("model")
    add_source(group)
    group.add_argument(
        "--reducer",
        metavar="SPEC",
        help="none, sta:r=64, ... (what the checkpoint records, or none)",
    )
    group.add_argument(
        "--labels", metavar="SET", help="kinetics400, something_something_v2, or a file of names"
    )
    group.add_argument(
        "--encoder",
        action="store_true",
        help="without the head: vectors for embed in the place of logits",
    )
    group = verb.add_argument_group("file")
    group.add_argument("--format", choices=FORMATS, required=True)
    group.add_argument(
        "--output",
        type=named_path,
        required=True,
        metavar="FILE",
        help="ends in .onnx, or in .pt2 of torch and aoti; FILE.json is the record",
    )
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)")
    group.add_argument(
        "--quantize",
        choices=("int8",),
        help="of onnx alone, and not torchao's as elsewhere: weights of blocks' linear layers are "
        "kept in 8 bits, which makes the file smaller, not faster",
    )
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="clips at once, always so many (any number)"
    )
    group.add_argument("--opset", type=int, metavar="N", help="of onnx, 18 to 23 (18)")
    group.add_argument(
        "--device", default="cpu", help="that aoti compiles for and torch starts on (cpu)"
    )
    group.add_argument(
        "--video",
        dest="videos",
        nargs="+",
        default=(),
        metavar="VIDEO",
        help="files, folders to compare on (a few that are drawn)",
    )
    add_views(verb)
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.commands.export import Exporting, export
    from vidprune.exporting.onnx import OPSET
    from vidprune.inference import named_device
    from vidprune.prepare import DTYPES
    from vidprune.terminal import export_table
    from vidprune.video import expand_inputs

    if arguments.opset is not None and arguments.format != "onnx":
        raise ValueError(f"--opset is of onnx, not of {arguments.format}; leave it out")
    how = Exporting(
        format=arguments.format,
        dtype=DTYPES[arguments.dtype],
        batch=arguments.batch_size,
        opset=arguments.opset or OPSET,
        quantize=arguments.quantize,
    )
    videos = expand_inputs(arguments.videos) if arguments.videos else ()
    model, protocol = _model(arguments)
    working = open_console(stderr=True).status("tracing, writing and comparing")
    with ended_in_order(), working:
        record = export(
            model.to(named_device(arguments.device)),
            arguments.output,
            how,
            protocol=protocol,
            checkpoint=checkpoint_name(arguments),
            videos=videos,
            command=arguments.command,
        )
    if arguments.json:
        print(record.to_json(), end="")
    else:
        open_console().print(export_table(record, arguments.output))
    name_unreadable(record.unreadable)
    # What was asked for is there.
    return 0


def _model(arguments: argparse.Namespace) -> "tuple[PreTrainedModel, Protocol]":
    """The model in float32, which what is exported is compared with."""
    from dataclasses import replace

    check_no_export(arguments)
    assembly = assembly_of(arguments, head=False if arguments.encoder else None)
    # The verb's own dtype, batch and 8 bits are those of what is written.
    assembly = replace(assembly, dtype="fp32", batch_size=1, quantize=None)
    (model,), protocol = assembly.models([arguments.reducer])
    tell_random_weights(arguments)
    return model, protocol
