"""`vidprune embed`."""

import argparse
from typing import Any

from vidprune.cli.corpora import add_job, run_job
from vidprune.cli.options import add_model, add_views


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "embed",
        help="a vector for each of many videos",
        description="Embed videos by an encoder, dense or pruned (of a classifier what comes "
        "before its head), into Parquet shards. Videos that cannot be read have an error in the "
        "place of a vector, the others go on, and the exit status is 1.",
    )
    verb.add_argument(
        "videos", nargs="+", metavar="INPUT", help="file, folder, pattern, list, table or .tar"
    )
    add_model(verb)
    add_views(verb)
    add_job(verb, required=True)
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status."""
    from vidprune.corpus.answers import Question

    question = Question(kind="embedding", each_view=arguments.each_view)
    return run_job(arguments, question, head=False)
