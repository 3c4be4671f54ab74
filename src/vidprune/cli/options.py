"""Options that several verbs share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidprune.commands.side_by_side import Machine

SPECS = "sta:r=64, random:r=64, ..."
SOURCES = (
    "Hugging Face id or folder, original .pth or .safetensors (with --arch or --config), name of "
    "an architecture for random weights, or `demo`"
)
# As `vidprune.backbones.quantized` and `vidprune.video` have them, which import torch.
QUANTIZE = ("int8", "float8")
DECODERS = ("pyav", "torchcodec")


def named_path(text: str) -> Path:
    """A path that is not empty, as one is where a shell's variable holds nothing."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; name a file or a folder")
    return Path(text)


def named_address(text: str) -> str:
    """A folder or an address that outlives the command."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; name a folder or an address")
    if text.startswith("memory:"):
        raise argparse.ArgumentTypeError(
            f"{text} is gone when the command ends; name a folder or a store"
        )
    return text


def add_source(group: Any) -> None:
    """Where a model comes from."""
    group.add_argument(
        "--model",
        required=True,
        metavar="SOURCE",
        help=SOURCES,
    )
    group.add_argument("--arch", metavar="NAME", help="architecture of an original checkpoint")
    group.add_argument(
        "--config", type=named_path, metavar="JSON", help="configuration of an original checkpoint"
    )


def add_clip_shape(group: Any) -> None:
    """The shape of a clip, where it is not the model's own."""
    group.add_argument("--frames", type=int, metavar="N", help="frames of a clip")
    group.add_argument("--size", type=int, metavar="N", help="pixels of a square")


def add_products(group: Any) -> None:
    """How attention and the products of linear layers are computed."""
    group.add_argument(
        "--attn-implementation",
        metavar="NAME",
        help="sdpa, eager, flash_attention_2, ... as transformers know it (the fastest of torch's)",
    )
    group.add_argument(
        "--onednn",
        action="store_true",
        help="products of float32 on a CPU by oneDNN: much faster on AMD's; last bits differ",
    )
    group.add_argument(
        "--quantize",
        choices=QUANTIZE,
        help="linear layers of blocks in 8 bits, by torchao; float8 on newer GPUs, with bf16",
    )


def add_model(
    verb: argparse.ArgumentParser, *, several_reducers: bool = False, batches: bool = True
) -> None:
    """A model, its reducer or reducers, and how it is run."""
    group = verb.add_argument_group("model")
    add_source(group)
    if several_reducers:
        group.add_argument(
            "--reducer", dest="reducers", nargs="+", required=True, metavar="SPEC", help=SPECS
        )
    else:
        group.add_argument(
            "--reducer",
            metavar="SPEC",
            help=f"none, {SPECS} (what the checkpoint records, or none)",
        )
    group.add_argument(
        "--labels", metavar="SET", help="kinetics400, something_something_v2, or a file of names"
    )
    group.add_argument(
        "--positions",
        choices=("interpolate", "recompute"),
        default="interpolate",
        help="position table at other sizes than the checkpoint's (interpolate)",
    )
    add_products(group)
    if batches:
        group.add_argument(
            "--compile",
            action="store_true",
            help="compile the model as one graph: minutes at first, then faster, on GPUs above all",
        )
        group.add_argument(
            "--replay",
            action="store_true",
            help="record what is launched on CUDA once and replay it: faster for few views at once,"
            " for the memory of a forward that is kept",
        )
        add_decoder(group)
    add_machine(group, batches=batches)


def add_decoder(group: Any) -> None:
    """What reads videos."""
    group.add_argument(
        "--decoder",
        choices=DECODERS,
        default="pyav",
        help="what reads videos; torchcodec has a GPU decode, which is untried so far, and leaves "
        "to PyAV what it would show otherwise (pyav)",
    )


def add_machine(group: Any, *, batches: bool = True, decodes_beside: bool = True) -> None:
    """What a model runs on, and in which precision; `decodes_beside`: while videos are decoded."""
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)")
    group.add_argument("--device", help="cuda, cuda:1, mps or cpu (the best there is)")
    if batches:
        group.add_argument(
            "--batch-size", type=int, default=8, metavar="N", help="views at once (8)"
        )
    add_workers(group, beside_a_model=batches and decodes_beside)


def add_workers(group: Any, *, beside_a_model: bool = True) -> None:
    """How many processes decode; the rule where nobody says is `default_workers`, and stands in
    docs/evaluating.md. Where no model computes in the meantime it is one per core."""
    usual = "one per core"
    if beside_a_model:
        usual += "; none where a model computes on a CPU of up to four"
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes that decode ({usual}); threads where a GPU does",
    )


def machine_of(arguments: argparse.Namespace) -> "Machine":
    """What evaluations run on."""
    from vidprune.commands.side_by_side import Machine
    from vidprune.inference import named_device

    return Machine(
        batch_size=arguments.batch_size,
        device=named_device(arguments.device) if arguments.device else None,
        workers=arguments.workers,
    )


def add_views(verb: argparse.ArgumentParser) -> None:
    """Which views of a video a model is given."""
    group = verb.add_argument_group(
        "views", "a preset, and options that replace its parts; frames and size also fit the model"
    )
    group.add_argument(
        "--protocol",
        metavar="NAME",
        help="k400 (5x3 views), ssv2 (2x3), ucf101, hmdb51, videoswin-k400 (4x3), videoswin-ssv2 "
        "(1x3) or single (what the checkpoint records, else single)",
    )
    group.add_argument(
        "--sampling",
        choices=("dense", "segment", "centred"),
        help="every stride-th frame, one from each equal part of the video, or every stride-th in "
        "the middle of each",
    )
    for name, what in (
        ("segments", "clips along time"),
        ("crops", "squares along the longer side"),
        ("stride", "frames between neighbours of a dense or centred clip"),
    ):
        group.add_argument(f"--{name}", type=int, metavar="N", help=what)
    add_clip_shape(group)


def add_source_pattern(verb: argparse.ArgumentParser) -> None:
    """Which videos belong together."""
    verb.add_argument(
        "--source",
        metavar="REGEX",
        help="finds in a video's name what videos of one source have in common, such as clips of "
        "one film: intervals are then over sources",
    )
