"""Commands that are good, but for what a test adds."""

from pathlib import Path

from vidprune import cli


def call(job: Path, verb: str, *options: str) -> int:
    """The exit status of a good command, but for `options`."""
    command = {
        "predict": ["predict", f"{job}/00.mp4"],
        "evaluate": ["evaluate", "--data", f"{job}/test.csv", "--output", f"{job}/output"],
    }[verb]
    good = ["--model", f"{job}/model", "--reducer", "sta:r=4", "--device", "cpu", "--workers", "0"]
    try:
        return cli.main([*command, *good, *(option.format(job=job) for option in options)])
    except SystemExit as stopped:
        return int(stopped.code)
