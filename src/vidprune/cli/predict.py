"""`vidprune predict`."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vidprune.cli.classifiers import make_classifier
from vidprune.cli.console import open_console
from vidprune.cli.corpora import add_job, check_no_job, run_job
from vidprune.cli.options import add_model, add_views
from vidprune.cli.statuses import FAILURE

if TYPE_CHECKING:
    from vidprune.report import Prediction


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "predict",
        help="the most likely classes of videos",
        description="Classify videos, dense or pruned. Videos that cannot be read are named, the "
        "others go on, and the exit status is 1.",
    )
    verb.add_argument(
        "videos",
        nargs="+",
        metavar="VIDEO",
        help="file, folder or pattern; with --output also a list, a table or a .tar",
    )
    add_model(verb)
    add_views(verb)
    add_job(verb, required=False)
    verb.add_argument("--top-k", type=int, default=5, metavar="K", help="classes shown (5)")
    verb.add_argument("--json", action="store_true", help="one JSON object per input, in order")
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    if arguments.output is not None:
        from vidprune.corpus.answers import Question

        question = Question(kind="classes", top_k=arguments.top_k, each_view=arguments.each_view)
        return run_job(arguments, question, head=None)
    check_no_job(arguments)
    from vidprune.commands.predict import predict
    from vidprune.video import expand_inputs

    classifier = make_classifier(arguments)
    videos = expand_inputs(arguments.videos)
    found = predict(classifier, videos, top_k=arguments.top_k, workers=arguments.workers)
    if arguments.json:
        # One after the other, so that a long list needs no memory and shows where it is.
        failures = [_print_json(prediction) for prediction in found]
    else:
        from vidprune.terminal import prediction_table

        predictions = list(found)
        open_console().print(prediction_table(predictions))
        failures = [prediction.error is not None for prediction in predictions]
    return FAILURE if any(failures) else 0


def _print_json(prediction: "Prediction") -> bool:
    """Print one line; whether it is an error."""
    row = asdict(prediction)
    del row["error" if prediction.error is None else "top"]
    print(json.dumps(row), flush=True)
    return prediction.error is not None
