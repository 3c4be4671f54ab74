"""What the command line takes: one parser per verb, and the options that verbs share."""

import argparse
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

USAGE = 2

_SPECS = "sta:r=64, random:r=64, ..."
_SOURCES = (
    "Hugging Face id or folder, original .pth or .safetensors (with --arch or --config), name of "
    "an architecture for random weights, or `demo`"
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the status of wrong arguments."""
        self.exit(USAGE, f"vidprune: {message}; see {self.prog} --help\n")


def parser(runs: Mapping[str, Callable[[argparse.Namespace], int]]) -> argparse.ArgumentParser:
    """The whole command line; `runs` is what each verb of `VERBS` does, left in `run`."""
    whole = Parser(
        prog="vidprune",
        description="Video transformers made cheaper to run, without training.",
    )
    whole.add_argument("--version", action="version", version=f"vidprune {version('vidprune')}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, add in VERBS.items():
        verb = add(verbs)
        verb.add_argument(
            "--debug", action="store_true", help="show tracebacks and what libraries say"
        )
        verb.set_defaults(run=runs[name])
    return whole


def _add_predict(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "predict",
        help="the most likely classes of videos",
        description="Classify videos, dense or pruned. Videos that cannot be read are named, the "
        "others go on, and the exit status is 1.",
    )
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder or glob pattern")
    _add_model(verb)
    _add_views(verb)
    verb.add_argument("--top-k", type=int, default=5, metavar="K", help="classes shown (5)")
    verb.add_argument("--json", action="store_true", help="one JSON object per input, in order")
    return verb


def _add_evaluate(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "evaluate",
        help="top-1 and top-5 on labelled videos",
        description="Evaluate a model, dense or pruned. The output folder gets report.json and "
        "views.jsonl (logits of every view); the same command takes up a run that was cut off, "
        "and under torchrun (torchrun -m vidprune evaluate ...) every process does its share.",
    )
    verb.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="list file of `path label` lines, folder with such a test.csv, or folder of folders "
        "named after the classes",
    )
    verb.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the run")
    _add_model(verb)
    _add_views(verb)
    verb.add_argument(
        "--strict", action="store_true", help="stop at the first video that cannot be read"
    )
    verb.add_argument(
        "--restart", action="store_true", help="discard what the output folder holds of a run"
    )
    verb.add_argument("--parquet", action="store_true", help="also write views.parquet")
    verb.add_argument(
        "--tensorboard", action="store_true", help="also write scalars to DIR/tensorboard"
    )
    return verb


def _add_compare(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "compare",
        help="runs of evaluate against each other, video by video",
        description="Compare runs of `evaluate` on the same videos with the first of them: paired "
        "difference in top-1, agreement, divergence, rank correlation, each with its interval, and "
        "the arithmetic of a whole video. Runs may differ in model, reducer, dtype and views.",
    )
    verb.add_argument("reference", type=Path, metavar="RUN", help="folder of the reference")
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of other runs")
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def _add_agreement(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "agreement",
        help="how near pruned predictions are to dense ones, without labels",
        description="Run a model on videos, dense and with each reducer, and say how often they "
        "give the same class, how far probabilities move, and what a view costs. Videos that "
        "cannot be read are named, the others go on, and the exit status is 1.",
    )
    verb.add_argument("videos", nargs="+", metavar="VIDEO", help="file, folder or glob pattern")
    _add_model(verb, several_reducers=True)
    _add_views(verb)
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def _add_costs(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "costs",
        help="multiply-accumulates of a view, dense and pruned",
        description="Count what a forward costs by kind of module, from the shapes alone: no "
        "weights are read and nothing is run.",
    )
    _add_source(verb)
    verb.add_argument(
        "--reducer",
        dest="reducers",
        nargs="+",
        default=["none"],
        metavar="SPEC",
        help=f"none, {_SPECS} (none)",
    )
    _add_clip_shape(verb)
    verb.add_argument("--json", action="store_true", help="one JSON object per reducer")
    return verb


def _add_benchmark(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "benchmark",
        help="what pruning buys on this machine, against the best dense model",
        description="Time models, dense and pruned, in turn on fresh random clips; rivals and "
        "cheaper dense models of equal arithmetic stand beside them. DIR gets benchmark.json, "
        ".csv and .md, and plots. Speeds of different runs do not compare; ratios in one run do.",
    )
    verb.add_argument(
        "--model", dest="models", nargs="+", required=True, metavar="SOURCE", help=_SOURCES
    )
    verb.add_argument("--arch", metavar="NAME", help="architecture of original checkpoints")
    verb.add_argument(
        "--reducer", dest="reducers", nargs="+", default=(), metavar="SPEC", help=_SPECS
    )
    verb.add_argument(
        "--against",
        nargs="+",
        default=(),
        metavar="SPEC",
        help="rivals without r, such as random random:fold=true tome; each is given the r at "
        "which it costs what each --reducer costs",
    )
    verb.add_argument(
        "--no-alternatives",
        action="store_true",
        help="leave out dense models that cost as little: fewer or smaller frames, a smaller model",
    )
    verb.add_argument("--smaller", metavar="SOURCE", help="a smaller dense model to compare with")
    _add_clip_shape(verb)
    _add_runs(verb)
    verb.add_argument("--output", type=Path, metavar="DIR", help="folder of the record and plots")
    verb.add_argument("--json", action="store_true", help="the whole record as JSON")
    return verb


def _add_runs(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("runs", "every combination is timed")
    group.add_argument(
        "--batch-size",
        dest="batch_sizes",
        type=int,
        nargs="+",
        default=[1, 8],
        metavar="N",
        help="(1 8)",
    )
    group.add_argument(
        "--dtype",
        dest="dtypes",
        nargs="+",
        choices=("fp32", "bf16", "fp16"),
        default=["fp32"],
        help="(fp32)",
    )
    group.add_argument(
        "--mode",
        dest="modes",
        nargs="+",
        choices=("eager", "blocks", "graph"),
        default=["eager"],
        help="as it stands, blocks compiled, compiled as one graph (eager)",
    )
    group.add_argument("--repeats", type=int, default=10, metavar="N", help="(10)")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads of a forward")
    group.add_argument("--device", help="cuda, cuda:1, mps or cpu (the best there is)")
    videos = verb.add_argument_group("videos", "also from files to logits, and nearness to dense")
    videos.add_argument(
        "--video", dest="videos", nargs="+", default=(), metavar="VIDEO", help="files, folders"
    )
    videos.add_argument("--protocol", metavar="NAME", help="views, such as k400 (the model's own)")
    videos.add_argument(
        "--workers", type=int, metavar="N", help="decoding processes (one per core)"
    )


def _add_demo(verbs: Any) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        "demo",
        help="see pruning at work on generated clips, without any download",
        description="Write small clips in which the class lies in the motion, evaluate the model "
        "that ships with vidprune dense and pruned, and draw which tokens stayed.",
    )
    verb.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="DIR", help="(demo-output)"
    )
    verb.add_argument(
        "--per-class", type=int, default=40, metavar="N", help="clips of each class (40)"
    )
    return verb


def _add_source(group: Any) -> None:
    group.add_argument(
        "--model",
        required=True,
        metavar="SOURCE",
        help=_SOURCES,
    )
    group.add_argument("--arch", metavar="NAME", help="architecture of an original checkpoint")
    group.add_argument(
        "--config", type=Path, metavar="JSON", help="configuration of an original checkpoint"
    )


def _add_clip_shape(group: Any) -> None:
    group.add_argument("--frames", type=int, metavar="N", help="frames of a clip")
    group.add_argument("--size", type=int, metavar="N", help="pixels of a square")


def _add_model(verb: argparse.ArgumentParser, *, several_reducers: bool = False) -> None:
    group = verb.add_argument_group("model")
    _add_source(group)
    if several_reducers:
        group.add_argument(
            "--reducer", dest="reducers", nargs="+", required=True, metavar="SPEC", help=_SPECS
        )
    else:
        group.add_argument(
            "--reducer", default="none", metavar="SPEC", help=f"none, {_SPECS} (none)"
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
    group.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32", help="(fp32)")
    group.add_argument("--device", help="cuda, cuda:1, mps or cpu (the best there is)")
    group.add_argument("--batch-size", type=int, default=8, metavar="N", help="views at once (8)")
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (one per core)"
    )


def _add_views(verb: argparse.ArgumentParser) -> None:
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
    _add_clip_shape(group)


VERBS: dict[str, Callable[[Any], argparse.ArgumentParser]] = {
    "predict": _add_predict,
    "evaluate": _add_evaluate,
    "compare": _add_compare,
    "agreement": _add_agreement,
    "costs": _add_costs,
    "benchmark": _add_benchmark,
    "demo": _add_demo,
}
